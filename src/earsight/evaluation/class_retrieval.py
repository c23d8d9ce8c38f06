"""Retrieval of items of the same class: recall, the first right one's rank, average precision."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight import random
from earsight.evaluation.checks import check_unit, check_width, chunks
from earsight.evaluation.labels import has_label
from earsight.evaluation.rows import Metric

KS = (1, 5, 10, 20)

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """Retrieval of items that share a class with the query.

    Attributes:
        n: queries that have such items in the gallery; the others are left out.
        recall: for each ``k``, the share of queries with such an item among the first ``k``.
        median_rank: median over queries of the first such item's rank, which starts at 1.
        precision: mean over queries of the average precision (mAP).
        chance: of each metric, in a gallery in random order.
    """

    n: int
    recall: Mapping[int, float]
    median_rank: float
    precision: float
    chance: Mapping[str, float]

    def metrics(self) -> dict[str, Metric]:
        """``R@k`` for each ``k``, ``median_rank`` and ``mAP``."""
        values = {f"R@{k}": value for k, value in self.recall.items()}
        values |= {"median_rank": self.median_rank, "mAP": self.precision}
        return {name: Metric(value=x, chance=self.chance[name]) for name, x in values.items()}


def retrieve_classes(
    query: Tensor,
    gallery: Tensor,
    query_labels: Tensor,
    gallery_labels: Tensor,
    *,
    seed: int = 0,
    ks: Sequence[int] = KS,
) -> ClassScores:
    """Rank a gallery for every query by cosine similarity; right are items that share a class.

    Equal similarities are taken in a random order that the seed decides. Items without a label are
    left out of the gallery: nothing says that they are wrong.

    Args:
        query: ``(Q, D)`` features; their length does not matter.
        gallery: ``(G, D)``.
        query_labels: ``(Q,)`` classes, negative for none, or ``(Q, classes)`` with 1 where one
            holds.
        gallery_labels: ``(G,)`` or ``(G, classes)`` likewise.
        seed: of the order of equals.
        ks: cut-offs of the recall, positive.

    Raises:
        ValueError: sizes that do not fit, features that are not finite, or no query with an item
            of its class in the gallery.
    """
    check_width(query, gallery, "queries and gallery")
    q, g = check_unit("queries", query), check_unit("gallery", gallery)
    labelled = torch.from_numpy(has_label(gallery_labels.numpy()))
    g, gallery_labels = g[labelled], gallery_labels[labelled]
    if not len(g):
        raise ValueError("nothing in the gallery has a label; label more of it")
    order = random.uniform(seed, "retrieval/ties", np.arange(len(g))).argsort(kind="stable")
    shuffled = torch.from_numpy(order)
    g, labels = g[shuffled], gallery_labels[shuffled]
    first, precision, counts = [], [], []
    begin = 0
    for part in chunks(q, len(g)):
        right = _shared(query_labels[begin : begin + len(part)], labels)
        begin += len(part)
        ranked = (part @ g.T).argsort(dim=1, descending=True, stable=True).cpu()
        hits = right.gather(1, ranked)
        known = hits.any(dim=1)
        hits = hits[known]
        first.append(hits.float().argmax(dim=1) + 1)
        place = torch.arange(1, len(g) + 1, dtype=torch.float64)
        precisions = hits.cumsum(dim=1) / place * hits
        counts.append(hits.sum(dim=1))
        precision.append(precisions.sum(dim=1) / counts[-1])
    rank, relevant = torch.cat(first).numpy(), torch.cat(counts).numpy()
    if not len(rank):
        raise ValueError("no query has an item of its class in the gallery; label more of both")
    return ClassScores(
        n=len(rank),
        recall={k: float((rank <= k).mean()) for k in ks},
        median_rank=float(np.median(rank)),
        precision=float(torch.cat(precision).mean()),
        chance=_chance(relevant.astype(np.int64), len(g), ks),
    )


def unmatched(asked: NDArray[np.integer], known: NDArray[np.integer]) -> tuple[int, list[int], int]:
    """Labelled queries that share a class with nothing in the gallery.

    Args:
        asked: ``(Q,)`` classes of the queries, negative for none, or ``(Q, classes)``, 1 where one
            holds.
        known: ``(G,)`` or ``(G, classes)``, of the gallery.

    Returns:
        How many they are, their classes, and how many of the others there are.
    """
    labelled = has_label(asked)
    if asked.ndim == 1:
        found = labelled & np.isin(asked, known)
        classes = np.unique(asked[labelled & ~found])
    else:
        found = np.asarray((asked.astype(bool) & known.any(axis=0)).any(axis=1))
        classes = np.flatnonzero(asked[labelled & ~found].any(axis=0))
    return int((labelled & ~found).sum()), classes.tolist(), int(found.sum())


def _shared(query: Tensor, gallery: Tensor) -> Tensor:
    """``(Q, G)`` bool: whether both have a class in common."""
    if query.ndim == 1:
        return (query[:, None] == gallery[None]) & (query[:, None] >= 0)
    return (query.float() @ gallery.float().T) > 0


def _chance(relevant: NDArray[np.int64], size: int, ks: Sequence[int]) -> dict[str, float]:
    """Every metric's expectation in a random order of ``size`` items, ``relevant`` of them right.

    Of average precision it is ``(R−1)/(G−1) + (G−R)/(G(G−1))·H_G``, with ``H_G`` the harmonic
    number; the median rank is the first at which half of all queries have found an item.
    """
    missed = _missed(relevant, size)
    found = 1 - missed.mean(axis=0)
    chance = {f"R@{k}": float(found[min(k, size)]) for k in ks}
    harmonic = sum(1 / n for n in range(1, size + 1))
    rest = max(1, size - 1)
    precision = (relevant - 1) / rest + (size - relevant) / (size * rest) * harmonic
    median = float(np.argmax(found >= 0.5))
    return chance | {"median_rank": median, "mAP": float(precision.mean()) if size > 1 else 1.0}


def _missed(relevant: NDArray[np.int64], size: int) -> Floats:
    """``(Q, G + 1)``: with which probability the first ``k`` hold nothing right."""
    kinds, place = np.unique(relevant, return_inverse=True)
    logs = np.array([math.lgamma(n + 1) for n in range(size + 1)])
    taken = np.arange(size + 1)
    rows = []
    for count in kinds.tolist():
        left = size - count - taken
        possible = left >= 0
        log = logs[size - count] - logs[np.maximum(left, 0)] - logs[size] + logs[size - taken]
        rows.append(np.where(possible, np.exp(log), 0.0))
    return np.stack(rows)[place]
