"""The scan of real files; the media are beside the repository and may be missing."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from earsight.corpus.instances import instances
from earsight.corpus.manifest import read
from earsight.corpus.scan import scan
from earsight.corpus.split import assign, usable

DATA = Path(__file__).parents[2] / "../shared/data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")

STATUS = {
    "action_demo.mp4": "no-audio",
    "audioset_sample.mp4": "ok",
    "dog.mp4": "no-audio",
    "flipping_a_pancake.mkv": "ok",
    "h265_video.mp4": "no-audio",
    "loader_340x256.mp4": "ok",
    "music_1.mp4": "still",
    "music_2.mp4": "still",
    "music_3.mp4": "still",
    "nasa_13013.mp4": "ok",
    "nasa_13013_rotated.mp4": "no-audio",
    "vggsound_sample.mp4": "ok",
}


def wave(path, seconds=2, rate=8000):
    """A sound file written through FFmpeg."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        samples = (np.sin(np.arange(seconds * rate) * 0.3) * 9000).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def test_every_real_video_gets_the_right_status(tmp_path):
    output = tmp_path / "corpus.parquet"
    report = scan([str(DATA / "real-videos")], output, workers=0)
    corpus = read(output)
    got = dict(zip(corpus.column("path"), corpus.column("status"), strict=True))
    assert got == STATUS
    assert report.reused == 0
    assert scan([str(DATA / "real-videos")], output, workers=0).reused == len(STATUS)


def test_hostile_files_are_named_and_the_others_kept(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    good = DATA / "real-videos/audioset_sample.mp4"
    shutil.copy(good, folder / "good.mp4")
    shutil.copy(good, folder / "日本語 copy.mp4")
    (folder / "truncated.mp4").write_bytes(good.read_bytes()[:5000])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("This is a text, and nothing but a text.\n" * 50)
    (folder / "playlist.mp4").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{good.resolve()}\n#EXT-X-ENDLIST\n"
    )
    wave(folder / "sound.wav")
    output = tmp_path / "corpus.parquet"
    scan([str(folder)], output, workers=2, deep=True)
    corpus = read(output)
    rows = dict(zip(corpus.column("path"), corpus.column("status"), strict=True))
    assert rows == {
        "empty.mp4": "unreadable",
        "good.mp4": "ok",
        "playlist.mp4": "unreadable",
        "sound.wav": "no-video",
        "text.mp4": "unreadable",
        "truncated.mp4": "unreadable",
        "日本語 copy.mp4": "ok",
    }
    assert corpus.column("path")[corpus.is_duplicate()].tolist() == ["日本語 copy.mp4"]
    assert all(corpus.column("reason")[corpus.column("status") == "unreadable"])
    assert np.flatnonzero(usable(corpus, task="audio").mask).tolist() == [1, 3]


def test_damage_inside_is_found_by_a_deep_scan_only(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    data = bytearray((DATA / "av-digits/train/0000.mp4").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    (folder / "damaged.mp4").write_bytes(data)
    output = tmp_path / "corpus.parquet"
    assert scan([str(folder)], output, workers=0).statuses == {"ok": 1}
    report = scan([str(folder)], output, workers=0, deep=True)
    assert report.statuses == {"unreadable": 1}


def test_av_digits_with_labels_splits_and_groups(tmp_path):
    """A part of it, to be quick; splits by ``image``, as it is tuned."""
    folder = tmp_path / "digits"
    for part, count in (("train", 40), ("test", 10)):
        (folder / part).mkdir(parents=True)
        for number in range(count):
            name = f"{part}/{number:04}.mp4"
            (folder / name).symlink_to((DATA / "av-digits" / name).resolve())
    output = tmp_path / "corpus.parquet"
    labels = DATA / "av-digits/labels.csv"
    report = scan([str(folder)], output, labels=labels, group_by="image", workers=0)
    corpus = read(output)
    assert report.statuses == {"ok": 50}
    assert len(report.unmatched) == 2450
    assert report.unlabelled == 0
    assert corpus.label_names == ("digit", "speaker", "recording", "image")
    split = assign(corpus, 0.1, 0)
    assert (int(split.train.sum()), int(split.held_out.sum())) == (40, 10)
    group = corpus.column("group")
    assert not set(group[split.train]) & set(group[split.held_out])
    train = instances(corpus, split.train)
    assert set(train.vocabulary["digit"]) <= set("0123456789")
    assert train.labels["digit"].min() == 0
    assert set(train.fps) == {16.0}
    assert set(train.width) == {64}
    assert train.has_audio.all()
    np.testing.assert_allclose(train.end, 3.0, atol=0.1)
