"""Fine-tunings of a run, over folds and seeds: each is a run of its own inside the run."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
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
from earsight.evaluation.folds import check_folds, chosen_folds
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
from earsight.evaluation.texts import protocol_facts, repeat_parts
from earsight.presets.protocols import load_for
from earsight.training.devices import prepare_machine
from earsight.training.distributed import join_ranks
from earsight.training.place import place, said_once
from earsight.training.resume import check_settings
from earsight.training.run import train
from earsight.training.run_folder import read_config
from earsight.training.setup import open_data
from earsight.training.start import check_started


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
    with said_once():
        check_seeds(seeds)
        check_folds(folds, settings)
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

    with said_once():
        first = configure()
        taken = chosen_folds(first, folds) or (first.data.fold,)
    repeats, found = [], []
    for seed in range(first.seed, first.seed + seeds):
        for fold in taken:
            with said_once():
                config = configure(f"seed={seed}", f"data.fold={fold}")
            folder = finetune_folder(run, before, config, protocol)
            found.append(_one(run, folder, config, preset, quiet, progress))
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
            "data": [one.details["data"] for one in found],
            "protocol": protocol_facts(
                first,
                found[0].rows[0].task,
                repeats,
                found[0].details["instances"],
                {label: len(first.method.classes)},
                preset=preset,
                trained=True,
            ),
            "repeats": repeats_tree(repeats),
        },
    )
    if place().rank == 0:
        write_evaluation(run, evaluation)
    return evaluation


@dataclass(frozen=True, kw_only=True)
class _State:
    """What there is of a fine-tuning.

    Attributes:
        begun: its training has begun.
        finished: it has ended.
        result: of a former test that still holds.
    """

    begun: bool
    finished: bool
    result: Evaluation | None = None


def _one(
    run: Path,
    folder: Path,
    config: RunConfig,
    preset: str | None,
    quiet: bool,
    progress: Progress | None,
) -> Evaluation:
    """One fine-tuning, trained to its end and tested; of several processes, by the first."""
    with said_once():
        state = _state(run, folder, config)
    if state.result is not None:
        return state.result
    if not state.finished:
        evaluate = online if config.evaluation.every else None
        try:
            train(config, folder, resume=state.begun, quiet=quiet, online=evaluate)
        except StoppedError as stopped:
            text = f"{stopped} (here: give the same command again)"
            raise StoppedError(stopped.signal, text) from stopped
    with join_ranks(prepare_machine(config), config.train.rank_timeout) as ranks:
        return ranks.on_main(
            lambda: finetune_result(run, folder, config, preset=preset, progress=progress)
        )


def _state(run: Path, folder: Path, config: RunConfig) -> _State:
    """What a former call has left of it.

    Raises:
        ValueError: it was begun with other settings or other clips or from other encoders, or the
            run has learned the labels of what is held out.
    """
    begun = (folder / "config.yaml").exists()
    finished = (folder / "encoders.safetensors").exists()
    if begun:
        _check_same(folder, config, finished)
        if config.start:
            check_started(folder, run)
    if finished:
        result = reported(run, folder, config, open_data(config, once=True))
        return _State(begun=begun, finished=True, result=result)
    learned_before(run, config)  # Before anything is trained.
    return _State(begun=begun, finished=False)


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
