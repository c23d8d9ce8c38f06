import dataclasses
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from earsight.corpus.keys import key_of
from earsight.corpus.manifest import read
from earsight.corpus.scan import format_report, scan
from earsight.corpus.split import usable
from earsight.media.types import AudioInfo, Limits, MediaError, MediaInfo, VideoInfo


def fake(path, video=3.0, audio=3.0, frames=None, pad=0):
    """A file that the made-up probe below understands."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = round(video * 16) if frames is None else frames
    text = json.dumps({"video": video, "audio": audio, "frames": frames})
    path.write_text(text + " " * pad)
    return path


class Probe:
    """Reads what ``fake`` wrote, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, path, limits):
        self.asked.append(Path(path).name)
        try:
            facts = json.loads(Path(path).read_text())
        except json.JSONDecodeError as error:
            raise MediaError("is no media file") from error
        length, sound = facts["video"], facts["audio"]
        video = VideoInfo(
            stream=0,
            codec="h264",
            width=64,
            height=64,
            rotation=0,
            fps=16.0,
            frames=facts["frames"],
            start=0.0,
            duration=length,
            pixel_format="yuv420p",
            keyframes=tuple(np.arange(0, length, 1.0)),
        )
        audio = AudioInfo(stream=1, codec="aac", rate=24000, channels=1, start=0.0, duration=sound)
        return MediaInfo(
            duration=max(length, sound),
            video=video if length else None,
            audio=audio if sound else None,
        )


@pytest.fixture
def run(tmp_path):
    """Scan ``tmp_path/videos`` in this process; returns the report, the corpus, what was read."""
    (tmp_path / "videos").mkdir()

    def run(sources=None, **settings):
        probe = Probe()
        sources = [str(tmp_path / "videos")] if sources is None else sources
        output = tmp_path / "corpus.parquet"
        report = scan(sources, output, workers=0, probe=probe, **settings)
        return report, read(output), probe.asked

    return run


@pytest.fixture
def videos(tmp_path):
    return tmp_path / "videos"


def column(corpus, name):
    return corpus.column(name).tolist()


def test_every_status_with_its_reason(run, videos):
    fake(videos / "a-ok.mp4")
    fake(videos / "b-no-audio.mp4", audio=0)
    fake(videos / "c-no-video.mp4", video=0)
    fake(videos / "d-still.mp4", video=0.04, frames=1)
    fake(videos / "e-too-short.mp4", video=0.5)
    (videos / "f-unreadable.mp4").write_text("text")
    (videos / "g-unreadable.mp4").write_bytes(b"")
    report, corpus, _ = run()
    assert [path[2:-4] for path in column(corpus, "path")] == column(corpus, "status")
    assert report.statuses == {
        "ok": 1,
        "no-audio": 1,
        "no-video": 1,
        "still": 1,
        "too-short": 1,
        "unreadable": 2,
    }
    reason = column(corpus, "reason")
    assert reason[0] == ""
    assert reason[5:] == ["is no media file", "is empty: it has no bytes"]
    assert all(reason[1:])
    assert {r.reason for r in report.reasons} == set(reason[1:])
    assert corpus.roots == {"#1": str(videos)}
    assert corpus.absolute(0) == str(videos / "a-ok.mp4")
    assert report.hours == pytest.approx(3 / 3600)


def test_long_files_are_cut_and_the_facts_are_enough_to_cut_again(run, videos):
    fake(videos / "a.mp4", video=26, audio=26)
    fake(videos / "b.mp4", video=20, audio=20)
    _, whole, asked = run()
    assert asked == ["a.mp4", "b.mp4"]
    assert column(whole, "key") == [key_of("a.mp4"), key_of("b.mp4")]
    report, cut, asked = run(segment=10.0)
    assert asked == []
    assert report.reused == 2
    assert column(cut, "path") == ["a.mp4"] * 3 + ["b.mp4"]
    assert column(cut, "end") == [10, 20, 26, 20]
    assert column(cut, "group") == ["a.mp4"] * 3 + ["b.mp4"]
    spans = [("a.mp4", 0, 10), ("a.mp4", 10, 20), ("a.mp4", 20, 30), ("b.mp4",)]
    assert column(cut, "key") == [key_of(*span) for span in spans]
    assert [len(times) for times in cut.table["keyframes"].to_pylist()] == [10, 10, 6, 20]
    _, again, asked = run()
    assert asked == []
    assert again.table.equals(whole.table)


