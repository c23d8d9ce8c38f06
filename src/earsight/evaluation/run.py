"""Evaluation of a finished run: its encoders, its held-out clips, the file that it leaves."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from earsight.config import ConfigError, RunConfig, Tree, as_tree, merge, override, parse
from earsight.corpus.instances import Instances, instances
from earsight.corpus.manifest import read
from earsight.corpus.split import Task, folds_of
from earsight.evaluation.features import Encoder, Features
from earsight.evaluation.labels import choose_labels, class_counts
from earsight.evaluation.protocol import Evaluator, Shared, sample_rows
from earsight.evaluation.repeats import Repeat, combine, repeats_tree, spread_text
from earsight.evaluation.results import Evaluation, write_evaluation
from earsight.evaluation.tasks import evaluate_tasks
from earsight.presets.protocols import load_for
from earsight.training.devices import (
    choose_device,
    describe_machine,
    prepare_machine,
    worker_count,
)
from earsight.training.origin import Origin, read_origin
from earsight.training.run_folder import load_encoders, read_config
from earsight.training.setup import Data, build_method, build_model, open_data, task_of
from earsight.transforms.inputs import Inputs

Progress = Callable[[int, int], None]

_CLASSIFIED = (
    "{clips} evenly spaced clips averaged; fitted on at most {probe_samples} training instances."
)

TASK_OF: Mapping[str, Task] = {"video": "video", "audio": "audio"}
"""Modality to what is needed of an instance to evaluate it alone."""

PROTOCOLS = {
    "retrieve": (
        "Cross-modal retrieval of held-out clips in a fixed gallery of at most {gallery}, one "
        "centre clip each, within the spaces that the method trains to agree; of both directions "
        "together, the mean log-rank and its deviation if pairs were matched at random. By label, "
        "retrieval of training instances (at most {probe_samples}) of the same class by held-out "
        "ones, {clips} evenly spaced clips averaged: within a modality by pooled features before "
        "any head, across by the spaces' embeddings; equals in random order."
    ),
    "knn": f"Cosine kNN (k = 20) on pooled encoder features before any head, {_CLASSIFIED}",
    "probe": (
        "Multinomial logistic regression on standardised encoder features before any head: pooled, "
        "or the activations of blocks max-pooled to grids (12×12, 8×8, 6×6 and 4×4 cells for "
        f"blocks 1 to 4); C chosen on a tenth of the training split; {_CLASSIFIED}"
    ),
    "svm": (
        "One-vs-all linear SVMs (squared hinge loss) on standardised features of single clips, "
        "{svm_layer}, of which each training instance gives {svm_clips} and each held-out one "
        "{clips}, evenly spaced; C chosen on a tenth of the training split. Clip@1 scores single "
        "clips, Sample@1 the mean of an instance's scores. Fitted on at most {probe_samples} "
        "training instances."
    ),
    "classify": (
        "The run's own classifier on held-out clips: Clip@1 scores single clips, Sample@1 the mean "
        "class probabilities of {clips} evenly spaced clips."
    ),
}


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A run's encoders, ready to use; ``origin`` says where they come from if not from here."""

    config: RunConfig
    encoder: Encoder
    inputs: Inputs
    origin: Origin | None = None


def load_run(run: Path, device: torch.device, size: int = 2) -> Loaded:
    """Encoders, method and inputs of a finished run.

    Args:
        run: the run folder.
        device: where they are put.
        size: rows of the method's state (of no matter for its embeddings).

    Raises:
        ValueError: the folder is no run, or it has not finished.
    """
    read_config(run)
    saved = load_encoders(run / "encoders.safetensors")
    encoder = random_encoder(saved.config, device, size)
    encoder.model.load_state_dict(saved.model)
    if encoder.method.keys is not None:
        encoder.method.keys.load_state_dict(saved.keys)
    return Loaded(
        config=saved.config,
        encoder=encoder,
        inputs=saved.inputs.to(device),
        origin=read_origin(run),
    )


def random_encoder(config: RunConfig, device: torch.device, size: int = 2) -> Encoder:
    """The encoders of a run at their random initialisation."""
    model, method = build_model(config, device), build_method(config, size, device)
    method.attach(model)
    return Encoder(model=model, method=method)


