"""Evaluation of a finished run: its encoders, its held-out clips, the file that it leaves."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np

from earsight.config import ConfigError, RunConfig, Tree
from earsight.corpus.instances import instances
from earsight.corpus.manifest import read
from earsight.corpus.split import Task
from earsight.evaluation.categories import Category, categories_tree
from earsight.evaluation.features import Encoder
from earsight.evaluation.fits import Fitted, unfinished
from earsight.evaluation.folds import check_folds, chosen_folds, inherited_fold
from earsight.evaluation.labels import class_counts, fit_in_all, unlabelled
from earsight.evaluation.load import (
    Loaded,
    Progress,
    check_unseen,
    evaluation_config,
    load_run,
    make_evaluator,
    random_encoder,
)
from earsight.evaluation.protocol import Evaluator, Shared, sample_rows
from earsight.evaluation.repeats import (
    Repeat,
    check_seeds,
    combine,
    repeats_tree,
    spread_text,
)
from earsight.evaluation.results import Evaluation, write_evaluation
from earsight.evaluation.short import same_clips
from earsight.evaluation.tasks import evaluate_tasks
from earsight.evaluation.texts import NOTHING, PROTOCOLS, evaluation_name, protocol_facts
from earsight.presets.protocols import load_for
from earsight.training.devices import describe_machine, prepare_machine
from earsight.training.run_folder import read_config
from earsight.training.setup import open_data, task_of
from earsight.transforms.inputs import Inputs

TASK_OF: Mapping[str, Task] = {"video": "video", "audio": "audio"}
"""Modality to what is needed of an instance to evaluate it alone."""


def evaluate(
    run: Path,
    task: str,
    *,
    corpus: Path | None = None,
    settings: Sequence[str] = (),
    preset: str | None = None,
    modality: str | None = None,
    folds: Sequence[int] | Literal["all"] = (),
    seeds: int = 1,
    baseline: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a run's encoders beside their random initialisation; writes it into the run.

    Features are kept in ``RUN/evaluation/features/``: a second evaluation of the same instances
    with the same weights and settings decodes nothing.

    Args:
        run: the run folder.
        task: ``retrieve`` (with the geometry of the embedding), ``knn``, ``probe``, ``svm``, or,
            for a supervised run, ``classify``.
        corpus: another corpus than the run's.
        settings: ``evaluation.`` and ``data.`` settings to change.
        preset: name of a protocol whose settings come before these.
        modality: ``video`` or ``audio`` to evaluate that encoder alone, also on files without the
            other modality; None for what the run learned from.
        folds: official folds to take in turn, or all; empty for the split of the manifest.
        seeds: how often, from the run's seed on: of what is drawn, and of the random
            initialisation.
        baseline: measure the random initialisation too (not of a classifier).
        progress: told of decoded batches.

    Raises:
        ValueError: the run or corpus cannot be used for the task.
    """
    began = time.monotonic()
    _check_asked(task, seeds, baseline)
    check_folds(folds, settings)
    before = read_config(run)
    config = evaluation_config(before, corpus, settings, _settings_of(task, preset))
    if not config.data.corpus:
        raise ValueError(f"{run} names no corpus; give one by --corpus, made with `earsight scan`")
    device = prepare_machine(config)
    loaded = load_run(run, device)
    wanted = task_named(modality, loaded.encoder) or task_of(config)
    notes = inherited_fold(before, config, folds)
    fits: list[Fitted] = []
    categories: list[Category] = []
    cache, blocks = run / "evaluation" / "features", config.evaluation.blocks
    evaluators = [
        replace(one, blocks=blocks, cache=cache, fits=fits, categories=categories)
        for one in _evaluators(config, loaded.inputs, wanted, folds, progress, notes.append)
    ]
    held_out = np.unique(np.concatenate([one.data.held_out.key for one in evaluators]))
    notes += check_unseen(run, before, [one.config for one in evaluators], held_out)
    if seeds > 1 and task in _BASELINE_DRAWN:
        notes.append(
            "seeds: the random initialisation alone is drawn anew; the run's own figures stay the "
            "same, but for the order of equals"
        )
    repeats = []
    for number in range(seeds):
        encoders = [loaded.encoder]
        if baseline and task != "classify":
            encoders.append(random_encoder(replace(config, seed=config.seed + number), device))
        repeats += [_repeat(evaluator, task, encoders, number) for evaluator in evaluators]
    rows = combine(repeats)
    first = evaluators[0]
    by_labels = task in ("knn", "probe", "svm", "retrieve")
    left_out = [str(first.labels), *_without_label(evaluators)] if by_labels else []
    if by_labels and config.data.share < 1:
        notes.append(
            f"classifiers learn from {100 * config.data.share:g} % of the training clips, as the "
            "run did; data.share=1 takes all"
        )
    notes += same_clips(config, [one.data.held_out for one in evaluators])
    said = [*dict.fromkeys(note for note in (*left_out, *notes, *unfinished(fits)) if note)]
    if not any(row.task == task for row in rows):
        raise ValueError(NOTHING[task] + (f" ({'; '.join(said)})" if said else ""))
    evaluation = Evaluation(
        name=evaluation_name(
            task, loaded.config, config, repeats, modality=modality, preset=preset
        ),
        protocol=PROTOCOLS[task].format(**vars(config.evaluation)) + spread_text(repeats),
        seed=config.seed,
        corpus=config.data.corpus,
        weights=_weights(run, loaded),
        rows=tuple(rows),
        seconds=time.monotonic() - began,
        details={
            "machine": describe_machine(device),
            "notes": said,
            "notices": list(loaded.notices),
            "protocol": protocol_facts(
                config,
                task,
                repeats,
                _fitted(first, task),
                class_counts(first.labels.train),
                preset=preset,
            ),
            "fits": [asdict(fit) for fit in fits],
            "repeats": repeats_tree(repeats),
            "categories": categories_tree(categories),
        },
    )
    write_evaluation(run, evaluation)
    return evaluation