def test_a_segment_without_sound_is_no_audio(run, videos):
    fake(videos / "a.mp4", video=30, audio=10)
    _, corpus, _ = run(segment=10.0)
    assert column(corpus, "status") == ["ok", "no-audio", "no-audio"]


def test_a_second_scan_reads_only_what_changed_and_keys_never_move(run, videos):
    for name in "abcd":
        fake(videos / f"{name}.mp4")
    report, first, asked = run()
    assert sorted(asked) == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    assert (report.new, report.reused, report.changed, report.gone) == (4, 0, 0, 0)
    report, second, asked = run()
    assert asked == []
    assert second.table.equals(first.table)
    os.utime(videos / "b.mp4", ns=(1, 1))
    fake(videos / "c.mp4", video=9)
    (videos / "d.mp4").unlink()
    fake(videos / "0.mp4", video=2)
    report, third, asked = run()
    assert sorted(asked) == ["0.mp4", "b.mp4", "c.mp4"]
    assert (report.new, report.reused, report.changed, report.gone) == (1, 1, 2, 1)
    keys = dict(zip(column(first, "path"), column(first, "key"), strict=True))
    for path, key in zip(column(third, "path"), column(third, "key"), strict=True):
        assert keys.get(path, key) == key
    assert column(third, "video_duration") == [2, 3, 3, 9]


def test_a_moved_root_is_scanned_without_reading(run, videos, tmp_path):
    fake(videos / "a.mp4")
    run()
    videos.rename(tmp_path / "elsewhere")
    report, corpus, asked = run([str(tmp_path / "elsewhere")])
    assert asked == []
    assert report.reused == 1
    assert corpus.absolute(0) == str(tmp_path / "elsewhere/a.mp4")


def test_sources_in_another_order_keep_their_files(run, tmp_path):
    one, two = fake(tmp_path / "x/a.mp4"), fake(tmp_path / "y/b.mp4")
    for order in ([one.parent, two.parent], [two.parent, one.parent]):
        _, corpus, asked = run([str(folder) for folder in order])
        assert corpus.absolutes() == [str(one), str(two)]
    assert asked == []


def test_other_limits_give_unreadable_files_another_chance(run, videos):
    fake(videos / "a.mp4")
    (videos / "b.mp4").write_text("text")
    run()
    assert run()[2] == []
    assert run(limits=Limits(seconds=3.0))[2] == ["b.mp4"]


def test_exact_copies_point_to_the_first_and_share_its_group(run, videos):
    fake(videos / "b.mp4", video=25, audio=25)
    fake(videos / "a.mp4", video=25, audio=25)
    fake(videos / "c.mp4", video=24, audio=25)  # the same size, other content
    fake(videos / "d.mp4", video=3, audio=3)  # a size of its own: never hashed
    for name in ("e", "f"):
        (videos / f"{name}.mp4").write_text("equally unreadable")
    report, corpus, _ = run(segment=10.0)
    assert len({(videos / f"{name}.mp4").stat().st_size for name in "abc"}) == 1
    assert report.duplicates == 3
    of = dict(zip(column(corpus, "key"), column(corpus, "path"), strict=True))
    copies = corpus.table["duplicate_of"].to_pylist()
    assert [of.get(key) for key in copies] == [None] * 3 + ["a.mp4"] * 3 + [None] * 6
    assert copies[3:6] == column(corpus, "key")[:3]
    assert column(corpus, "group")[3:6] == ["a.mp4"] * 3
    assert usable(corpus).left_out == {"duplicate": 3, "unreadable": 2}
    assert corpus.table["content"].null_count == 3
    fake(videos / "a.mp4", video=24.5, audio=25)
    report, corpus, _ = run(segment=10.0)
    assert report.duplicates == 0
    assert column(corpus, "group")[3] == "b.mp4"


