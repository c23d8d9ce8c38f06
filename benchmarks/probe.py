"""The cost of probing four blocks beside that of probing one, from the files to the figures.

A run is probed twice, each time with nothing kept: by block 4 alone, and by blocks 1 to 4.
Everything counts: reading and decoding the clips, both networks (the run's and its random
initialisation), and the fits of every label, modality and C. It all happens in one process, whose
core-seconds are compared. So it is done with full-size networks (preset `avid-analysis`, one clip a
file, a tenth of av-digits) and with those of `tiny` (three clips a file, all of it), beside which
the fits weigh most.
"""

import dataclasses
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import FEW, Target, arguments, av_digits, finish
from earsight import api
from earsight.training.devices import cores

SIDES = {"one block": "[4]", "four blocks": "[1, 2, 3, 4]"}


@dataclass(frozen=True, kw_only=True)
class Networks:
    """What is probed: how it is trained first, on every ``nth`` clip, and with which settings."""

    preset: str
    training: tuple[str, ...]
    probing: tuple[str, ...]
    nth: int
    rounds: int


NETWORKS = {
    "full size": Networks(
        preset="avid-analysis",
        training=(
            "train.batch=4",
            "train.epoch_samples=16",
            "train.keep=[]",
            "train.epochs=1",
            "method.negatives=64",
        ),
        probing=("evaluation.clips=1",),
        nth=10,
        rounds=1,
    ),
    "tiny": Networks(
        preset="tiny",
        training=("train.epochs=3", "optimizer.milestones=[2]"),
        probing=(),
        nth=1,
        rounds=3,
    ),
}


def trained(networks: Networks, folder: Path, nth: int) -> Path:
    """A run of a few steps on every ``nth`` clip of the digits."""
    corpus = av_digits(folder, nth)
    settings = [f"data.corpus={corpus}", f"data.workers={cores()}", "evaluation.tasks=[geometry]"]
    config = api.configure(networks.preset, settings=[*settings, *networks.training])
    api.pretrain(config, folder / "run", quiet=True)
    return folder / "run"


def probed(run: Path, blocks: str, settings: list[str]) -> tuple[float, list[dict[str, object]]]:
    """Core-seconds of a probe with nothing kept, and its rows."""
    shutil.rmtree(run / "evaluation", ignore_errors=True)
    own = [f"evaluation.blocks={blocks}", "data.workers=0", "threads=1", *settings]
    began = time.process_time()
    evaluation = api.evaluate(run, "probe", settings=own)
    return time.process_time() - began, [dataclasses.asdict(row) for row in evaluation.rows]


def measure(networks: Networks, quick: bool) -> dict[str, Any]:
    """Probe in turns; core-seconds of both sides, and the figures of four blocks."""
    taken: dict[str, list[float]] = {name: [] for name in SIDES}
    rows: dict[str, list[dict[str, object]]] = {}
    samples = 200 if quick else 2000
    settings = [f"evaluation.probe_samples={samples}", *networks.probing]
    with tempfile.TemporaryDirectory() as folder:
        run = trained(networks, Path(folder), FEW if quick else networks.nth)
        for _ in range(1 if quick else networks.rounds):
            for side, blocks in SIDES.items():
                seconds, rows[side] = probed(run, blocks, settings)
                taken[side].append(seconds)
                print(f"{networks.preset}, {side}: {seconds:.1f} s of one core", flush=True)
    if [row for row in rows["four blocks"] if row["block"] == "4"] != rows["one block"]:
        sys.exit("the figures of block 4 differ between the two")
    # The least is the cost; what is above it is the machine's other work.
    ratio = min(taken["four blocks"]) / min(taken["one block"])
    return {"core_seconds": taken, "ratio": ratio, "rows": rows["four blocks"]}


def main() -> int:
    """Measure both sizes, or the small one alone where it is to be quick."""
    args = arguments(__doc__ or "")
    names = ["tiny"] if args.quick else list(NETWORKS)
    raw = {name: measure(NETWORKS[name], args.quick) for name in names}
    targets = [
        Target(
            name=f"{name}: four blocks over one", measured=raw[name]["ratio"], unit="×", most=1.3
        )
        for name in names
    ]
    return finish(targets, raw, args.json)


if __name__ == "__main__":
    sys.exit(main())
