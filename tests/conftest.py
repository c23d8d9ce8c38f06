"""A small rendered corpus and settings that train on it in a second or two."""

import pytest

from earsight import api
from earsight.corpus.demo import render_demo

SMALL = (
    "video_encoder.width=4",
    "audio_encoder.width=4",
    "video.frames=4",
    "video.size=32",
    "audio.duration=1.0",
    "audio.stretch=[1.0,1.0]",
    "head.hidden=[16]",
    "head.dim=8",
    "method.negatives=8",
    "optimizer.warmup_steps=2",
    "optimizer.milestones=[1,54]",
    "train.batch=8",
    "train.epochs=2",
    "train.log_every=1",
    "evaluation.every=0",
    "evaluation.clips=1",
    "data.workers=0",
    "threads=1",
)


@pytest.fixture(scope="session")
def small():
    return SMALL


@pytest.fixture(scope="session")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    render_demo(folder, clips=32, held_out=12, seed=0, workers=1)
    return folder


@pytest.fixture(scope="session")
def corpus(media, tmp_path_factory):
    manifest = tmp_path_factory.mktemp("corpus") / "corpus.parquet"
    api.scan([str(media)], manifest, labels=media / "labels.csv", workers=0)
    return manifest


@pytest.fixture(scope="session")
def finished(corpus, tmp_path_factory):
    """A run trained to its end."""
    run = tmp_path_factory.mktemp("finished") / "run"
    config = api.configure("tiny", settings=[*SMALL, f"data.corpus={corpus}"])
    api.pretrain(config, run, quiet=True)
    return run
