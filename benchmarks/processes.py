"""Clips per second of two processes on two cores, beside those of one process on one core.

The preset `tiny` on av-digits, started as a user would: the second side by torchrun, with gloo.
Held equal are the clips that a process takes in a step (so the batch of two is twice that of one),
one thread of torch per process, and decoding within the process. Sides take turns. Beside them,
two runs that know nothing of each other share the two cores: what they reach together is the most
that two processes could.
"""

import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import FEW, Target, arguments, av_digits, clips_per_second, finish, median, train

CLIPS = 32
"""Clips per process and step."""


def speed(processes: int, cores: list[int], corpus: Path, steps: int) -> float:
    """Clips per second of a run, over all its processes."""
    batch = CLIPS * processes
    settings = (f"train.batch={batch}", f"train.epoch_samples={64 * steps}", "train.epochs=1")
    own = (
        f"train.log_every={max(1, steps // 10)}",
        "train.precision=float32",
        "threads=1",
        "data.workers=0",
    )
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        milestones = "optimizer.milestones=[1]"
        lines = train(corpus, run, *settings, *own, milestones, processes=processes, cores=cores)
    return clips_per_second(lines, batch)


def apart(cores: list[int], corpus: Path, steps: int) -> float:
    """Clips per second of a run on each of the cores at once, together."""
    with ThreadPoolExecutor(len(cores)) as pool:
        runs = [pool.submit(speed, 1, [core], corpus, steps) for core in cores]
    return sum(run.result() for run in runs)


def main() -> int:
    """Measure all sides in turns."""
    options = arguments(__doc__ or "")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("this benchmark needs two cores")
        return 1
    rounds, steps = (1, 4) if options.quick else (3, 100)
    speeds: dict[str, list[float]] = {"one": [], "two": []}
    with tempfile.TemporaryDirectory() as place:
        corpus = av_digits(Path(place), FEW if options.quick else 1)
        for number in range(rounds):
            # Either core in turn: they need not be alike.
            speeds["one"].append(speed(1, [cores[number % 2]], corpus, steps))
            speeds["two"].append(speed(2, cores[:2], corpus, steps))
            if not options.quick:
                speeds.setdefault("apart", []).append(apart(cores[:2], corpus, steps))
    for name, values in speeds.items():
        print(f"{name}: {median(values):.1f} clips/s")
    gains = {
        name: median([x / y for x, y in zip(side, speeds["one"], strict=True)])
        for name, side in speeds.items()
    }
    figures: dict[str, Any] = {"clips": CLIPS, "clips_per_second": speeds}
    if not options.quick:
        figures["apart"] = gains["apart"]
        print(f"two runs that know nothing of each other, over one: {gains['apart']:.3g}×")
    targets = [Target(name="two processes over one", measured=gains["two"], unit="×", least=1.7)]
    return finish(targets, figures, options.json)


if __name__ == "__main__":
    sys.exit(main())