def write_labels(tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return path


def test_labels_splits_and_groups(run, videos, tmp_path):
    for name in "abc":
        fake(videos / f"{name}.mp4", video=25, audio=25, pad=ord(name))
    labels = write_labels(tmp_path, "path,who,split\na.mp4,Ann,train\nb,Bea,test\nz.mp4,Zoe,\n")
    report, corpus, _ = run(labels=labels, group_by="who", segment=10.0)
    assert corpus.label_names == ("who",)
    assert corpus.labels("who").tolist() == ["Ann"] * 3 + ["Bea"] * 3 + [None] * 3
    assert column(corpus, "split") == ["train"] * 3 + ["test"] * 3 + [None] * 3
    assert column(corpus, "group") == ["Ann"] * 3 + ["Bea"] * 3 + ["c.mp4"] * 3
    assert report.unmatched == ["z.mp4"]
    assert (report.unlabelled, report.unlabelled_example) == (1, "c.mp4")
    assert corpus.settings.group_by == "who"
    with pytest.raises(ValueError, match=r"has labels \(who\), which this scan would lose"):
        run()


def test_labels_by_key(run, videos, tmp_path):
    fake(videos / "a.mp4", video=25, audio=25)
    labels = write_labels(tmp_path, f"key,x\n{key_of('a.mp4', 10, 20):016x},middle\n")
    report, corpus, _ = run(labels=labels, segment=10.0)
    assert corpus.labels("x").tolist() == [None, "middle", None]
    assert report.unmatched == []


def test_labels_that_fit_nothing_stop_the_scan_before_it_reads(videos, tmp_path):
    fake(videos / "a.mp4")
    labels = write_labels(tmp_path, "path,x\nvideos/a.mp4,1\n")
    probe = Probe()
    with pytest.raises(ValueError, match="no label matches"):
        scan([str(videos)], tmp_path / "c.parquet", labels=labels, workers=0, probe=probe)
    assert probe.asked == []
    assert not (tmp_path / "c.parquet").exists()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"segment": 0.5}, "shorter than the minimum duration"),
        ({"segment": 0.0, "min_duration": 0.0}, "shorter than"),
        ({"segment": float("nan")}, "shorter than"),
        ({"min_duration": -1.0}, "0 or more seconds"),
        ({"min_duration": float("nan")}, "0 or more seconds"),
        ({"group_by": "who"}, "needs labels"),
    ],
)
def test_settings_that_cannot_be(run, videos, settings, says):
    fake(videos / "a.mp4")
    with pytest.raises(ValueError, match=says):
        run(**settings)


def test_group_by_an_unknown_column(run, videos, tmp_path):
    fake(videos / "a.mp4")
    labels = write_labels(tmp_path, "path,x\na,1\n")
    with pytest.raises(ValueError, match="no column 'who' to group by; it has x"):
        run(labels=labels, group_by="who")


def test_outputs_that_cannot_be(videos, tmp_path):
    file = fake(videos / "a.mp4")
    before = file.read_bytes()
    for output in (videos, tmp_path / "nowhere/c.parquet"):
        with pytest.raises(ValueError, match="a folder that exists"):
            scan([str(videos)], output, workers=0, probe=Probe())
    with pytest.raises(ValueError, match="no corpus"):
        scan([str(videos)], file, workers=0, probe=Probe())
    assert file.read_bytes() == before


def test_an_empty_folder(videos, run):
    with pytest.raises(ValueError, match="no media files found"):
        run()


