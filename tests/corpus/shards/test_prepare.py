"""Shards hold what the corpus holds: keys, labels, splits, times, pictures and sound."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from earsight import api, presets
from earsight.cli.corpora import Prepare
from earsight.corpus.instances import instances, missing_files
from earsight.corpus.keys import key_text
from earsight.corpus.manifest import read, write
from earsight.corpus.shards.prepare import prepare
from earsight.corpus.split import assign, usable
from earsight.media.decode import decode
from earsight.media.members import parse_member
from earsight.media.probe import probe
from earsight.media.types import AudioRequest, ClipRequest, Coding, MediaError, VideoRequest
from earsight.training.setup import open_data

QUICK = Coding(preset="ultrafast", crf=18, short_side=96, rate=16000)
SECONDS = 12.0
"""Those of the shards that the tests share."""


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_folder_holds_shards_their_contents_and_a_manifest(shards):
    numbers = [f"{number:05d}" for number in range(shards.report.shards)]
    assert shards.report.shards > 2
    expected = {f"{n}.{ending}" for n in numbers for ending in ("tar", "json")}
    assert set(files(shards.folder)) == expected | {"corpus.parquet", "shards.json"}


def test_what_is_not_told_by_the_clips_is_as_before(shards, manifest):
    before, after = read(manifest), shards.corpus
    for name in ("key", "group", "status", "split", "label:material", "mtime_ns", "reason"):
        assert after.table.column(name).equals(before.table.column(name)), name
    assert after.table.column("source").equals(before.table.column("path"))
    assert after.prepared == QUICK
    assert after.settings == before.settings
    for task in ("audio-visual", "video", "audio"):
        ours, theirs = (usable(one, task=task) for one in (after, before))
        assert np.array_equal(ours.mask, theirs.mask)
        assert ours.left_out == theirs.left_out
        split, other = (assign(c, 0.2, 0, u.mask) for c, u in ((after, ours), (before, theirs)))
        assert np.array_equal(split.train, other.train)
        assert np.array_equal(split.held_out, other.held_out)


def test_the_manifest_tells_what_a_probe_finds(shards):
    found = instances(shards.corpus, usable(shards.corpus).mask)
    assert len(found) == shards.report.clips
    assert not missing_files(found)
    for at, path in enumerate(found.path):
        info = probe(path)
        assert (info.video.width, info.video.height) == (found.width[at], found.height[at])
        assert (info.video.stream, info.audio.stream) == (
            found.video_stream[at],
            found.audio_stream[at],
        )
        assert (info.video.codec, info.audio.codec, info.audio.rate) == ("h264", "flac", 16000)
        assert info.video.start == pytest.approx(found.video_start[at], abs=1e-3)
        assert info.audio.start == pytest.approx(found.audio_start[at], abs=1e-3)
        assert found.start[at] == 0
        assert info.duration == pytest.approx(found.end[at], abs=0.07)


def test_clips_are_those_of_the_files(shards, manifest):
    before = read(manifest)
    theirs = instances(before, usable(before).mask)
    ours = instances(shards.corpus, usable(shards.corpus).mask)
    assert np.array_equal(ours.key, theirs.key)
    for at in range(len(ours)):
        clips = [
            decode(
                ClipRequest(
                    path=one.path[at],
                    video=(VideoRequest(start=0.5, fps=8, frames=4, size=(80, 80)),),
                    audio=(AudioRequest(start=0.4, duration=1.0, rate=16000),),
                )
            )
            for one in (ours, theirs)
        ]
        error = np.mean((clips[0].video[0].astype(float) - clips[1].video[0]) ** 2)
        assert 10 * np.log10(255**2 / error) > 32
        np.testing.assert_allclose(clips[0].audio[0], clips[1].audio[0], atol=1e-4)


def test_a_copy_lies_where_its_original_does(shards):
    table = shards.corpus.table.to_pylist()
    (copy,) = [row for row in table if row["duplicate_of"] is not None]
    (original,) = [row for row in table if row["key"] == copy["duplicate_of"]]
    for name in ("path", "offset", "length", "checksum", "width", "end", "keyframes"):
        assert copy[name] == original[name]


def test_the_index_names_the_bytes_of_each_clip(shards):
    for row in shards.corpus.table.to_pylist():
        if row["offset"] is None:
            continue
        archive, name = row["path"].split("/")
        with tarfile.open(shards.folder / archive) as tar:
            content = tar.extractfile(name).read()
        assert zlib.crc32(content) == row["checksum"]
        whole = (shards.folder / archive).read_bytes()
        assert whole[row["offset"] : row["offset"] + row["length"]] == content


def test_the_report_counts(shards, manifest):
    report = shards.report
    assert report.left_out == 2  # a copy, and a file that the scan could not read
    assert report.failed == []
    assert report.reused == 0
    assert report.bytes == sum(p.stat().st_size for p in shards.folder.glob("*.tar"))
    text = str(report)
    assert f"{report.clips} clips" in text
    assert "2 instances left out" in text
    assert json.loads(json.dumps(report.as_dict()))["shards"] == report.shards


def test_what_cannot_be_prepared_is_named_and_keeps_its_row(films, manifest, tmp_path):
    moved = tmp_path / "films"
    shutil.copytree(films, moved)
    api.scan([str(moved)], tmp_path / "c.parquet", labels=moved / "labels.csv", workers=0)
    bad = sorted(moved.glob("train/0*.mp4"))[1]
    size = bad.stat().st_size
    bad.write_bytes(bytes(size))
    report = prepare(
        tmp_path / "c.parquet", tmp_path / "s", coding=QUICK, shard_seconds=SECONDS, workers=2
    )
    (failed,) = report.failed
    assert failed.path == f"train/{bad.name}"
    assert "only zeros" in failed.reason
    assert f"{failed.path}: {failed.reason}" in str(report)
    before, after = read(tmp_path / "c.parquet"), read(tmp_path / "s")
    assert np.array_equal(usable(before).mask, usable(after).mask)
    row = after.table.column("path").to_pylist().index(failed.path)
    assert after.table.column("reason")[row].as_py().startswith("could not be prepared: it holds")
    with pytest.raises(MediaError, match="does not exist"):
        decode(ClipRequest(path=after.absolute(row)))
    assert len(missing_files(instances(after, usable(after).mask))) == 1


def scanned(films, tmp_path):
    moved = shutil.copytree(films, tmp_path / "films")
    api.scan([str(moved)], tmp_path / "c.parquet", labels=moved / "labels.csv", workers=0)
    return moved, tmp_path / "c.parquet"


def test_a_file_that_has_changed_since_the_scan_is_named_and_not_cut_by_its_old_times(
    films, tmp_path, small
):
    moved, place = scanned(films, tmp_path)
    options = {"coding": QUICK, "shard_seconds": SECONDS, "workers": 0}
    one, other, *_ = sorted(moved.glob("train/0*.mp4"))[1:]
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    report = prepare(place, tmp_path / "s", **options)
    (failed,) = report.failed
    assert failed.path == f"train/{one.name}"
    assert failed.reason == "has changed since the scan; scan again"
    config = api.configure("tiny", settings=[*small, f"data.corpus={place}"])
    with pytest.raises(ValueError, match=f"1 of .* files have changed .*{one.name}; scan again"):
        open_data(config)
    one.write_bytes(kept)
    again = prepare(place, tmp_path / "s", **options)
    assert (again.failed, again.reused) == ([], again.shards - 1)


def test_what_fails_for_a_reason_that_passes_is_tried_again(films, tmp_path, small):
    moved, place = scanned(films, tmp_path)
    options = {"coding": QUICK, "shard_seconds": SECONDS, "workers": 0}
    moved.rename(tmp_path / "away")
    report = prepare(place, tmp_path / "s", **options)
    assert report.clips == 0
    assert all("does not exist" in failed.reason for failed in report.failed)
    assert "20 of them may pass: the same command tries them again" in str(report)
    assert "there is no clip to train on" in str(report)
    config = api.configure("tiny", settings=[*small, f"data.corpus={tmp_path / 's'}"])
    with pytest.raises(ValueError, match=r"could not be prepared, such as that of train/\d"):
        open_data(config)
    assert Prepare(corpus=place, output=tmp_path / "other").run() == 1
    (tmp_path / "away").rename(moved)
    again = prepare(place, tmp_path / "s", **options)
    assert (again.clips, again.reused, again.failed) == (20, 0, [])
    assert prepare(place, tmp_path / "s", **options).reused == again.shards


def test_segments_are_clips_of_their_own(films, tmp_path):
    api.scan([str(films)], tmp_path / "c.parquet", segment="0.5s", min_duration=0.2, workers=0)
    report = prepare(tmp_path / "c.parquet", tmp_path / "s", coding=QUICK, workers=0)
    corpus = read(tmp_path / "s")
    found = instances(corpus, usable(corpus).mask)
    assert report.clips == len(found) > 30
    assert len(set(found.path)) == len(found)
    assert (found.start == 0).all()
    assert (found.end < 0.75).all()
    assert (found.end >= 0.25).all()


def test_a_second_call_makes_nothing_anew(shards, manifest, tmp_path):
    folder = tmp_path / "s"
    shutil.copytree(shards.folder, folder)
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
    report = prepare(manifest, folder, coding=QUICK, shard_seconds=SECONDS, workers=0)
    assert report.reused == report.shards
    assert "were there already" in str(report)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert files(folder) == files(shards.folder)


@pytest.mark.parametrize("damage", ["gone", "short", "unfinished", "contents"])
def test_a_shard_that_is_not_whole_is_made_again(shards, manifest, tmp_path, damage):
    folder = tmp_path / "s"
    shutil.copytree(shards.folder, folder)
    if damage == "gone":
        (folder / "00001.tar").unlink()
    elif damage == "short":
        os.truncate(folder / "00001.tar", 1000)
    elif damage == "unfinished":
        (folder / "00001.json").unlink()
        (folder / "corpus.parquet").unlink()
    else:
        (folder / "00001.json").write_text("{")
    report = prepare(manifest, folder, coding=QUICK, shard_seconds=SECONDS, workers=0)
    assert report.reused == report.shards - 1
    assert files(folder) == files(shards.folder)


def test_the_processes_do_not_change_a_byte(shards, manifest, tmp_path):
    prepare(manifest, tmp_path / "s", coding=QUICK, shard_seconds=SECONDS, workers=2)
    assert files(tmp_path / "s") == files(shards.folder)


SCRIPT = """
import sys
from pathlib import Path
from earsight.corpus.shards.prepare import prepare
from earsight.media.types import Coding

