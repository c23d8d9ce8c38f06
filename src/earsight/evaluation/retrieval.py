"""Retrieval: how near the top of a gallery a query finds its true match."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight.evaluation.checks import check_unit, check_width, chunks
from earsight.evaluation.rows import Metric

TIE = 1e-6
"""Cosine similarities no further apart than this are equal (a few units of float32's rounding)."""


_MOST_PAIRS = 4096


@dataclass(frozen=True, kw_only=True)
class RetrievalScores:
    """Retrieval of one true match per query; every value is averaged over random ties.

    Attributes:
        n: queries.
        gallery: candidates that each query ranks.
        recall: for each ``k``, the share of queries whose match is among the first ``k``.
        recall_chance: for each ``k``, ``min(k, G) / G``.
        median_rank: median over queries of the rank, which starts at 1.
        median_rank_chance: ``(G + 1) / 2``.
        mean_log_rank: mean natural logarithm of the rank.
        mean_log_rank_chance: ``log(G!) / G``.
    """

    n: int
    gallery: int
    recall: Mapping[int, float]
    recall_chance: Mapping[int, float]
    median_rank: float
    median_rank_chance: float
    mean_log_rank: float
    mean_log_rank_chance: float

    def metrics(self) -> dict[str, Metric]:
        """``R@k`` for each ``k``, ``median_rank`` and ``mean_log_rank``."""
        recall = {
            f"R@{k}": Metric(value=value, chance=self.recall_chance[k])
            for k, value in self.recall.items()
        }
        return {
            **recall,
            "median_rank": Metric(value=self.median_rank, chance=self.median_rank_chance),
            "mean_log_rank": Metric(value=self.mean_log_rank, chance=self.mean_log_rank_chance),
        }

    def as_dict(self) -> dict[str, float]:
        """Flat numbers: each metric, each ``chance/`` metric, ``gallery`` and ``queries``."""
        metrics = self.metrics()
        flat = {name: metric.value for name, metric in metrics.items()}
        flat |= {f"chance/{name}": m.chance for name, m in metrics.items() if m.chance is not None}
        return flat | {"gallery": self.gallery, "queries": self.n}


def retrieve(
    query: Tensor, gallery: Tensor, truth: Tensor | None = None, ks: Sequence[int] = (1, 5, 10)
) -> RetrievalScores:
    """Rank a gallery for every query, by cosine similarity.

    Candidates as similar as the true match (within 1e-6) are taken in random order, in expectation:
    a match with ``b`` better and ``e`` equal candidates has rank ``1 + b + e/2``, and is among the
    first ``k`` with probability ``clip((k − b) / (e + 1), 0, 1)``. A constant embedding therefore
    scores exactly chance.

    Args:
        query: ``(Q, D)`` embeddings; their length does not matter.
        gallery: ``(G, D)``.
        truth: ``(Q,)`` integers, the gallery row that is each query's match; None where ``Q = G``
            and the match is on the diagonal.
        ks: cut-offs of the recall, positive.

    Raises:
        ValueError: sizes that do not fit, embeddings that are not finite, a ``truth`` or cut-off
            out of range.
    """
    if any(k < 1 for k in ks):
        raise ValueError(f"the cut-offs of recall must be 1 or more, not {list(ks)}")
    better, equal = count_better(query, gallery, truth)
    size = len(gallery)
    rank = 1 + better + equal / 2
    # E[log rank] over b+1 … b+e+1 is a difference of log-factorials.
    log_rank = [
        (math.lgamma(b + e + 2) - math.lgamma(b + 1)) / (e + 1)
        for b, e in zip(better.tolist(), equal.tolist(), strict=True)
    ]
    return RetrievalScores(
        n=len(query),
        gallery=size,
        recall={k: float(np.clip((k - better) / (equal + 1), 0, 1).mean()) for k in ks},
        recall_chance={k: min(k, size) / size for k in ks},
        median_rank=float(np.median(rank)),
        median_rank_chance=(size + 1) / 2,
        mean_log_rank=float(np.mean(log_rank)),
        mean_log_rank_chance=math.lgamma(size + 1) / size,
    )


@dataclass(frozen=True, kw_only=True)
class PooledScores:
    """Retrieval both ways among pairs, held against pairing them at random.

    Attributes:
        n: pairs.
        mean_log_rank: over both directions.
        mean_log_rank_chance: ``log(n!) / n``.
        deviation: of ``mean_log_rank`` if pairs were matched at random, embeddings being as they
            are.
    """

    n: int
    mean_log_rank: float
    mean_log_rank_chance: float
    deviation: float

    def metrics(self) -> dict[str, Metric]:
        """``mean_log_rank`` and ``mean_log_rank_deviation``."""
        return {
            "mean_log_rank": Metric(value=self.mean_log_rank, chance=self.mean_log_rank_chance),
            "mean_log_rank_deviation": Metric(value=self.deviation),
        }


def retrieve_both_ways(
    first: Tensor, second: Tensor, back: tuple[Tensor, Tensor] | None = None
) -> PooledScores | None:
    """The mean log-rank of true pairs in both directions, and how far chance lets it stray.

    With ``L[i, j]`` the mean of the two log-ranks if ``j`` were the match of ``i``, the statistic
    is ``Σ_i L[i, π(i)] / n`` at the true pairing ``π``. Over random ``π`` its variance is exactly
    ``Σ_ij d_ij² / (n² (n − 1))``, ``d`` being ``L`` centred by rows and columns (Hoeffding, 1951).

    Args:
        first: ``(n, D)`` embeddings.
        second: ``(n, D)`` embeddings of the same clips.
        back: queries of the second modality and gallery of the first, where they are others than
            ``second`` and ``first``.

    Returns:
        None for more than 4,096 pairs, whose ranks would not fit into memory, or fewer than two.
    """
    size = len(first)
    if not 2 <= size <= _MOST_PAIRS:
        return None
    similarity = check_unit("queries", first) @ check_unit("gallery", second).T
    reverse = similarity.T
    if back is not None:
        reverse = check_unit("queries", back[0]) @ check_unit("gallery", back[1]).T
    table = (_log_ranks(similarity) + _log_ranks(reverse).T) / 2
    centred = table - table.mean(0) - table.mean(1, keepdim=True) + table.mean()
    return PooledScores(
        n=size,
        mean_log_rank=float(table.diagonal().mean()),
        mean_log_rank_chance=math.lgamma(size + 1) / size,
        deviation=float((centred.square().sum() / (size**2 * (size - 1))).sqrt()),
    )


def _log_ranks(similarity: Tensor) -> Tensor:
    """``(n, n)`` float64: the log-rank of each candidate of each query, averaged over equals."""
    ordered, place = similarity.sort(dim=1, descending=True)
    size = similarity.shape[1]
    logs = torch.arange(1, size + 1, dtype=torch.float64, device=similarity.device).log()
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[:, 1:] = ordered[:, :-1] - ordered[:, 1:] > TIE
    group = new.cumsum(1) - 1
    sums = torch.zeros_like(similarity, dtype=torch.float64)
    counts = torch.zeros_like(sums)
    sums.scatter_add_(1, group, logs.expand_as(sums))
    counts.scatter_add_(1, group, torch.ones_like(sums))
    means = (sums / counts.clamp(min=1)).gather(1, group)
    return torch.empty_like(sums).scatter_(1, place, means)


def count_better(
    query: Tensor, gallery: Tensor, truth: Tensor | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per query, how many candidates are more similar than the true match, and how many as similar.

    Arguments and errors as :func:`retrieve`.

    Returns:
        ``(Q,)`` and ``(Q,)``; the match itself is in neither.
    """
    query, gallery = check_unit("queries", query), check_unit("gallery", gallery)
    check_width(query, gallery, "queries and gallery")
    match = _matches(truth, len(query), len(gallery)).to(query.device)
    better, equal = [], []
    parts = zip(chunks(query, len(gallery)), chunks(match, len(gallery)), strict=True)
    for part, own_column in parts:
        # The match's similarity comes of the same product, so that equal vectors stay equal.
        above = part @ gallery.T
        above -= above.gather(1, own_column[:, None])
        better.append((above > TIE).sum(dim=1))
        equal.append((above.abs() <= TIE).sum(dim=1) - 1)
    return torch.cat(better).cpu().numpy(), torch.cat(equal).cpu().numpy()


def _matches(truth: Tensor | None, queries: int, gallery: int) -> Tensor:
    if truth is None:
        if queries != gallery:
            raise ValueError(
                f"{queries} queries and {gallery} candidates do not pair up; say which candidate "
                "is each query's match (truth)"
            )
        return torch.arange(queries)
    if truth.shape != (queries,) or truth.is_floating_point():
        raise ValueError(
            f"truth must be {queries} integers, not {truth.dtype} {tuple(truth.shape)}"
        )
    if int(truth.min()) < 0 or int(truth.max()) >= gallery:
        raise ValueError(f"truth must lie between 0 and {gallery - 1}")
    return truth.long()


def nearest(query: Tensor, gallery: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The most similar candidates of each query, best first.

    Args:
        query: ``(Q, D)``.
        gallery: ``(G, D)``.
        count: how many; fewer come back where the gallery is smaller.

    Returns:
        Gallery rows and cosine similarities, both ``(Q, min(count, G))``, on the CPU.

    Raises:
        ValueError: sizes that do not fit, or embeddings that are not finite.
    """
    if count < 1:
        raise ValueError(f"ask for at least one neighbour, not {count}")
    query, gallery = check_unit("queries", query), check_unit("gallery", gallery)
    check_width(query, gallery, "queries and gallery")
    found = [
        (part @ gallery.T).topk(min(count, len(gallery)), dim=1)
        for part in chunks(query, len(gallery))
    ]
    return (
        torch.cat([top.indices for top in found]).cpu(),
        torch.cat([top.values for top in found]).cpu(),
    )
