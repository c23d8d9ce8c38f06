"""A small corpus of many kinds of files, prepared."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from earsight import api
from earsight.corpus import demo
from earsight.corpus.manifest import read
from earsight.corpus.shards.prepare import prepare
from earsight.media.types import Coding

# Small and quick: what is tested does not depend on it.
QUICK = Coding(preset="ultrafast", crf=18, short_side=96, rate=16000)
SECONDS = 12.0


@pytest.fixture(scope="session")
def films(tmp_path_factory):
    """Sound without noise bands, which is the same wherever decoding begins."""
    folder = tmp_path_factory.mktemp("films")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "ENCODING", replace(demo.ENCODING, audio_noise=False))
        demo.render_demo(folder, clips=16, held_out=4, seed=0, workers=1)
    first, second, *_ = sorted(folder.glob("train/*.mp4"))
    (folder / "train" / "copy.mp4").write_bytes(first.read_bytes())
    (folder / "train" / "broken.mp4").write_bytes(second.read_bytes()[:2000])
    return folder


@pytest.fixture(scope="session")
def manifest(films, tmp_path_factory):
    path = tmp_path_factory.mktemp("manifest") / "corpus.parquet"
    api.scan([str(films)], path, labels=films / "labels.csv", workers=0)
    return path


@pytest.fixture(scope="session")
def shards(manifest, tmp_path_factory):
    """A folder of shards; nothing may be changed in it."""
    folder = tmp_path_factory.mktemp("shards") / "shards"
    report = prepare(manifest, folder, coding=QUICK, shard_seconds=SECONDS, workers=0)
    return SimpleNamespace(folder=folder, report=report, corpus=read(folder))
