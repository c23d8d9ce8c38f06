"""Fine-tunings of a run, over folds and seeds: each is a run of its own inside the run."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from earsight.config import ConfigError, RunConfig
from earsight.errors import StoppedError
from earsight.evaluation.finetune import (
    finetune_config,
    finetune_folder,
    finetune_result,
    learned_before,
    reported,
)
from earsight.evaluation.load import Progress
from earsight.evaluation.online import online
from earsight.evaluation.repeats import (
    Repeat,
    check_seeds,
    combine,
    repeats_tree,
    spread_text,
)
from earsight.evaluation.results import Evaluation, write_evaluation
from earsight.evaluation.run import chosen_folds
from earsight.evaluation.texts import protocol_facts, repeat_parts
from earsight.presets.protocols import load_for
from earsight.training.resume import check_settings
from earsight.training.run import train
from earsight.training.run_folder import read_config


def finetune(
    run: Path,
    *,
    modality: str,
    label: str,
    share: float = 1.0,
    scratch: bool = False,
    preset: str | None = None,
    corpus: Path | None = None,
    settings: Sequence[str] = (),
    folds: Sequence[int] | Literal["all"] = (),
    seeds: int = 1,
    quiet: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Train one encoder of a run further, as a classifier of labels, and test it on held-out clips.

    The fine-tuned run lies in ``RUN/evaluation/finetune/``. Called again, this goes on from its
    last checkpoint, or returns the figures of the finished one.

    Args:
        run: the run folder.
        modality: ``video`` or ``audio``.
        label: the label column.
        share: share of each class's training instances that is used.
        scratch: start from a random initialisation instead, with the same schedule.
        preset: name of a protocol of ``finetune``, whose settings are laid over the schedule; or of
            ``probe``, which trains linear layers on the frozen encoder.
        corpus: another corpus than the run's.
        settings: settings to change; the schedule is :data:`earsight.evaluation.finetune.SCHEDULE`.
        folds: official folds to take in turn, or all; empty for the split of the manifest.
        seeds: how often, from the run's seed on.
        quiet: show no progress of the training.
        progress: told of decoded batches of the test.

    Raises:
        ValueError: run, corpus or settings cannot be used, or a run of the same name was made with
            other settings.
        StoppedError: SIGINT or SIGTERM came; the state is saved.
    """
    began = time.monotonic()
    check_seeds(seeds)
    before = read_config(run)
    protocol = None if preset is None else load_for(("finetune", "probe"), preset)

    def configure(*more: str) -> RunConfig:
        return finetune_config(
            before,
            modality=modality,
            label=label,
            share=share,
            scratch=scratch,
            preset=protocol,
            corpus=corpus,
            settings=[*settings, *more],
        )

    first = configure()
    repeats, found = [], []
    for seed in range(first.seed, first.seed + seeds):
        for fold in chosen_folds(first, folds) or (first.data.fold,):
            config = configure(f"seed={seed}", f"data.fold={fold}")
            folder = finetune_folder(run, before, config, protocol)
            found.append(_one(run, folder, config, quiet, progress))
            repeats.append(Repeat(seed=seed, fold=fold, rows=found[-1].rows))
    if len(found) == 1:
        return found[0]
    each = finetune_folder(run, before, first, protocol).name.replace(f"-seed{first.seed}", "")
    evaluation = Evaluation(
        name="-".join(["finetune", each, *repeat_parts(repeats)]),
        protocol=found[0].protocol + spread_text(repeats),
        seed=first.seed,
        corpus=first.data.corpus,
        weights=run.name,
        rows=tuple(combine(repeats)),
        seconds=time.monotonic() - began,
        details={
            **found[0].details,
            "notes": [*dict.fromkeys(note for one in found for note in one.details["notes"])],
            "protocol": protocol_facts(
                first,
                found[0].rows[0].task,
                repeats,
                found[0].details["instances"],
                {label: len(first.method.classes)},
            ),
            "repeats": repeats_tree(repeats),
        },
    )
    write_evaluation(run, evaluation)
    return evaluation


def _one(
    run: Path, folder: Path, config: RunConfig, quiet: bool, progress: Progress | None
) -> Evaluation:
    """One fine-tuning, trained to its end and tested."""
    begun = (folder / "config.yaml").exists()
    finished = (folder / "encoders.safetensors").exists()
    if begun:
        _check_same(folder, config, finished)
    if not finished:
        learned_before(run, config)  # Before anything is trained.
        evaluate = online if config.evaluation.every else None
        try:
            train(config, folder, resume=begun, quiet=quiet, online=evaluate)
        except StoppedError as stopped:
            text = f"{stopped} (here: give the same command again)"
            raise StoppedError(stopped.signal, text) from stopped
    found = reported(run, folder.name, config) if finished else None
    return finetune_result(run, folder, config, progress) if found is None else found


def _check_same(folder: Path, config: RunConfig, finished: bool) -> None:
    """What was begun is gone on with by the same settings, and what is finished has them.

    Raises:
        ConfigError: names every setting that differs and may not.
    """
    before = read_config(folder)
    check_settings(before, config)
    if finished and before.train.epochs != config.train.epochs:
        raise ConfigError(
            [
                f"train.epochs: {folder} has finished {before.train.epochs}, now "
                f"{config.train.epochs}; give the old value, or delete the folder"
            ]
        )
