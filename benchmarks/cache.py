"""Training of the preset `tiny` on av-digits, on two cores: from decoded clips against from files.

Files are read in two ways, of which the faster counts: two workers decode beside one training
process, or two training processes decode for themselves. From the cache, two processes train. All
sides take turns; between the two that train alike, all losses must be equal. What the network alone
allows is told by one process on one core, which waits for nobody: it reads files, or the cache.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import (
    FEW,
    Lines,
    Target,
    arguments,
    av_digits,
    clips_per_second,
    finish,
    median,
    train,
)
from earsight import api
from earsight.training.setup import open_data

LEAST = 2.0
TURNS = 3
BATCH = 32
QUICK = 4 * BATCH
"""Clips of an epoch that is to be seen working."""
SIDES = {
    "files, two workers": (1, "data.workers=2", "data.cache=none"),
    "files, two processes": (2, "data.workers=0", "data.cache=none"),
    "cache, two processes": (2, "data.workers=0", "data.cache=disk"),
}
ALONE = {
    "files, one core": (1, "data.workers=0", "data.cache=none"),
    "cache, one core": (1, "data.workers=0", "data.cache=disk"),
}


def trained(corpus: Path, run: Path, side: str, cores: list[int], quick: bool) -> Lines:
    """What a run of two epochs on one side has logged; where quick, of a few steps."""
    processes, *own = (SIDES | ALONE)[side]
    settings = ["train.epochs=2", "optimizer.milestones=[1]"]
    settings += [f"train.epoch_samples={QUICK}", "train.log_every=1"] if quick else []
    settings += [f"train.batch={BATCH}", "threads=1"]
    return train(corpus, run, *map(str, own), *settings, processes=int(processes), cores=cores)


def main() -> int:
    """Train in turns, and compare."""
    options = arguments(__doc__ or "")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("this benchmark needs two cores")
        return 1
    turns = 1 if options.quick else TURNS
    sides = SIDES if options.quick else SIDES | ALONE
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    losses: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        corpus = av_digits(place, FEW if options.quick else 1)
        began = time.monotonic()
        open_data(api.configure("tiny", settings=[f"data.corpus={corpus}", "data.cache=disk"]))
        filled = time.monotonic() - began
        for turn in range(turns):
            for number, side in enumerate(sides):
                own = cores[:1] if side in ALONE else cores[:2]
                lines = trained(corpus, place / f"{turn}-{number}", side, own, options.quick)
                speeds[side].append(clips_per_second(lines, BATCH))
                losses[side] = [line["loss"] for line in lines]
    for side, values in speeds.items():
        print(f"{side}: {median(values):.0f} clips/s")
    workers, files, cache = (speeds[side] for side in SIDES)
    best = max((workers, files), key=median)
    ratio = median([one / other for one, other in zip(cache, best, strict=True)])
    equal = losses["cache, two processes"] == losses["files, two processes"]
    targets = [
        Target(name="from the cache over from files", measured=ratio, unit="×", least=LEAST),
        Target(name="losses equal (1 if so)", measured=float(equal), unit="", least=1),
    ]
    figures: dict[str, Any] = {"clips_per_second": speeds, "fill_seconds": filled}
    if not options.quick:
        apart = [speeds[side] for side in ALONE]
        figures["one_core"] = median([one / other for other, one in zip(*apart, strict=True)])
        print(f"on one core, from the cache over from files: {figures['one_core']:.3g}×")
    return finish(targets, {**figures, "quick": options.quick}, options.json)


if __name__ == "__main__":
    sys.exit(main())
