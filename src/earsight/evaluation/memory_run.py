"""Evaluation of what a run remembers of its training clips (avid-cma table 6)."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from earsight.config import RunConfig
from earsight.corpus.instances import Instances
from earsight.encoders.pair import MODALITIES
from earsight.evaluation.bank import read_bank
from earsight.evaluation.features import Wanted
from earsight.evaluation.fits import Fitted, note_fit, unfinished
from earsight.evaluation.labels import LabelChoice, choose_labels, class_counts, unlabelled
from earsight.evaluation.load import Progress, evaluation_config, load_run, make_evaluator
from earsight.evaluation.memory import TEST_SHARE, memory_rows, split_groups
from earsight.evaluation.protocol import sample_rows
from earsight.evaluation.repeats import (
    Repeat,
    check_seeds,
    combine,
    repeats_tree,
    spread_text,
)
from earsight.evaluation.results import Evaluation, write_evaluation
from earsight.evaluation.rows import Row
from earsight.evaluation.texts import evaluation_name, protocol_facts
from earsight.training.devices import choose_device, describe_machine, prepare_machine
from earsight.training.run_folder import read_config
from earsight.training.setup import open_data

_PROTOCOL = (
    "Multinomial logistic regression on {what} of at most {probe_samples} training instances: of "
    "each modality, and of both side by side. Mean and deviation over five random splits, each "
    "fitted on 70 % of the instances and tested on 30 %."
)
_BANK = "the targets in the memory bank"
_KEYS = "the embeddings by the key encoders (the method keeps no bank), one centre clip each,"


def evaluate_memory(
    run: Path,
    *,
    corpus: Path | None = None,
    settings: Sequence[str] = (),
    seeds: int = 1,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate what a run remembers of its training clips; writes ``RUN/evaluation/memory.json``.

    Args:
        run: the run folder, of a method that keeps a memory bank of both modalities, or key
            encoders that are compared across modalities.
        corpus: the corpus that it was trained on, where that has moved.
        settings: ``evaluation.`` and ``data.`` settings to change.
        seeds: how often, from the run's seed on: of the splits.
        progress: told of decoded batches.

    Raises:
        ValueError: the run has neither, or its clips or their labels are not in the corpus.
    """
    began = time.monotonic()
    check_seeds(seeds)
    before = read_config(run)
    config = evaluation_config(before, corpus, settings)
    prepare_machine(config)
    notes: list[str] = []
    instances, targets, what = _remembered(run, config, progress, notes)
    chosen = _choose(instances, config)
    labels = {name: instances.labels[name] for name in chosen.train}
    if not labels:
        raise ValueError("the corpus has no labels to classify by; scan it again with --labels")
    fits: list[Fitted] = []
    repeats = [
        Repeat(seed=seed, fold=0, rows=_rows(targets, labels, instances.group, seed, fits))
        for seed in range(config.seed, config.seed + seeds)
    ]
    left_out = [str(chosen), *unlabelled({"training": labels})]
    protocol = _PROTOCOL.format(what=what, probe_samples=config.evaluation.probe_samples)
    evaluation = Evaluation(
        name=evaluation_name("memory", before, config, repeats),
        protocol=protocol + spread_text(repeats),
        seed=config.seed,
        corpus=config.data.corpus,
        weights=run.name,
        rows=tuple(combine(repeats)),
        seconds=time.monotonic() - began,
        details={
            "machine": describe_machine(choose_device(config.device)),
            "notes": [note for note in (*left_out, *notes, *unfinished(fits)) if note],
            "notices": [],
            "protocol": protocol_facts(
                config, "memory", repeats, len(instances), class_counts(labels)
            ),
            "fits": [asdict(fit) for fit in fits],
            "repeats": repeats_tree(repeats),
        },
    )
    write_evaluation(run, evaluation)
    return evaluation


def _choose(instances: Instances, config: RunConfig) -> LabelChoice:
    """The columns that the first split can be scored by."""
    tested = split_groups(instances.group, TEST_SHARE, config.seed, 0)
    return choose_labels(
        {name: codes[~tested] for name, codes in instances.labels.items()},
        {name: codes[tested] for name, codes in instances.labels.items()},
        config.evaluation.labels,
        instances.group[~tested],
    )


Remembered = tuple[Instances, Mapping[str, Tensor], str]
"""Instances, what is remembered of each by modality, and what that is."""


def _remembered(
    run: Path, config: RunConfig, progress: Progress | None, notes: list[str]
) -> Remembered:
    """The bank's targets, or what the key encoders make of the training instances."""
    loaded = load_run(run, choose_device(config.device))
    compared = {name for space in loaded.encoder.method.spaces for name in space}
    keys = {name: f"{name}_key" for name in MODALITIES}
    data = open_data(config, learning=False, once=True)
    if not compared & set(keys.values()):
        bank = read_bank(run, data.train)
        sampled = sample_rows(bank.instances, config.evaluation.probe_samples)
        targets = {name: x[sampled] for name, x in bank.targets.items()}
        return bank.instances.take(sampled), targets, _BANK
    evaluator = replace(
        make_evaluator(config, data, loaded.inputs, progress=progress, tell=notes.append),
        cache=run / "evaluation" / "features",
    )
    sampled = sample_rows(data.train, config.evaluation.probe_samples)
    features = evaluator.features(data.train, sampled, [loaded.encoder], Wanted())[0]
    targets = {name: features.embedding[key] for name, key in keys.items()}
    return data.train.take(features.row.numpy()), targets, _KEYS


def _rows(
    targets: Mapping[str, Tensor],
    labels: Mapping[str, NDArray[np.integer]],
    groups: NDArray[np.object_],
    seed: int,
    fits: list[Fitted],
) -> tuple[Row, ...]:
    codes = {name: x.astype(np.int64) for name, x in labels.items()}
    note = partial(note_fit, fits, task="memory", seed=seed)
    return tuple(memory_rows(targets, codes, groups, seed=seed, note=note))