def test_a_deep_scan_decodes_each_file_once(run, videos, tmp_path):
    for name in "ab":
        fake(videos / f"{name}.mp4")
    (videos / "c.mp4").write_text("text")
    run()
    decoded, allowed = [], []

    def verify(path, limits):
        decoded.append(Path(path).name)
        allowed.append(limits.seconds)
        if path.endswith("b.mp4"):
            raise MediaError("frame 7 is damaged")

    report, corpus, asked = run(deep=True, verify=verify)
    assert asked == []
    assert decoded == ["a.mp4", "b.mp4"]
    assert allowed == [30 + 2 * 3.0] * 2  # what a probe may take, and twice the file's length
    assert report.verified == 2
    assert column(corpus, "status") == ["ok", "unreadable", "unreadable"]
    assert column(corpus, "reason")[1] == "frame 7 is damaged"
    report, again, _ = run(deep=True, verify=verify)
    assert len(decoded) == 2
    assert again.table.equals(corpus.table)
    assert run()[1].table.equals(corpus.table)


def test_progress_counts_up(run, videos):
    for name in "abc":
        fake(videos / f"{name}.mp4")
    told = []
    run(progress=lambda *step: told.append(step), deep=True, verify=lambda path, limits: None)
    assert told == [
        *(("reading", n, 3) for n in (1, 2, 3)),
        *(("comparing", n, 3) for n in (1, 2, 3)),
        *(("decoding", n, 3) for n in (1, 2, 3)),
    ]


def test_report_as_text(run, videos, tmp_path):
    fake(videos / "a.mp4")
    fake(videos / "b.mp4", audio=0)
    (videos / "loop").symlink_to(videos)
    labels = write_labels(tmp_path, "path,x\na,1\nz,2\n")
    report, _, _ = run(labels=labels)
    text = format_report(report)
    lines = [line.split() for line in text.splitlines()]
    assert ["ok", "1"] in lines
    assert ["no-audio", "1"] in lines
    assert ["1", "no-audio", "has", "no", "sound", "b.mp4"] in lines
    assert "1 labels match nothing:\n  z" in text
    assert "loop: leads to a folder that is scanned already" in text
    assert "2 files, 2 instances, 1 ok" in text
    assert "1 files have none, such as b.mp4" in text


def test_the_report_counts_files_of_other_kinds(run, videos):
    fake(videos / "a.mp4")
    for name in ("1.txt", "2.txt", "notes", *(f"x.{n:02d}" for n in range(12))):
        (videos / name).write_text("no media")
    report, _, _ = run()
    assert report.other == {".txt": 2, "": 1} | {f".{n:02d}": 1 for n in range(8)} | {"others": 4}
    line = "15 files of other kinds passed over: .txt 2, no extension 1, .00 1, "
    assert line in format_report(report)
    assert json.loads(json.dumps(dataclasses.asdict(report)))["other"] == report.other


def test_the_report_names_files_that_are_cut_short(videos, tmp_path):
    for name in "ab":
        fake(videos / f"{name}.mkv", video=25, audio=25, pad=ord(name))

    def probe(path, limits):
        notes = ("stream 0 chosen of 2 video streams", "is cut short: its header says 60.0 s")
        return dataclasses.replace(Probe()(path, limits), notes=notes[: 1 + ("a.mkv" in path)])

    settings = {"workers": 0, "probe": probe, "segment": 10.0}
    report = scan([str(videos)], tmp_path / "c.parquet", **settings)
    assert report.cut_short == [("a.mkv", "its header says 60.0 s")]
    told = "1 are cut short, and used as far as they go:\n  a.mkv: its header says 60.0 s"
    assert told in format_report(report)
    again = scan([str(videos)], tmp_path / "c.parquet", **settings)
    assert (again.reused, again.cut_short) == (2, report.cut_short)


def test_the_report_names_unknown_splits_and_files_without_one(run, videos, tmp_path):
    for name in "abcd":
        fake(videos / f"{name}.mp4")
    lines = "a.mp4,train\nb.mp4,Validate\nc.mp4,Test\n"
    report, _, _ = run(labels=write_labels(tmp_path, f"path,split\n{lines}"))
    assert report.unknown_splits == {"Validate": 1}
    text = format_report(report)
    assert "splits that neither train nor are held out: Validate (1)" in text
    assert "labels: no columns; 1 files have none, such as d.mp4" in text


