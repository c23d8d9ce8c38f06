"""A few seconds of decoding and of computing, on clips that are made for it."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import torch

from earsight import presets
from earsight.config import RunConfig, override, parse
from earsight.corpus.batch import Batch
from earsight.corpus.clips import TrainingClips
from earsight.corpus.demo import render_demo
from earsight.corpus.scan import scan
from earsight.doctor.check import Check
from earsight.encoders.pair import Pair
from earsight.training.devices import choose_device, cores
from earsight.training.setup import blank_inputs, build_parts, clip_settings, open_data
from earsight.training.step import Parts, prepare, train_step

CLIPS = 32
"""Clips that are made, and clips in a batch."""

_SHARES = {"decode": 0.3, "forward": 0.25, "step": 0.45}
"""Of the time that is measured."""

_PRESET = "tiny"
_SETTINGS = ("data.workers=0", "data.cache=none", "method.negatives=16", "data.holdout=0.0")


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast something went."""

    clips: int
    seconds: float

    @property
    def clips_per_second(self) -> float:
        """Of this machine, as busy as it was."""
        return self.clips / self.seconds


def speed(seconds: float = 5.0) -> Iterator[Check]:
    """Decoding on one core, and encoding and training on the device.

    What fails is said, and nothing that comes after it is measured.

    Args:
        seconds: how long is measured, in all; a second or two more go into making the clips.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield from _measure(Path(folder), seconds)
    except (ValueError, RuntimeError, OSError) as error:
        yield Check(
            group="speed",
            name="speed test",
            status="broken",
            text=f"clips cannot be made, read and learned from: {error}",
            remedy="see what is broken above; else try `earsight demo --short`",
        )
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if busy > 1.5 * cores():
        yield Check(
            group="speed",
            name="load",
            status="lacking",
            text=f"{busy:.1f} for {cores()} cores: other programs run, and slow these speeds down",
        )


def _measure(folder: Path, seconds: float) -> Iterator[Check]:
    config, clips = _prepare(folder)
    device = choose_device(config.device)
    batch, decoded = None, 0

    def decode(number: int) -> int:
        nonlocal batch, decoded
        batch = clips[number]
        return len(batch)

    yield _check(
        "decoding",
        pace(decode, _SHARES["decode"] * seconds),
        f"on one core, of the {CLIPS} small videos made for this (64 × 64, H.264 and AAC); "
        "larger videos take longer",
    )
    assert batch is not None
    parts = build_parts(config, blank_inputs(config), CLIPS, device)
    of = f"preset {_PRESET}, batches of {CLIPS}, {device.type}, threads: {torch.get_num_threads()}"
    forward = pace(_forward(config, parts, batch, device), _SHARES["forward"] * seconds)
    yield _check("encoding", forward, f"{of}: one pass through both encoders")
    step = pace(_step(config, parts, batch, device), _SHARES["step"] * seconds)
    yield _check("training", step, f"{of}: whole steps, clips in memory")


def _prepare(folder: Path) -> tuple[RunConfig, TrainingClips]:
    """A small corpus, and a run's settings and clips of it."""
    media, manifest = folder / "videos", folder / "corpus.parquet"
    render_demo(media, clips=CLIPS, held_out=0, seed=0, workers=1)
    scan([str(media)], manifest, workers=0)
    tree = override(presets.load(_PRESET), [*_SETTINGS, f"train.batch={CLIPS}"])
    config = parse(tree)
    config = replace(config, data=replace(config.data, corpus=str(manifest)))
    data = open_data(config, once=True)
    return config, TrainingClips(
        data.train, clip_settings(config), batch=CLIPS, views=1, source=data.source
    )


def _forward(
    config: RunConfig, parts: Parts, batch: Batch, device: torch.device
) -> Callable[[int], int]:
    ready = prepare(config, parts.inputs, batch, device).views[0]
    model: Pair = parts.model

    def forward(_: int) -> int:
        with torch.inference_mode():
            video, _audio = model(ready["video"], ready["audio"])
        assert video is not None
        float(video.sum())  # waits for the device
        return len(batch)

    return forward


def _step(
    config: RunConfig, parts: Parts, batch: Batch, device: torch.device
) -> Callable[[int], int]:
    def again() -> Iterator[Batch]:
        while True:
            yield batch

    batches = again()

    def step(_: int) -> int:
        taken = train_step(config, parts, batches, device)
        float(taken.metrics["loss"])  # waits for the device
        return len(batch)

    return step


def pace(work: Callable[[int], int], seconds: float) -> Pace:
    """How fast ``work(0)``, ``work(1)``, … go, each of which tells how many clips it did.

    The first is not counted: it warms caches up. At least one more is.
    """
    work(0)
    began, clips = time.perf_counter(), 0
    for number in count(1):
        clips += work(number)
        passed = time.perf_counter() - began
        if passed >= seconds:
            return Pace(clips=clips, seconds=passed)
    raise AssertionError("count has no end")


def _check(name: str, found: Pace, how: str) -> Check:
    return Check(
        group="speed",
        name=name,
        text=f"{found.clips_per_second:.3g} clips/s, {how}",
        figures={
            "clips_per_second": found.clips_per_second,
            "clips": found.clips,
            "seconds": found.seconds,
        },
    )
