"""A CM-ACC step beside an XMoCo step, and what encoding the pool takes of an epoch.

Preset `tiny` on av-digits with a decoded cache, dictionary and pool by the rule for small corpora.
Steps of both methods take turns on the same batches, in core-seconds of one process with one
thread. The pool is timed apart, once per epoch, as the loop does it: from the cache, and from files
that are decoded anew, as steps then are.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from common import FEW, Target, arguments, av_digits, finish, median
from earsight import api
from earsight.config import RunConfig
from earsight.corpus.batch import Batch
from earsight.corpus.clips import TrainingClips
from earsight.training.logging import NoLog
from earsight.training.loop import Loop
from earsight.training.plan import Plan, with_size
from earsight.training.setup import build_parts, fit_inputs, open_data
from earsight.training.step import Parts, train_step

CPU = torch.device("cpu")
MOST = 1.15


class Side:
    """A method under way: its parts, and its batches."""

    def __init__(self, name: str, corpus: Path, cache: str = "disk") -> None:
        own = ["method.dictionary=null", "method.momentum=null", "head.fcl=true"]
        own += ["method.pool=null"] if name == "cm-acc" else []
        settings = [
            f"data.corpus={corpus}",
            f"method.name={name}",
            f"data.cache={cache}",
            "threads=1",
        ]
        config = api.configure("tiny", settings=[*settings, *own])
        data = open_data(config)
        self.plan = Plan.of(config, len(data.train))
        self.config: RunConfig = with_size(config, self.plan, len(data.train))
        inputs = fit_inputs(self.config, data, 0)
        self.parts: Parts = build_parts(self.config, inputs, len(data.train), CPU)
        self.clips: TrainingClips = api.training_clips(self.config, data, self.plan, self.parts)
        self.parts.model.train()
        self.taken = 0

    def encode(self) -> float:
        """Core-seconds of what the method does before an epoch."""
        loop = Loop(
            config=self.config,
            parts=self.parts,
            clips=self.clips,
            run=Path(),
            log=NoLog(),
            device=CPU,
            workers=0,
            plan=self.plan,
        )
        loop.step = self.plan.steps_per_epoch * (self.taken > 0)
        began = time.process_time()
        loop._begin_epoch()
        return time.process_time() - began

    def steps(self, count: int) -> list[float]:
        """Core-seconds of each of some steps, without what the first costs."""
        seconds = []
        for _ in range(count):
            batches = self._batches()
            began = time.process_time()
            train_step(self.config, self.parts, batches, CPU)
            seconds.append(time.process_time() - began)
            self.taken += 1
        return seconds

    def _batches(self) -> Iterator[Batch]:
        yield self.clips[self.taken]


def epoch(side: Side, rounds: int) -> dict[str, float]:
    """Core-seconds of a pool and of a step, and the pool's share of an epoch."""
    pool = median([side.encode() for _ in range(rounds)])
    step = median(side.steps(3 * rounds))
    return {"pool": pool, "step": step, "share": pool / (pool + side.plan.steps_per_epoch * step)}


def main() -> int:
    """Take steps in turns, and compare."""
    args = arguments(__doc__ or "")
    torch.set_num_threads(1)
    turns, steps = (2, 2) if args.quick else (12, 10)
    with tempfile.TemporaryDirectory() as folder:
        corpus = av_digits(Path(folder), FEW if args.quick else 1)
        sides = {name: Side(name, corpus) for name in ("xmoco", "cm-acc")}
        for side in sides.values():
            side.encode()
            side.steps(3)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(turns):
            for name, side in sides.items():
                seconds[name].append(median(side.steps(steps)))
        pools = {"decoded before": sides["cm-acc"], "from files": Side("cm-acc", corpus, "none")}
        epochs = {name: epoch(side, 1 if args.quick else 3) for name, side in pools.items()}
    step = {name: median(values) for name, values in seconds.items()}
    pairs = zip(seconds["cm-acc"], seconds["xmoco"], strict=True)
    ratio = median([active / plain for active, plain in pairs])
    print(
        f"a step: cm-acc {1e3 * step['cm-acc']:.1f} ms, xmoco {1e3 * step['xmoco']:.1f} ms of one "
        "core"
    )
    raw: dict[str, Any] = {"core_seconds": seconds, "epochs": epochs}
    raw["settings"] = {name: vars(side.config.method) for name, side in sides.items()}
    told = (
        f"{name} {one['pool']:.2f} core-seconds, {100 * one['share']:.0f} % of the epoch"
        for name, one in epochs.items()
    )
    clips = raw["settings"]["cm-acc"]["pool"]
    raw["note"] = f"To encode the pool of an epoch, {clips} clips, takes {'; '.join(told)}."
    print(raw["note"])
    targets = [Target(name="a CM-ACC step over an XMoCo step", measured=ratio, unit="×", most=MOST)]
    return finish(targets, raw, args.json)


if __name__ == "__main__":
    sys.exit(main())
