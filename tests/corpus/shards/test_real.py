"""Real files of many kinds, prepared."""

from pathlib import Path

import numpy as np
import pytest

from earsight import api
from earsight.corpus.instances import instances
from earsight.corpus.manifest import read
from earsight.corpus.shards.prepare import prepare
from earsight.corpus.split import usable
from earsight.media.decode import decode
from earsight.media.types import AudioRequest, ClipRequest, VideoRequest

DATA = Path(__file__).parents[3] / "../shared/data"
REAL, DIGITS = DATA / "real-videos", DATA / "av-digits"


def psnr(one, other):
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-9))


def pictures(instances, at, times, size):
    """Pictures of an instance at some times, in one size."""
    request = ClipRequest(
        path=instances.path[at],
        video=tuple(VideoRequest(start=t, fps=1.0, frames=1, size=size) for t in times),
        video_stream=int(instances.video_stream[at]),
    )
    return np.concatenate(decode(request).video)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The real videos, and the same prepared."""
    if not REAL.is_dir():
        pytest.skip("the real videos are not here")
    place = tmp_path_factory.mktemp("real")
    api.scan([str(REAL)], place / "corpus.parquet", workers=0)
    report = prepare(place / "corpus.parquet", place / "shards", workers=0)
    return read(place / "corpus.parquet"), read(place / "shards"), report


def test_real_pictures_stay_above_35_decibel(real):
    before, after, report = real
    assert report.failed == []
    theirs, ours = (instances(c, usable(c, task="video").mask) for c in (before, after))
    assert np.array_equal(ours.key, theirs.key)
    assert len(ours) >= 7
    for at in range(len(ours)):
        # Where a prepared picture begins, both show the same one.
        count = int((ours.video_end[at] - ours.video_start[at]) * ours.fps[at])
        times = ours.video_start[at] + np.arange(0, count, max(1, count // 8)) / ours.fps[at] + 1e-4
        size = int(ours.height[at]), int(ours.width[at])
        shift = float(theirs.start[at])
        one, other = pictures(ours, at, times, size), pictures(theirs, at, times + shift, size)
        assert psnr(one, other) >= 35, theirs.path[at]
        assert min(size) <= 256


def test_the_benchmarks_file_takes_at_most_twice_its_bytes(real):
    before, after, _ = real
    row = before.column("path").tolist().index("loader_340x256.mp4")
    assert after.column("size")[row] <= 2 * before.column("size")[row]


def test_real_sounds_are_those_of_the_files(real):
    before, after, _ = real
    theirs, ours = (instances(c, usable(c, task="audio").mask) for c in (before, after))
    assert len(ours) >= 6
    for at in range(len(ours)):
        # The first sample lies on another grid where the sound does not begin at the file's zero.
        sounds = [
            decode(
                ClipRequest(
                    path=one.path[at],
                    audio=(
                        AudioRequest(start=one.audio_start[at] + 0.1, duration=0.4, rate=24000),
                    ),
                    audio_stream=int(one.audio_stream[at]),
                )
            ).audio[0]
            for one in (ours, theirs)
        ]
        difference = np.abs(sounds[0] - sounds[1])
        # AAC and Opus draw noise as they are decoded.
        assert np.sqrt((difference**2).mean()) <= 0.02, theirs.path[at]


@pytest.mark.skipif(not DIGITS.is_dir(), reason="av-digits is not here")
def test_av_digits_trains_from_shards(small, tmp_path):
    some = tmp_path / "digits"
    (some / "train").mkdir(parents=True)
    for path in sorted((DIGITS / "train").glob("*.mp4"))[:40]:
        (some / "train" / path.name).symlink_to(path)
    api.scan([str(some)], tmp_path / "corpus.parquet", workers=0)
    report = prepare(tmp_path / "corpus.parquet", tmp_path / "shards", workers=0)
    assert report.clips == 40
    settings = [*small, f"data.corpus={tmp_path / 'shards'}", "train.epochs=1"]
    figures = api.pretrain(api.configure("tiny", settings=settings), tmp_path / "run", quiet=True)
    assert figures
