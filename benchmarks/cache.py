"""Training of the preset `tiny` on av-digits: from a cache of decoded clips against from files.

Both use two cores as well as they can, in turns: from files, two workers decode beside the training
thread; from the cache, which leaves cores to spare, the way that is fastest. Losses must be equal.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from common import Target, arguments, av_digits, finish
from earsight import api
from earsight.training.setup import open_data

LEAST = 2.0
TURNS = 3
EPOCHS = 2
FILES = ("data.workers=2",)
CACHE = ("data.workers=1", "data.cache=disk", "threads=2")


def seconds(corpus: Path, run: Path, epochs: int, settings: tuple[str, ...]) -> float:
    """Seconds of training ``epochs``, without set-up and evaluation."""
    fixed = [
        f"data.corpus={corpus}",
        f"train.epochs={epochs}",
        "optimizer.milestones=[1000]",
        "evaluation.every=0",
        "evaluation.tasks=[geometry]",
    ]
    api.pretrain(api.configure("tiny", settings=[*fixed, *settings]), run, quiet=True)
    last = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    return float([line for line in last if line["kind"] == "train"][-1]["time"])


def losses(run: Path) -> list[float]:
    """All losses that a run has logged."""
    lines = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


def main() -> int:
    """Train in turns, and compare."""
    options = arguments(__doc__ or "")
    turns, epochs = (1, 1) if options.quick else (TURNS, EPOCHS)
    times: dict[str, list[float]] = {"files": [], "cache": []}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        corpus = av_digits(place)
        began = time.monotonic()
        open_data(api.configure("tiny", settings=[f"data.corpus={corpus}", "data.cache=disk"]))
        filled = time.monotonic() - began
        for turn in range(turns):
            for name, settings in (("files", FILES), ("cache", CACHE)):
                run = place / f"{name}-{turn}"
                times[name].append(seconds(corpus, run, epochs, settings))
        # Threads round otherwise: equal settings are compared.
        seconds(corpus, place / "same", epochs, ("data.workers=2", "data.cache=disk"))
        equal = losses(place / "same") == losses(place / "files-0")
    ratio = min(times["files"]) / min(times["cache"])
    targets = [
        Target(name="from the cache over from files", measured=ratio, unit="×", least=LEAST),
        Target(name="losses equal (1 if so)", measured=float(equal), unit="", least=1),
    ]
    figures = {"seconds": times, "epochs": epochs, "fill_seconds": filled, "quick": options.quick}
    return finish(targets, figures, options.json)


if __name__ == "__main__":
    sys.exit(main())