if __name__ == "__main__":
    coding = Coding(preset="ultrafast", crf=18, short_side=96, rate=16000)
    prepare(sys.argv[1], Path(sys.argv[2]), coding=coding, shard_seconds=12.0, workers=0)
"""


def test_what_is_killed_goes_on_and_ends_with_the_same_bytes(shards, manifest, tmp_path):
    script, folder = tmp_path / "script.py", tmp_path / "s"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(manifest), str(folder)]
    process = subprocess.Popen(command)
    until = time.monotonic() + 60
    while not (folder / "00000.json").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "corpus.parquet").exists()
    with pytest.raises(ValueError, match="no such corpus"):
        read(folder)
    left = list(folder.glob(".*.tmp"))
    report = prepare(manifest, folder, coding=QUICK, shard_seconds=SECONDS, workers=0)
    assert 0 < report.reused < report.shards
    for path in left:
        path.unlink(missing_ok=True)
    assert files(folder) == files(shards.folder)


def test_a_folder_of_other_settings_is_refused(shards, manifest, tmp_path):
    folder = tmp_path / "s"
    shutil.copytree(shards.folder, folder)
    with pytest.raises(ValueError, match=r"begun with fps=16\.0, rate=16000.*new folder"):
        prepare(manifest, folder, coding=replace(QUICK, fps=8, rate=8000), shard_seconds=SECONDS)
    with pytest.raises(ValueError, match=r"begun with shard_seconds=12"):
        prepare(manifest, folder, coding=QUICK)


def test_a_folder_of_another_corpus_is_refused(shards, manifest, tmp_path):
    folder, other = tmp_path / "s", tmp_path / "other.parquet"
    shutil.copytree(shards.folder, folder)
    corpus = read(manifest)
    write(corpus.select(np.arange(len(corpus)) > 0), other)
    with pytest.raises(ValueError, match="made of another corpus"):
        prepare(other, folder, coding=QUICK, shard_seconds=SECONDS)


@pytest.mark.parametrize("content", [b'{"sch', b"[]", b'{"coding": 3}', b"\xff\xfe"])
def test_a_damaged_file_of_what_shards_are_of_is_named(shards, manifest, tmp_path, content):
    folder = shutil.copytree(shards.folder, tmp_path / "s")
    (folder / "shards.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"s/shards\.json: is damaged; copy it from .* new folder"):
        prepare(manifest, folder, coding=QUICK, shard_seconds=SECONDS, workers=0)


def test_a_folder_of_something_else_is_refused(manifest, tmp_path):
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(ValueError, match="something else"):
        prepare(manifest, tmp_path, coding=QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def test_faults_are_told_all_at_once(manifest, tmp_path):
    coding = replace(QUICK, fps=0, rate=10, short_side=97)
    with pytest.raises(ValueError, match=r"short_side.*fps.*rate") as told:
        prepare(manifest, tmp_path / "s", coding=coding)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "s").exists()


def test_shards_are_not_prepared_again(shards, tmp_path):
    with pytest.raises(ValueError, match="prepared already"):
        prepare(shards.folder, tmp_path / "s", coding=QUICK)


def test_a_scan_does_not_write_over_the_manifest_of_shards(shards, films):
    with pytest.raises(ValueError, match="prepared shards"):
        api.scan([str(films)], shards.folder / "corpus.parquet", workers=0)


def test_shards_may_be_moved(shards, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(shards.folder, moved)
    corpus = read(moved)
    path = corpus.absolutes()[int(np.flatnonzero(usable(corpus).mask)[0])]
    assert Path(parse_member(path).archive) == (moved / parse_member(path).archive).resolve()
    assert parse_member(path).archive.startswith(str(moved.resolve()))


def test_the_command_tells_what_it_made(manifest, tmp_path):
    command = [
        sys.executable,
        "-m",
        "earsight",
        "prepare",
        str(manifest),
        "-o",
        str(tmp_path / "s"),
    ]
    options = ["--fps", "8", "--rate", "16000", "--short-side", "64", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["shards"] == 1
    assert report["clips"] == 20
    coding = read(tmp_path / "s").prepared
    assert (coding.fps, coding.rate, coding.short_side) == (8, 16000, 64)


def test_a_preset_says_what_its_model_hears(manifest, tmp_path):
    api.prepare(manifest, tmp_path / "s", preset="tiny", fps=5, short_side=64, workers=0)
    coding = read(tmp_path / "s").prepared
    assert (coding.fps, coding.rate, coding.short_side) == (5, 8000, 64)


def test_a_preset_that_takes_few_frames_still_finds_them_at_their_times(manifest, tmp_path):
    assert presets.load("tiny")["video"]["fps"] == 1
    api.prepare(manifest, tmp_path / "s", preset="tiny", short_side=64, workers=0)
    assert read(tmp_path / "s").prepared.fps == 16


def test_samples_can_be_told_by_their_archive_alone(shards, manifest):
    before = {key_text(row["key"]): row for row in read(manifest).table.to_pylist()}
    seen = []
    for archive in sorted(shards.folder.glob("*.tar")):
        with tarfile.open(archive) as tar:
            names = tar.getnames()
            assert names[::2] == [name.replace("json", "mp4") for name in names[1::2]]
            for name in names[1::2]:
                about = json.loads(tar.extractfile(name).read())
                row = before[about["key"]]
                assert name == f"{about['key']}.json"
                assert about["path"] == row["path"]
                assert about["split"] == row["split"]
                assert about["labels"]["material"] == row["label:material"]
                seen.append(about["key"])
    assert len(seen) == len(set(seen)) == shards.report.clips
