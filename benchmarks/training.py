"""Training of the preset `tiny` from prepared clips: how near it comes to decoding and computing.

In one run: core-seconds to decode the micro-batches (one process, nothing else), core-seconds of
the steps on them (from memory, one thread), and the clips per second that the command reaches with
all cores, after its start: as one process with workers that decode, and as two processes that
decode for themselves. The target is the better one's share of ``cores / (decode + compute)``, which
nothing can exceed that uses the cores for these two alone.

What two processes that never wait for each other would reach is told beside it: the same, timed in
two at once, each with half of the batch. Cores that are both busy are slower, and what a step takes
whatever its batch is paid twice.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from common import DATA, Target, arguments, clips_per_second, finish, median, timed, train
from earsight import api
from earsight.corpus.batch import Batch
from earsight.training.devices import keep_memory
from earsight.training.plan import Plan, with_size
from earsight.training.setup import build_parts, fit_inputs, open_data
from earsight.training.step import train_step

SHARE = 0.9
ROUNDS = 3
FILES = 640
STEPS = 20
"""Steps that are timed apart."""
EPOCHS = 2
EPOCH_CLIPS = 1920
"""A checkpoint comes after as many: those of an epoch of av-digits."""

BATCH = 64
CPU = torch.device("cpu")
SIDES: dict[str, tuple[int, tuple[str, ...]]] = {
    "one process": (1, ()),
    "one process, one thread": (1, ("threads=1", "data.workers=1")),
    "two processes": (2, ("threads=1", "data.workers=0")),
}
"""Processes and settings."""


def prepared(place: Path, files: int) -> Path:
    """Shards of the first files of av-digits."""
    media, videos = DATA / "av-digits", place / "videos"
    if not media.is_dir():
        sys.exit(f"{media} is missing: nothing measured")
    videos.mkdir()
    for path in sorted(media.rglob("*.mp4"))[:files]:
        shutil.copy(path, videos)
    api.scan([str(videos)], place / "corpus.parquet")
    api.prepare(place / "corpus.parquet", place / "shards", preset="tiny")
    return place / "shards"


def apart(corpus: Path, steps: int, batch: int = BATCH) -> dict[str, float]:
    """Core-seconds a clip of decoding and of computing, each alone."""
    settings = [f"data.corpus={corpus}", f"train.batch={batch}", "data.workers=0"]
    config = api.configure("tiny", settings=settings)
    data = open_data(config, once=True)
    plan = Plan.of(config, len(data.train))
    config = with_size(config, plan, len(data.train))
    parts = build_parts(config, fit_inputs(config, data, 0), len(data.train), CPU)
    clips = api.training_clips(config, data, plan, parts)
    parts.model.train()
    kept: list[Batch] = []

    def decode(numbers: range) -> None:
        kept.extend(clips[number] for number in numbers)

    def compute() -> None:
        for batch in kept:
            train_step(config, parts, iter([batch]), CPU)

    decode(range(2))
    compute()
    kept.clear()
    seconds = {
        "decode": timed(partial(decode, range(2, 2 + steps)))["core"],
        "compute": timed(compute)["core"],
    }
    return {name: value / (steps * batch) for name, value in seconds.items()}


def two_at_once(corpus: Path, steps: int) -> list[dict[str, float]]:
    """The same of two processes side by side, each with half of the batch."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(2, one_thread) as pool:
        return pool.starmap(apart, [(corpus, steps, BATCH // 2)] * 2, chunksize=1)


def one_thread() -> None:
    """A process as training has it."""
    keep_memory()
    torch.set_num_threads(1)


def cost(found: Mapping[str, float]) -> float:
    """Core-seconds of a clip."""
    return found["decode"] + found["compute"]


def main() -> int:
    """Measure in turns."""
    options = arguments(__doc__ or "")
    one_thread()
    cores = sorted(os.sched_getaffinity(0))
    files, rounds, steps = (80, 1, 2) if options.quick else (FILES, ROUNDS, STEPS)
    epoch = 3 * BATCH if options.quick else EPOCH_CLIPS
    raw: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        corpus = prepared(place, files)
        for number in range(rounds):
            found = apart(corpus, steps)
            busy = two_at_once(corpus, steps)
            settings = (f"train.epochs={EPOCHS}", "optimizer.milestones=[1]", "data.cache=none")
            log_every = 1 if options.quick else 2
            more = (
                f"train.batch={BATCH}",
                f"train.epoch_samples={epoch}",
                f"train.log_every={log_every}",
            )
            speeds: dict[str, float] = {}
            for side, (processes, own) in SIDES.items():
                run = place / f"run-{number}-{processes}-{len(own)}"
                lines = train(corpus, run, *settings, *more, *own, processes=processes, cores=cores)
                speeds[side] = clips_per_second(lines, BATCH)
            raw.append({**found, "two at once": busy, "clips_per_second": speeds})
    shares = {
        side: median([cost(one) * one["clips_per_second"][side] / len(cores) for one in raw])
        for side in SIDES
    }
    both = [cost(one) / cost(other) for one in raw for other in one["two at once"]]
    ceiling = median(both) * 2 / len(cores)
    for side, share in shares.items():
        print(f"{side}: {share:.2f} of what decoding and computing allow")
    print(f"two processes that never wait for each other would reach: {ceiling:.2f}")
    for name in ("decode", "compute"):
        print(f"{name}: {1e3 * median([one[name] for one in raw]):.2f} core-ms a clip")
    targets = [
        Target(
            name="share of what decoding and computing allow",
            measured=max(shares.values()),
            least=SHARE,
        )
    ]
    report = {"rounds": raw, "shares": shares, "ceiling": ceiling, "quick": options.quick}
    return finish(targets, report, options.json)


if __name__ == "__main__":
    sys.exit(main())
