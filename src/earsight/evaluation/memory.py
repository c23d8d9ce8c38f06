"""Memory features: what a linear classifier reads off a run's memory bank (avid-cma table 6)."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight import random
from earsight.evaluation.fits import Note
from earsight.evaluation.probe import probe
from earsight.evaluation.rows import Row

SPLITS = 5
TEST_SHARE = 0.3


def memory_rows(
    targets: Mapping[str, Tensor],
    labels: Mapping[str, NDArray[np.int64]],
    groups: NDArray[np.object_],
    *,
    seed: int,
    note: Note | None = None,
) -> list[Row]:
    """Accuracy over five random 70/30 splits of linear probes: of each modality, and of both.

    Groups stay whole, so the test part has about 30 % of the rows.

    Args:
        targets: modality to ``(N, D)``.
        labels: column to ``(N,)`` codes, -1 where there is none.
        groups: ``(N,)``, which no split divides.
        seed: decides the splits.
        note: told of the scores of every probe.

    Returns:
        For each label, modality and ``both``: ``accuracy``, the mean over splits, beside the share
        of the most frequent class, and ``accuracy_deviation``.
    """
    features = {**targets, "both": torch.cat(list(targets.values()), dim=1)}
    rows = []
    for label, codes in labels.items():
        known = np.flatnonzero(codes >= 0)
        truth = torch.from_numpy(codes[known])
        tested = [split_groups(groups[known], TEST_SHARE, seed, n) for n in range(SPLITS)]
        for name, x in features.items():
            found = [
                probe(
                    x[known][~test],
                    truth[~test],
                    x[known][test],
                    truth[test],
                    seed=seed,
                    groups=groups[known][~test],
                )
                for test in tested
            ]
            if note is not None:
                for scores in found:
                    note(scores, modality=name, label=label)
            accuracy = np.array([scores.accuracy for scores in found])
            chance = float(np.mean([scores.chance for scores in found]))
            rows += [
                _row(name, label, "accuracy", float(accuracy.mean()), len(known), chance),
                _row(name, label, "accuracy_deviation", float(accuracy.std(ddof=1)), len(known)),
            ]
    return rows


def split_groups(
    groups: NDArray[np.object_], share: float, seed: int, number: int
) -> NDArray[np.bool_]:
    """Mark about a ``share`` of the samples, whole groups in random order.

    Args:
        groups: ``(N,)`` names.
        share: of the samples.
        seed: with ``number``, decides the order.
        number: of the split.

    Raises:
        ValueError: there is one group only.
    """
    _, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group)
    if len(sizes) < 2:
        raise ValueError("memory features need two groups of clips at least, and there is one")
    order = np.argsort(random.uniform(seed, "memory/split", np.arange(len(sizes)), number))
    before = np.cumsum(sizes[order]) - sizes[order]
    taken = before < share * len(group)
    taken[-1] = False
    return np.isin(group, order[taken])


def _row(
    modality: str, label: str, metric: str, value: float, n: int, chance: float | None = None
) -> Row:
    return Row(
        task="memory",
        modality=modality,
        label=label,
        metric=metric,
        value=value,
        chance=chance,
        n=n,
    )
