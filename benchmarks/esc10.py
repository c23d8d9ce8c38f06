"""ESC-10 by linear SVMs over its five folds, ten clips a recording: what encoders bring to sounds.

Encoders at their random initialisation; of Cross-AVID on av-digits; supervised on the labels of the
training folds, anew for each fold; and of a checkpoint in the published layout with random weights,
which shows the path at full size. The data set's own paper has 72.7 % for a random forest, and
95.7 % for people. With ``--runs FOLDER``, runs are kept there, and the whole may go on.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import DATA, FEW, Target, arguments, av_digits, finish
from earsight import api
from earsight.encoders import build_pair
from earsight.encoders.released import PREFIXES
from earsight.evaluation.results import Evaluation

SEED = 41
FOREST = 72.7
FOLDS = (1, 2, 3, 4, 5)
COMMON = (f"seed={SEED}", "data.cache=disk", "evaluation.every=0", "evaluation.tasks=[geometry]")
QUICK = ("train.epochs=1", "train.epoch_samples=64")


def pretrained(place: Path, corpus: Path, quick: bool) -> Path:
    """A run of the preset ``study``: Cross-AVID on av-digits."""
    run = place / "av-digits"
    settings = [*COMMON, f"data.corpus={corpus}", "optimizer.milestones=[1]"]
    if not quick:
        settings = [*COMMON, f"data.corpus={corpus}"]
    return trained(run, "study", [*settings, *(QUICK if quick else ())])


def supervised(place: Path, esc10: Path, fold: int, quick: bool) -> Path:
    """A run that learned the labels of the folds other than ``fold`` from sound."""
    own = ["method.modality=audio", "method.label=label", f"data.fold={fold}"]
    lengths = ["train.epochs=60", "optimizer.lr=1e-3"]
    settings = [*COMMON, f"data.corpus={esc10}", *own, *lengths]
    return trained(
        place / f"supervised-{fold}", "tiny-supervised", [*settings, *(QUICK if quick else ())]
    )


def trained(run: Path, preset: str, settings: list[str]) -> Path:
    """A run, trained unless it is there."""
    if not (run / "encoders.safetensors").exists():
        config = api.configure(preset, settings=settings)
        api.pretrain(config, run, resume=(run / "config.yaml").exists(), quiet=True)
    return run


def some(media: Path, place: Path) -> Path:
    """A folder with every fifth recording of each class."""
    for folder in sorted(one for one in media.iterdir() if one.is_dir()):
        (place / folder.name).mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.iterdir())[::5]:
            (place / folder.name / path.name).symlink_to(path.resolve())
    return place


def published(place: Path) -> Path:
    """A run imported from a checkpoint in the published layout, of random weights."""
    run = place / "published"
    if run.exists():
        return run
    torch.manual_seed(SEED)
    pair = build_pair(api.configure("avid-published"))
    theirs = {ours: name for name, ours in PREFIXES.items()}
    names = {name: name.split(".", 1) for name in pair.state_dict()}
    model = {theirs[f"{part}."] + rest: pair.state_dict()[n] for n, (part, rest) in names.items()}
    torch.save({"model": model, "epoch": 1}, place / "random.pth.tar")
    np.savez(place / "statistics.npz", mean=np.full(257, -30.0), std=np.full(257, 10.0))
    api.import_avid(place / "random.pth.tar", run, audio_stats=place / "statistics.npz")
    return run


def svm(run: Path, esc10: Path, folds: tuple[int, ...], clips: int, **options: Any) -> Evaluation:
    """An SVM on the sounds of ESC-10."""
    settings = [f"evaluation.clips={clips}", f"evaluation.svm_clips={clips}"]
    return api.evaluate(
        run, "svm", corpus=esc10, modality="audio", folds=folds, settings=settings, **options
    )


def figure(found: list[Evaluation], baseline: bool = False) -> dict[str, float]:
    """Sample@1 in per cent: mean and deviation over folds."""
    values = []
    for one in found:
        rows = [row for row in one.rows if row.metric == "Sample@1"]
        repeats = one.details["repeats"]
        if baseline:
            values += [row.baseline for row in rows if row.baseline is not None]
        elif repeats:
            values += [fold["figures"]["svm/audio/label/Sample@1"] for fold in repeats]
        else:
            values += [row.value for row in rows]
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"accuracy": 100 * float(np.mean(values)), "deviation": 100 * deviation}


def main() -> int:
    """Measure the four kinds of encoders."""
    options = arguments(__doc__ or "", {"runs": "folder in which runs are kept"})
    media = DATA / "esc-10"
    if not media.is_dir():
        sys.exit(f"{media} is missing: nothing measured")
    arms: dict[str, dict[str, float]] = {}

    def measured(name: str, work: Callable[[], dict[str, float]]) -> None:
        began, used = time.monotonic(), sum(os.times()[:4])
        arms[name] = work()
        arms[name] |= {
            "seconds": time.monotonic() - began,
            "core_seconds": sum(os.times()[:4]) - used,
        }
        print(f"{name}: {arms[name]['accuracy']:.1f} % ({arms[name]['seconds']:.0f} s)", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        place = Path(options.runs or temporary).resolve()
        place.mkdir(parents=True, exist_ok=True)
        esc10 = place / "esc10.parquet"
        root = some(media, place / "esc-10") if options.quick else media
        api.scan([], esc10, layout="esc-10", root=root)
        corpus = av_digits(place, FEW if options.quick else 1)
        folds, clips = (FOLDS[:1], 1) if options.quick else (FOLDS, 10)
        run = pretrained(place, corpus, options.quick)
        learned: list[Evaluation] = []

        def from_digits() -> dict[str, float]:
            learned.append(svm(run, esc10, folds, clips))
            return figure(learned)

        def by_labels() -> dict[str, float]:
            runs = {fold: supervised(place, esc10, fold, options.quick) for fold in folds}
            return figure(
                [svm(runs[fold], esc10, (fold,), clips, baseline=False) for fold in folds]
            )

        measured("Cross-AVID on av-digits", from_digits)
        arms["random initialisation"] = figure(learned, baseline=True)
        measured("supervised on the training folds", by_labels)
        measured(
            "published layout, random weights",
            lambda: figure([svm(published(place), esc10, folds, clips, baseline=False)]),
        )
    targets = [
        Target(
            name="Cross-AVID on av-digits over random initialisation",
            measured=arms["Cross-AVID on av-digits"]["accuracy"]
            - arms["random initialisation"]["accuracy"],
            unit=" points",
            least=0.0,
        )
    ]
    table = [["encoder of sound", "Sample@1", "deviation over folds", "time", "core time"]]
    table += [
        [
            name,
            f"{arm['accuracy']:.1f} %",
            f"{arm['deviation']:.1f}" if arm["deviation"] else "–",
            f"{arm['seconds']:.0f} s" if "seconds" in arm else "–",
            f"{arm['core_seconds']:.0f} s" if "core_seconds" in arm else "–",
        ]
        for name, arm in sorted(arms.items(), key=lambda item: item[1]["accuracy"])
    ]
    table += [["random forest, in the data set's paper", f"{FOREST} %", "–", "–", "–"]]
    extra = {"arms": arms, "table": table, "quick": options.quick, "clips": clips}
    return finish(targets, {**extra, "seed": SEED, "folds": list(folds)}, options.json)


if __name__ == "__main__":
    sys.exit(main())