def make_evaluator(
    config: RunConfig,
    data: Data,
    inputs: Inputs,
    *,
    task: Task | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> Evaluator:
    """The evaluator of a run under way: it keeps nothing, and probes pooled features alone."""
    return Evaluator(
        config=config,
        data=data,
        labels=choose_labels(data.train.labels, data.held_out.labels, config.evaluation.labels),
        inputs=inputs,
        device=choose_device(config.device),
        workers=worker_count(config),
        task=task or task_of(config),
        progress=progress,
        tell=tell,
    )


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
    if task not in PROTOCOLS:
        raise ValueError(
            f"{task!r} is no evaluation; choose one of {', '.join(PROTOCOLS)}, memory, agreement, "
            "negatives or finetune"
        )
    began = time.monotonic()
    device = choose_device(read_config(run).device)
    loaded = load_run(run, device)
    over: Tree = {} if preset is None else load_for((task,), preset).settings
    config = evaluation_config(loaded.config, corpus, settings, over)
    if not config.data.corpus:
        raise ValueError(f"{run} names no corpus; give one by --corpus, made with `earsight scan`")
    prepare_machine(config)
    wanted = task_named(modality, loaded.encoder) or task_of(config)
    notes: list[str] = []
    evaluators = [
        replace(one, blocks=config.evaluation.blocks, cache=run / "evaluation" / "features")
        for one in _evaluators(config, loaded.inputs, wanted, folds, progress, notes.append)
    ]
    repeats = []
    for number in range(seeds):
        encoders = [loaded.encoder]
        if baseline and task != "classify":
            encoders.append(random_encoder(replace(config, seed=config.seed + number), device))
        repeats += [_repeat(evaluator, task, encoders, number) for evaluator in evaluators]
    rows = combine(repeats)
    first = evaluators[0]
    if not any(row.task == task for row in rows):
        why = f" ({first.labels})" if str(first.labels) else ""
        raise ValueError(f"{_NOTHING[task]}{why}")
    left_out = str(first.labels) if task in ("knn", "probe", "svm") else ""
    evaluation = Evaluation(
        name=evaluation_name(task, loaded.config, config, modality),
        protocol=PROTOCOLS[task].format(**vars(config.evaluation)) + spread_text(repeats),
        seed=config.seed,
        corpus=config.data.corpus,
        weights=_weights(run, loaded),
        rows=tuple(rows),
        seconds=time.monotonic() - began,
        details={
            "machine": describe_machine(device),
            "notes": [*dict.fromkeys(note for note in (left_out, *notes) if note)],
            "notices": list(loaded.origin.notices) if loaded.origin else [],
            "protocol": protocol_facts(
                config, task, repeats, len(first.data.train), class_counts(first.labels.train)
            ),
            "repeats": repeats_tree(repeats),
        },
    )
    write_evaluation(run, evaluation)
    return evaluation


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
    keys = [one.data.held_out.key for one in made]
    keys += [
        one.data.train.key[sample_rows(one.data.train, config.evaluation.probe_samples)]
        for one in made
    ]
    corpus = read(Path(config.data.corpus))
    pool = instances(corpus, np.isin(corpus.column("key"), np.concatenate(keys)))
    shared: Shared = {}
    return [replace(one, pool=pool, shared=shared) for one in made]


def _repeat(evaluator: Evaluator, task: str, encoders: Sequence[Encoder], number: int) -> Repeat:
    seed = evaluator.config.seed + number
    own = replace(evaluator, config=replace(evaluator.config, seed=seed))
    rows = evaluate_tasks(own, _TASKS.get(task, (task,)), encoders)
    return Repeat(seed=seed, fold=evaluator.config.data.fold, rows=tuple(rows))


def chosen_folds(config: RunConfig, folds: Sequence[int] | Literal["all"]) -> tuple[int, ...]:
    """The folds to take in turn; none for the split of the manifest.

    Raises:
        ValueError: the corpus has no folds, or not these.
    """
    known = folds_of(read(Path(config.data.corpus))) if folds else ()
    if not folds:
        return ()
    if not known:
        raise ValueError(
            f"folds: {config.data.corpus} has no folds; scan a data set that has, by --layout, or "
            "with a label column `fold`"
        )
    wanted = known if folds == "all" else tuple(int(fold) for fold in folds)
    if strange := [fold for fold in wanted if fold not in known]:
        raise ValueError(
            f"folds: {config.data.corpus} has no fold {strange[0]}; it has "
            f"{', '.join(map(str, known))}"
        )
    return wanted


def evaluation_name(task: str, before: RunConfig, config: RunConfig, modality: str | None) -> str:
    """What an evaluation's file is called: by its task, and by what is not the run's own."""
    parts = [task, *([modality] if modality else [])]
    if config.data.corpus != before.data.corpus:
        parts.append(plain_name(Path(config.data.corpus).stem))
    return "-".join(parts)


def plain_name(text: str) -> str:
    """Text as a part of a file's name."""
    return re.sub(r"[^\w-]", "_", text)


def protocol_facts(
    config: RunConfig,
    task: str,
    repeats: Sequence[Repeat],
    instances: int,
    classes: Mapping[str, int],
) -> dict[str, object]:
    """What tells one evaluation's figures from another's, as plain data.

    Args:
        config: of the evaluation.
        task: its name.
        repeats: its folds and seeds.
        instances: of the training split (of the first fold).
        classes: label column to its classes.
    """
    return {
        "task": task,
        "data": read(Path(config.data.corpus)).settings.layout,
        "folds": sorted({repeat.fold for repeat in repeats if repeat.fold}),
        "seeds": sorted({repeat.seed for repeat in repeats}),
        "clips": config.evaluation.clips,
        "frames": config.video.frames,
        "size": config.video.size,
        "instances": instances,
        "classes": dict(classes),
    }


def _weights(run: Path, loaded: Loaded) -> str:
    if loaded.origin is not None:
        return f"{run.name}, imported from {loaded.origin.weights}"
    return f"{run.name}, {loaded.config.train.epochs} epochs"


def embed_held_out(run: Path) -> tuple[Features, Instances]:
    """Embeddings of the run's held-out gallery, and the instances that its rows name."""
    loaded = load_run(run, choose_device(read_config(run).device))
    data = open_data(loaded.config, learning=False, once=True)
    evaluator = make_evaluator(loaded.config, data, loaded.inputs)
    return evaluator.gallery_features([loaded.encoder])[0], data.held_out


def evaluation_config(
    config: RunConfig, corpus: Path | None, settings: Sequence[str], over: Tree | None = None
) -> RunConfig:
    """The run's settings with those changed that do not change what was learned.

    Args:
        config: of the run.
        corpus: another one, or None.
        settings: changes.
        over: settings of a protocol, which come before these.

    Raises:
        ConfigError: names every setting that does, or that cannot be used.
    """
    wrong = [s for s in settings if not s.startswith(("evaluation.", "data.", "threads", "device"))]
    if wrong:
        raise ConfigError(
            [
                f"{s}: decides what was learned; only evaluation. and data. settings may change"
                for s in wrong
            ]
        )
    tree = merge(as_tree(config), over or {})
    return parse(with_corpus(override(tree, settings), corpus))


def with_corpus(tree: Tree, corpus: Path | None) -> Tree:
    """Settings for another corpus, if one is given."""
    if corpus is None:
        return tree
    return merge(tree, {"data": {"corpus": str(corpus.resolve())}})


_TASKS = {"retrieve": ("retrieve", "pairing", "geometry", "classes")}
"""What an evaluation measures, where that is more than its name."""

_NO_LABELS = "the corpus has no labels to classify by; scan it again with --labels"
_NOTHING = {
    "retrieve": (
        "this method trains no space in which pictures and sounds can be compared, and the corpus "
        "has no labels to retrieve by"
    ),
    "svm": _NO_LABELS,
    "knn": _NO_LABELS,
    "probe": _NO_LABELS,
    "classify": "this method has learned no classifier; only supervised runs have one",
}
