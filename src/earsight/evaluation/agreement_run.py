"""Evaluation of a run's memory by agreement: figures, and clips to look at and listen to."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight.config import RunConfig
from earsight.evaluation.agreement import (
    calibration_rows,
    find_positives,
    precision_rows,
    similarities,
)
from earsight.evaluation.bank import Bank, read_bank
from earsight.evaluation.labels import choose_labels
from earsight.evaluation.load import evaluation_config
from earsight.evaluation.memory import memory_rows
from earsight.evaluation.protocol import sample_rows
from earsight.evaluation.results import Evaluation, write_evaluation
from earsight.evaluation.shown import ShownClip, ShownExample, shown_clip
from earsight.selection.agreement import Agreement, Mined
from earsight.training.devices import choose_device, describe_machine, prepare_machine
from earsight.training.run_folder import read_config
from earsight.training.setup import open_data

Progress = Callable[[int, int], None]

QUERIES = 10_000
"""At most so many rows, chosen by their keys, are queries."""

_EXAMPLES = 8
_POSITIVES = 4
_LOOK_ALIKES = 2

AGREE = "agree in both"
REJECTED: Mapping[Agreement, str] = {
    "video": "rejected: alike in picture alone",
    "audio": "rejected: alike in sound alone",
}
"""Titles of what stands beside a reference: modality that is alike to title."""

_PROTOCOL = (
    "Memory targets of {rows} training clips. precision@K: share of the K rows that agree most "
    "with a row (least similar modality: min; one modality: video, audio; most similar: either) "
    "and have its label, over {queries} rows; positives are those a CMA run was last trained with. "
    "Mean inner product of 100,000 random pairs. Memory features: linear probes over five random "
    "70/30 splits by group, of at most {probe_samples} rows."
)


def evaluate_agreement(
    run: Path,
    *,
    corpus: Path | None = None,
    settings: Sequence[str] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate the memory bank of a run; writes ``RUN/evaluation/agreement.json``.

    Args:
        run: the run folder, of a method that keeps a bank of both modalities.
        corpus: the corpus that it was trained on, where that has moved.
        settings: ``evaluation.`` settings to change.
        progress: told of criteria searched, and of how many.

    Raises:
        ValueError: there is no such bank, its clips are not in the corpus, or a setting or label
            cannot be used.
    """
    began = time.monotonic()
    config = evaluation_config(read_config(run), corpus, settings)
    prepare_machine(config)
    train = open_data(config, learning=False, once=True).train
    bank = read_bank(run, train)
    count = min(config.evaluation.positives, len(bank) - 1)
    if count < 1:
        raise ValueError(f"{run} has visited {len(bank)} clips of this corpus; two are needed")
    queries = sample_rows(bank.instances, QUERIES)
    found = find_positives(bank, count, queries, progress)
    labels, notes = _labels(config, bank)
    rows = [
        r
        for name, mined in found.items()
        for r in precision_rows(name, mined.rows, queries, labels)
    ]
    if bank.positives is not None:
        used = bank.positives[torch.from_numpy(queries)]
        rows += precision_rows("positives", used, queries, labels)
    rows += calibration_rows(bank, config.seed)
    sampled = sample_rows(bank.instances, config.evaluation.probe_samples)
    rows += memory_rows(
        {name: x[sampled] for name, x in bank.targets.items()},
        {name: codes[sampled] for name, codes in labels.items()},
        bank.instances.group[sampled],
        seed=config.seed,
    )
    evaluation = Evaluation(
        name="agreement",
        protocol=_PROTOCOL.format(
            rows=len(bank), queries=len(queries), probe_samples=config.evaluation.probe_samples
        ),
        seed=config.seed,
        corpus=config.data.corpus,
        weights=run.name,
        rows=tuple(rows),
        seconds=time.monotonic() - began,
        details={
            "machine": describe_machine(choose_device(config.device)),
            "notes": [*_left_out(config, bank, count), *notes],
            "notices": [],
            "examples": [one.as_dict() for one in examples(bank, queries, found)],
        },
    )
    write_evaluation(run, evaluation)
    return evaluation


def _labels(config: RunConfig, bank: Bank) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
    """Columns to hold positives against, and what to say of the others."""
    every = bank.instances.labels
    chosen = choose_labels(every, every, config.evaluation.labels)
    found = {
        name: codes.astype(np.int64) for name, codes in chosen.train.items() if _repeats(codes)
    }
    notes = [str(chosen)] if str(chosen) else []
    alone = [name for name in chosen.train if name not in found]
    notes += [f"label {name} left out: no two clips have the same" for name in alone]
    if not found:
        notes.append(
            "no labels, so no precision and no memory features; scan the corpus again with --labels"
        )
    return found, notes


def _repeats(codes: NDArray[np.integer]) -> bool:
    return codes.ndim == 1 and bool((np.bincount(codes[codes >= 0]) > 1).any())


def _left_out(config: RunConfig, bank: Bank, count: int) -> list[str]:
    gone, new = bank.left_out
    notes = [f"{gone} clips of the bank are no longer in the corpus"] if gone else []
    notes += [f"{new} clips were never visited, and are left out"] if new else []
    wanted = config.evaluation.positives
    notes += [f"{count} positives instead of {wanted}: there are no more"] if count < wanted else []
    return notes


def examples(
    bank: Bank, queries: NDArray[np.int64], found: dict[Agreement, Mined]
) -> list[ShownExample]:
    """Evenly spaced rows with what agrees with them, and what only seems to: none is picked.

    Rejected are, of the nearest in one modality, those that differ most in the other.
    """
    step = max(1, len(queries) // _EXAMPLES)
    made = []
    for at in range(0, len(queries), step)[:_EXAMPLES]:
        reference = int(queries[at])
        positives = found["min"].rows[at].tolist()
        groups = {AGREE: _alike(bank, reference, positives[:_POSITIVES])}
        for modality, title in REJECTED.items():
            near = found[modality].rows[at]
            groups[title] = _rejected(bank, reference, near, positives)
        made.append(
            ShownExample(
                reference=shown_clip(bank.instances, reference),
                groups={title: clips for title, clips in groups.items() if clips},
            )
        )
    return made


def _rejected(
    bank: Bank, reference: int, nearest: Tensor, positives: Sequence[int]
) -> tuple[ShownClip, ...]:
    """Of the nearest in one modality that are no positives, those least alike in the other."""
    alike = _alike(bank, reference, [row for row in nearest.tolist() if row not in positives])
    return tuple(sorted(alike, key=lambda one: min(one.of.values()))[:_LOOK_ALIKES])


def _alike(bank: Bank, reference: int, rows: Sequence[int]) -> tuple[ShownClip, ...]:
    both = similarities(bank, reference, rows)
    return tuple(
        shown_clip(bank.instances, row, video=video, audio=audio)
        for row, (video, audio) in zip(rows, both, strict=True)
    )
