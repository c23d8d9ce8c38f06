"""How well agreement finds clips of the same kind, and what the memory is like (avid-cma §4)."""

from collections.abc import Callable, Mapping, Sequence
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight import random
from earsight.evaluation.bank import Bank
from earsight.evaluation.rows import PRECISION, Row
from earsight.selection.agreement import Agreement, Mined, mine

CRITERIA: tuple[Agreement, ...] = get_args(Agreement)
PAIRS = 100_000
"""Random pairs over which the mean inner product is taken."""

Progress = Callable[[int, int], None]


def find_positives(
    bank: Bank, count: int, queries: NDArray[np.int64], progress: Progress | None = None
) -> dict[Agreement, Mined]:
    """The ``count`` rows that agree most with each query, by every criterion."""
    asked = torch.from_numpy(queries)
    found: dict[Agreement, Mined] = {}
    for at, criterion in enumerate(CRITERIA):
        found[criterion] = mine(
            bank.targets["video"], bank.targets["audio"], count, agreement=criterion, queries=asked
        )
        if progress is not None:
            progress(at + 1, len(CRITERIA))
    return found


def counts_up_to(most: int) -> list[int]:
    """Powers of two below ``most``, and ``most``."""
    return [*(2**n for n in range(most.bit_length()) if 2**n < most), most]


def precision_rows(
    name: str,
    positives: Tensor,
    queries: NDArray[np.int64],
    labels: Mapping[str, NDArray[np.int64]],
) -> list[Row]:
    """``precision@K`` of positives against labels, for K of 1, 2, 4, … and all (fig. 4c).

    The share of each query's first K positives that have its label, averaged over queries. Queries
    without a label, and positives without one, are left out.

    Args:
        name: of the criterion.
        positives: ``(Q, k)`` rows, best first; -1 for none.
        queries: ``(Q,)`` their rows.
        labels: column to ``(N,)`` codes, -1 where there is none.
    """
    rows = []
    for label, codes in labels.items():
        values, known = precisions(positives, queries, codes)
        chance = same_label_chance(codes)
        rows += [
            Row(
                task="agreement",
                modality=name,
                label=label,
                metric=f"{PRECISION}{count}",
                value=value,
                chance=chance,
                n=known,
            )
            for count, value in zip(counts_up_to(positives.shape[1]), values, strict=True)
        ]
    return rows


def precisions(
    positives: Tensor, queries: NDArray[np.int64], codes: NDArray[np.int64]
) -> tuple[list[float], int]:
    """``precision@K`` per K, and over how many queries."""
    found = positives.numpy()
    own = codes[queries][:, None]
    # The entry after the last is that of -1, no positive.
    theirs = np.append(codes, -1)[found]
    judged = (theirs >= 0) & (own >= 0)
    right = judged & (theirs == own)
    values = []
    for count in counts_up_to(found.shape[1]):
        seen = judged[:, :count].sum(axis=1)
        share = right[:, :count].sum(axis=1)[seen > 0] / seen[seen > 0]
        values.append(float(share.mean()) if len(share) else 0.0)
    return values, int(judged.any(axis=1).sum())


def same_label_chance(codes: NDArray[np.int64]) -> float:
    """How often two different random clips that have labels have the same one."""
    sizes = np.bincount(codes[codes >= 0]).astype(np.float64)
    total = sizes.sum()
    return float((sizes * (sizes - 1)).sum() / (total * (total - 1))) if total > 1 else 0.0


def calibration_rows(bank: Bank, seed: int) -> list[Row]:
    """Mean inner product of random pairs of different rows, per modality (avid-cma §4.2)."""
    size, draws = len(bank), np.arange(PAIRS)
    first = random.integers(seed, "pairs/first", draws, size)
    second = random.integers(seed, "pairs/second", draws, size - 1)
    second += second >= first
    return [
        Row(
            task="agreement",
            modality=modality,
            metric="mean_inner_product",
            value=float((x[first].double() * x[second].double()).sum(dim=1).mean()),
            n=PAIRS,
        )
        for modality, x in bank.targets.items()
    ]


def similarities(bank: Bank, row: int, others: Sequence[int]) -> list[tuple[float, float]]:
    """Similarity of pictures and of sound between a row and others."""
    at = list(others)
    pairs = [(x[at] @ x[row]).tolist() for x in bank.targets.values()]
    return list(zip(*pairs, strict=True))
