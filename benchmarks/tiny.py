"""The preset `tiny` on av-digits: what Cross-AVID learns of digit and speaker, and Self-AVID.

Three seeds each, at equal settings; linear probes on the test split. A seed's two runs go on at the
same time, on one core each, with clips from a cache (bit for bit those of the files), so what is
timed is half of two cores. A run's figures are written when it ends, and a run whose figures are
there is not repeated: the whole may go on elsewhere.
"""

import json
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from common import FEW, Target, arguments, av_digits, finish, machine
from earsight import api
from earsight.evaluation.rows import Row
from earsight.training.setup import open_data

SEEDS = (14, 15, 16)
MINUTES = 15.0
SPEAKER = 98.0
GAINS = {"video": 25.0, "audio": 10.0}
LEAST_ADVANTAGE = 10.0
QUICK = ("train.epochs=1", "train.batch=64", "evaluation.probe_samples=200")


def trained(preset: str, seed: int, corpus: Path, runs: Path, quick: bool) -> dict[str, Any]:
    """Figures of a run: those kept beside ``runs``, or of training and probing it now."""
    kept = runs / f"{preset}-{seed}.json"
    if kept.exists():
        known: dict[str, Any] = json.loads(kept.read_text())
        return known
    with tempfile.TemporaryDirectory() as place:
        figures = measured(preset, seed, corpus, Path(place) / "run", quick)
    kept.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def measured(preset: str, seed: int, corpus: Path, run: Path, quick: bool) -> dict[str, Any]:
    """Train a run and probe it; minutes are those of training, with its last evaluation."""
    settings = [
        f"seed={seed}",
        f"data.corpus={corpus}",
        "data.cache=disk",
        "data.workers=0",
        "evaluation.every=0",
        "evaluation.tasks=[retrieve, geometry]",
    ]
    config = api.configure(preset, settings=[*settings, *(QUICK if quick else ())])
    began = time.monotonic()
    api.pretrain(config, run)
    minutes = (time.monotonic() - began) / 60
    probed = ["evaluation.labels=[digit, speaker]", "evaluation.blocks=[pooled]"]
    rows = api.evaluate(run, "probe", settings=probed).rows
    for row in rows:
        print(preset, seed, row.modality, row.label, f"{row.value:.3f}, untrained {row.baseline}")
    return {
        "preset": preset,
        "seed": seed,
        "minutes": minutes,
        "machine": machine(),
        "rows": [row.as_dict() for row in rows],
    }


def accuracy(run: dict[str, Any], modality: str, label: str) -> Row:
    """A probe's row."""
    (found,) = [r for r in run["rows"] if (r["modality"], r["label"]) == (modality, label)]
    return Row(**found)


def targets_of(cross: dict[str, Any], self_: dict[str, Any]) -> list[Target]:
    """What a seed's two runs must reach."""
    seed = cross["seed"]
    found = [
        Target(name=f"seed {seed}: training", measured=cross["minutes"], unit=" min", most=MINUTES)
    ]
    for modality, least in GAINS.items():
        speaker = 100 * accuracy(cross, modality, "speaker").value
        name = f"seed {seed}: speaker from {modality}"
        found.append(Target(name=name, measured=speaker, unit=" %", least=SPEAKER))
        digit = accuracy(cross, modality, "digit")
        assert digit.baseline is not None
        gain = 100 * (digit.value - digit.baseline)
        name = f"seed {seed}: digit from {modality}, gained"
        found.append(Target(name=name, measured=gain, unit=" points", least=least))
    ours, other = (accuracy(run, "video", "digit").value for run in (cross, self_))
    name = f"seed {seed}: digit from video, Cross over Self"
    advantage = 100 * (ours - other)
    return [*found, Target(name=name, measured=advantage, unit=" points", least=LEAST_ADVANTAGE)]


def main() -> int:
    """Run every seed with both variants."""
    options = arguments(__doc__ or "")
    targets: list[Target] = []
    runs = []
    kept = options.json.with_suffix("")
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        corpus = av_digits(Path(place), FEW if options.quick else 1)
        open_data(api.configure("tiny", settings=[f"data.corpus={corpus}", "data.cache=disk"]))
        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
            for seed in SEEDS[:1] if options.quick else SEEDS:
                started = [
                    pool.submit(trained, preset, seed, corpus, kept, options.quick)
                    for preset in ("tiny", "tiny-self")
                ]
                pair = [one.result() for one in started]
                runs += pair
                targets += targets_of(pair[0], pair[1])
    return finish(targets, {"runs": runs, "quick": options.quick}, options.json)


if __name__ == "__main__":
    sys.exit(main())
