"""Features of clips from their files: how near extraction comes to decoding and encoding alone.

In one run: core-seconds to decode the clips (one process, nothing else), core-seconds to encode
them (from memory), and the clips per second that an evaluation reaches with all cores after its
start, which a few clips show: workers begin anew in each evaluation. The target is a share of
``cores / (decode + encode)``, which nothing can exceed.
"""

import os
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import FEW, Target, arguments, av_digits, finish, median, timed
from earsight import api
from earsight.config import RunConfig
from earsight.corpus.batch import Batch
from earsight.evaluation.features import Encoder, Wanted, extract
from earsight.evaluation.load import make_evaluator, random_encoder
from earsight.evaluation.protocol import Evaluator
from earsight.training.setup import blank_inputs, open_data

SHARE = 0.9
ROUNDS = 3
CLIPS = {"tiny": 1800, "full size": 96}
"""As many as take about half a minute a round."""
FIRST = 8
"""Clips that show what a start takes."""
CPU = torch.device("cpu")
SIZES = {
    "tiny": [],
    "full size": ["video.frames=8", "video.size=112", "video_encoder.width=64", "threads=2"],
}
"""Settings laid over the preset ``tiny``; the network of the second weighs more than decoding."""


def measure(config: RunConfig, clips: int, rounds: int) -> list[dict[str, float]]:
    """Core-seconds a clip of each round: decoding, encoding, and all of it with every core."""
    data = open_data(config, learning=False, once=True)
    inputs, encoder = blank_inputs(config), random_encoder(config, CPU)
    evaluator = make_evaluator(config, data, inputs)
    alone = replace(evaluator, workers=0)
    rows = np.arange(min(clips, len(data.train)), dtype=np.int64)
    cores = len(os.sched_getaffinity(0))
    found = []
    for _ in range(rounds):
        kept: list[Batch] = []
        decode = timed(partial(collect, alone, rows, kept))["core"]
        encode = timed(partial(extract, [encoder], inputs, iter(kept), CPU, Wanted()))["core"]
        whole = timed(partial(extracted, evaluator, encoder, rows))["wall"]
        few = timed(partial(extracted, evaluator, encoder, rows[:FIRST]))["wall"]
        after = cores * (whole - few) / (len(rows) - FIRST)
        seconds = {"decode": decode / len(rows), "encode": encode / len(rows), "whole": after}
        found.append({**seconds, "few": few, "all": whole})
    return found


def collect(evaluator: Evaluator, rows: Any, kept: list[Batch]) -> None:
    """The centre clips of rows, into a list."""
    kept.extend(evaluator.batches(evaluator.data.train, rows, 1))


def extracted(evaluator: Evaluator, encoder: Encoder, rows: Any) -> None:
    """Features as an evaluation takes them."""
    evaluator.features(evaluator.data.train, rows, [encoder], Wanted())


def main() -> int:
    """Measure both sizes, in turn; the first alone where it is to be quick."""
    options = arguments(__doc__ or "")
    targets, raw = [], {}
    with tempfile.TemporaryDirectory() as place:
        corpus = av_digits(Path(place), FEW if options.quick else 1)
        for name in list(SIZES)[: 1 if options.quick else None]:
            settings = [f"data.corpus={corpus}", *SIZES[name]]
            config = api.configure("tiny", settings=settings)
            torch.set_num_threads(config.threads)
            clips = max(4 * FIRST, CLIPS[name] // 8) if options.quick else CLIPS[name]
            rounds = measure(config, clips, 1 if options.quick else ROUNDS)
            raw[name] = rounds
            shares = [(one["decode"] + one["encode"]) / one["whole"] for one in rounds]
            what = f"{name}: share of what decoding and encoding allow"
            targets.append(Target(name=what, measured=median(shares), least=SHARE))
    return finish(targets, {"rounds": raw, "quick": options.quick}, options.json)


if __name__ == "__main__":
    sys.exit(main())