def _check_asked(task: str, seeds: int, baseline: bool) -> None:
    """Refuse what is no evaluation, and seeds of what draws nothing.

    Raises:
        ValueError: it is neither known nor sensible.
    """
    if task not in PROTOCOLS:
        raise ValueError(
            f"{task!r} is no evaluation; choose one of {', '.join(PROTOCOLS)}, memory, agreement, "
            "negatives or finetune"
        )
    check_seeds(seeds)
    if seeds > 1 and task == "classify":
        raise ValueError("seeds: has no effect on classify, which draws nothing; leave it out")
    if seeds > 1 and task in _BASELINE_DRAWN and not baseline:
        raise ValueError(
            f"seeds: has no effect on {task} without the random initialisation, which alone is "
            "drawn; measure that too, or leave seeds out"
        )


def _settings_of(task: str, preset: str | None) -> Tree:
    """What a protocol of the task sets.

    Raises:
        ConfigError: there is no such protocol, it is of another task, or it trains what it
            measures.
    """
    if preset is None:
        return {}
    found = load_for((task,), preset)
    if found.blocks:
        raise ConfigError(
            [f"protocol {preset!r} trains linear layers on augmented clips; use finetune with it"]
        )
    return found.settings


def task_named(modality: str | None, encoder: Encoder) -> Task | None:
    """The task of one modality, or None.

    Raises:
        ValueError: there is no such modality, or the run has no encoder of it.
    """
    known = encoder.model.encoders
    if modality is not None and modality not in known:
        raise ValueError(
            f"modality: {modality!r} is none of this run, which has {', '.join(known)}"
        )
    return TASK_OF[modality] if modality else None


def _evaluators(
    config: RunConfig,
    inputs: Inputs,
    task: Task,
    folds: Sequence[int] | Literal["all"],
    progress: Progress | None,
    tell: Callable[[str], None],
) -> list[Evaluator]:
    """One for each fold; what several share is decoded once."""
    made = []
    for fold in chosen_folds(config, folds) or (config.data.fold,):
        own = replace(config, data=replace(config.data, fold=fold))
        data = open_data(own, task=task, learning=False, once=True)
        made.append(make_evaluator(own, data, inputs, task=task, progress=progress, tell=tell))
    if len(made) == 1:
        return made
    choices = fit_in_all({one.config.data.fold: one.labels for one in made})
    made = [replace(one, labels=choices[one.config.data.fold]) for one in made]
    keys = [one.data.held_out.key for one in made]
    keys += [
        one.data.train.key[sample_rows(one.data.train, config.evaluation.probe_samples)]
        for one in made
    ]
    corpus = read(config.data.corpus)
    pool = instances(corpus, np.isin(corpus.column("key"), np.concatenate(keys)))
    shared: Shared = {}
    # A fold's own clips may lack what it leaves unused; a cache on disk is that of all folds.
    return [replace(one, pool=pool, shared=shared) for one in made]


def _without_label(evaluators: Sequence[Evaluator]) -> list[str]:
    """What to tell of clips that lack a label, of every fold."""
    return [
        text
        for one in evaluators
        for text in unlabelled(
            {"training": one.labels.train, "held-out": one.labels.held_out},
            f" of fold {one.config.data.fold}" if one.config.data.fold else "",
        )
    ]


def _fitted(evaluator: Evaluator, task: str) -> int:
    """Training instances that figures rest on: a run's own classifier has seen all."""
    every = len(evaluator.data.train)
    return every if task == "classify" else min(every, evaluator.config.evaluation.probe_samples)


def _repeat(evaluator: Evaluator, task: str, encoders: Sequence[Encoder], number: int) -> Repeat:
    seed = evaluator.config.seed + number
    own = replace(evaluator, config=replace(evaluator.config, seed=seed))
    fold = evaluator.config.data.fold
    try:
        rows = evaluate_tasks(own, _TASKS.get(task, (task,)), encoders)
    except ValueError as error:
        if evaluator.pool is None:
            raise
        raise ValueError(f"fold {fold}: {error}") from error
    return Repeat(seed=seed, fold=fold, rows=tuple(rows))


def _weights(run: Path, loaded: Loaded) -> str:
    if loaded.origin is not None:
        return f"{run.name}, imported from {loaded.origin.weights}"
    return f"{run.name}, {loaded.config.train.epochs} epochs"


_BASELINE_DRAWN = ("knn", "retrieve")
"""Tasks of which the random initialisation alone is drawn (and the order of equals)."""

_TASKS = {"retrieve": ("retrieve", "pairing", "geometry", "classes")}
"""What an evaluation measures, where that is more than its name."""
