"""The cost of probing four blocks beside that of probing one, from the files to the figures.

A `tiny` run of a few epochs is probed twice, each time with nothing kept: by block 4 alone, and by
blocks 1 to 4. Everything counts: reading and decoding the clips, both networks (the run's and its
random initialisation), and the fits of every label, modality and C. It all happens in one process,
whose core-seconds are compared.
"""

import dataclasses
import shutil
import sys
import tempfile
import time
from pathlib import Path

from common import Target, arguments, av_digits, finish
from earsight import api
from earsight.training.devices import cores

SIDES = {"one block": "[4]", "four blocks": "[1, 2, 3, 4]"}


def trained(folder: Path, epochs: int) -> Path:
    """A run of a few epochs on the digits."""
    corpus = av_digits(folder)
    settings = [f"data.corpus={corpus}", f"train.epochs={epochs}", f"data.workers={cores()}"]
    settings += ["evaluation.tasks=[geometry]", "optimizer.milestones=[2]"]
    api.pretrain(api.configure("tiny", settings=settings), folder / "run", quiet=True)
    return folder / "run"


def probed(run: Path, blocks: str, samples: int) -> tuple[float, list[dict[str, object]]]:
    """Core-seconds of a probe with nothing kept, and its rows."""
    shutil.rmtree(run / "evaluation", ignore_errors=True)
    settings = [f"evaluation.blocks={blocks}", f"evaluation.probe_samples={samples}"]
    began = time.process_time()
    evaluation = api.evaluate(run, "probe", settings=[*settings, "data.workers=0", "threads=1"])
    return time.process_time() - began, [dataclasses.asdict(row) for row in evaluation.rows]


def main() -> int:
    """Probe in turns, and compare."""
    args = arguments(__doc__ or "")
    samples = 500 if args.quick else 2000
    taken: dict[str, list[float]] = {name: [] for name in SIDES}
    rows: dict[str, list[dict[str, object]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        run = trained(Path(folder), 1 if args.quick else 3)
        for _ in range(1 if args.quick else 3):
            for name, blocks in SIDES.items():
                seconds, rows[name] = probed(run, blocks, samples)
                taken[name].append(seconds)
                print(f"{name}: {seconds:.1f} s of one core")
    shared = [row for row in rows["four blocks"] if row["block"] == "4"]
    if shared != rows["one block"]:
        print("the figures of block 4 differ between the two")
        return 1
    # The least is the cost; what is above it is the machine's other work.
    ratio = min(taken["four blocks"]) / min(taken["one block"])
    raw = {"core_seconds": taken, "probe_samples": samples, "rows": rows["four blocks"]}
    targets = [Target(name="four blocks over one", measured=ratio, unit="×", most=1.3)]
    return finish(targets, raw, args.json)


if __name__ == "__main__":
    sys.exit(main())