def test_names_cannot_play_with_the_terminal(run, videos):
    (videos / ("\x1b[31m\n" + "l" * 200 + ".mp4")).write_text("text")
    report, _, _ = run()
    text = format_report(report)
    assert "\x1b" not in text
    assert r"\x1b[31m\n" + "l" * 30 + "…" in text
    assert max(map(len, text.splitlines())) < 150


MODULE = """
import os, time
from earsight.media.types import MediaInfo

def probe(path, limits):
    name = os.path.basename(path)
    if name.startswith("hang"):
        time.sleep(60)
    if name.startswith("crash"):
        os._exit(9)
    return MediaInfo(duration=1.0, video=None, audio=None)
"""


def test_files_that_hang_or_crash_their_reader_are_named(videos, tmp_path, monkeypatch):
    (tmp_path / "module_of_probe.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import module_of_probe

    for name in ("a", "crash", "hang", "z"):
        fake(videos / f"{name}.mp4", pad=len(name))
    output = tmp_path / "corpus.parquet"
    began = time.monotonic()
    report = scan(
        [str(videos)], output, workers=2, probe=module_of_probe.probe, limits=Limits(seconds=0.5)
    )
    assert time.monotonic() - began < 20
    corpus = read(output)
    assert column(corpus, "status") == ["no-video", "unreadable", "unreadable", "no-video"]
    assert column(corpus, "reason")[1] == "crashed its reader (exit code 9)"
    assert column(corpus, "reason")[2].startswith("timed out")
    assert report.statuses["unreadable"] == 2
    # Neither says anything about the bytes, so a later scan tries again.
    probe = Probe()
    scan([str(videos)], output, workers=0, probe=probe, limits=Limits(seconds=0.5))
    assert sorted(probe.asked) == ["crash.mp4", "hang.mp4"]


def test_a_file_that_took_too_long_is_tried_again(videos, tmp_path):
    fake(videos / "a.mp4")
    output = tmp_path / "corpus.parquet"

    def slow(path, limits):
        raise MediaError("takes longer to read than the limit of 30 s", passing=True)

    report = scan([str(videos)], output, workers=0, probe=slow)
    assert report.statuses == {"unreadable": 1}
    probe = Probe()
    report = scan([str(videos)], output, workers=0, probe=probe, deep=True, verify=slow)
    assert (probe.asked, report.statuses) == (["a.mp4"], {"unreadable": 1})
    report = scan([str(videos)], output, workers=0, probe=probe)
    assert (probe.asked, report.statuses) == (["a.mp4"] * 2, {"ok": 1})


def test_files_without_permission_are_named_and_tried_again(videos, tmp_path):
    """As another user where the tests run as root, who may read everything."""
    fake(videos / "a.mp4")
    fake(videos / "closed.mp4").chmod(0)
    output = tmp_path / "out" / "corpus.parquet"
    output.parent.mkdir()
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == tmp_path.owner() and folder.stat().st_mode & 0o077 == 0:
            folder.chmod(0o711)
    videos.chmod(0o755)
    output.parent.chmod(0o777)
    code = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from earsight.corpus.scan import scan
        from earsight.media.types import MediaInfo
        if os.geteuid() == 0:
            os.setuid(65534)
        nothing = MediaInfo(duration=1.0, video=None, audio=None)
        scan([sys.argv[1]], Path(sys.argv[2]), workers=0, probe=lambda path, limits: nothing)
        """
    )
    subprocess.run([sys.executable, "-c", code, str(videos), str(output)], check=True)
    corpus = read(output)
    assert column(corpus, "status") == ["no-video", "unreadable"]
    assert column(corpus, "reason")[1] == "cannot be opened: permission denied"
    (videos / "closed.mp4").chmod(0o644)
    probe = Probe()
    scan([str(videos)], output, workers=0, probe=probe)
    assert probe.asked == ["closed.mp4"]
