"""ESC-10 by linear SVMs over its five folds, ten clips a recording: what encoders bring to sounds.

Encoders at their random initialisation; of Cross-AVID on av-digits; supervised on the labels of the
training folds, anew for each fold; and of a checkpoint in the published layout with random weights,
which shows the path at full size. The data set's own paper has 72.7 % for a random forest, and
95.7 % for people. With ``--runs FOLDER``, runs are kept there, and the whole may go on.

Training and evaluation are timed apart. An evaluation decodes, encodes and fits in this process
alone and finds nothing kept, so that its core-seconds are all that it takes; that of Cross-AVID
encodes by the random initialisation, too.
"""

import json
import shutil
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
TIMES = {
    "training_seconds": "training",
    "seconds": "evaluation",
    "core_seconds": "its core-seconds",
}
Figures = dict[str, float]
Found = list[Evaluation]
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
    """A folder with every eighth recording of each class."""
    for folder in sorted(one for one in media.iterdir() if one.is_dir()):
        (place / folder.name).mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.iterdir())[::8]:
            link = place / folder.name / path.name
            if not link.exists():
                link.symlink_to(path.resolve())
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
    shutil.rmtree(run / "evaluation" / "features", ignore_errors=True)
    settings = [f"evaluation.clips={clips}", f"evaluation.svm_clips={clips}"]
    settings += ["data.workers=0", "data.cache=none"]
    return api.evaluate(
        run, "svm", corpus=esc10, modality="audio", folds=folds, settings=settings, **options
    )


def training_seconds(run: Path) -> float:
    """How long a run was trained, also where it was stopped in between."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return float(max(line["time"] for line in lines if line["kind"] == "train"))


def figure(found: Found, baseline: bool = False) -> Figures:
    """Sample@1 in per cent: mean and deviation over folds."""
    values = []
    for one in found:
        if one.details["repeats"]:
            kind = "baselines" if baseline else "figures"
            values += [fold[kind]["svm/audio/label/Sample@1"] for fold in one.details["repeats"]]
        else:
            rows = [row for row in one.rows if (row.label, row.metric) == ("label", "Sample@1")]
            values += [row.baseline if baseline else row.value for row in rows]
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"accuracy": 100 * float(np.mean(values)), "deviation": 100 * deviation}


def main() -> int:
    """Measure the four kinds of encoders."""
    options = arguments(__doc__ or "", {"runs": "folder in which runs are kept"})
    media = DATA / "esc-10"
    if not media.is_dir():
        sys.exit(f"{media} is missing: nothing measured")
    arms: dict[str, Figures] = {}

    def measured(name: str, runs: list[Path], work: Callable[[], Found]) -> Found:
        began, used = time.monotonic(), time.process_time()
        found = work()
        arms[name] = figure(found) | {
            "training_seconds": sum(map(training_seconds, runs)),
            "seconds": time.monotonic() - began,
            "core_seconds": time.process_time() - used,
        }
        print(f"{name}: {arms[name]['accuracy']:.1f} % ({arms[name]['seconds']:.0f} s)", flush=True)
        return found

    with tempfile.TemporaryDirectory() as temporary:
        place = Path(options.runs or temporary).resolve()
        place.mkdir(parents=True, exist_ok=True)
        esc10 = place / "esc10.parquet"
        root = some(media, place / "esc-10") if options.quick else media
        api.scan([], esc10, layout="esc-10", root=root)
        corpus = av_digits(place, FEW if options.quick else 1)
        folds, clips = (FOLDS[:2], 1) if options.quick else (FOLDS, 10)
        run = pretrained(place, corpus, options.quick)
        learned = measured(
            "Cross-AVID on av-digits", [run], lambda: [svm(run, esc10, folds, clips)]
        )
        arms["random initialisation"] = figure(learned, baseline=True)
        by_fold = {fold: supervised(place, esc10, fold, options.quick) for fold in folds}
        measured(
            "supervised on the training folds",
            list(by_fold.values()),
            lambda: [
                svm(run, esc10, (fold,), clips, baseline=False) for fold, run in by_fold.items()
            ],
        )
        full = published(place)
        measured(
            "published layout, random weights",
            [],
            lambda: [svm(full, esc10, folds, clips, baseline=False)],
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
    table = [["encoder of sound", "Sample@1", "deviation over folds", *TIMES.values()]]
    table += [
        [
            encoder,
            f"{arm['accuracy']:.1f} %",
            f"{arm['deviation']:.1f}" if arm["deviation"] else "–",
            *(f"{arm[name]:.0f} s" if arm.get(name) else "–" for name in TIMES),
        ]
        for encoder, arm in sorted(arms.items(), key=lambda item: item[1]["accuracy"])
    ]
    table += [["random forest, in the data set's paper", f"{FOREST} %", "–", "–", "–"]]
    extra = {"arms": arms, "table": table, "quick": options.quick, "clips": clips}
    return finish(targets, {**extra, "seed": SEED, "folds": list(folds)}, options.json)


if __name__ == "__main__":
    sys.exit(main())
