"""Rows that serve as negatives."""

import torch
from torch import Tensor

from earsight.random import integers_on_device

PURPOSE = "negatives"


def uniform_negatives(seed: int, index: Tensor, own_row: Tensor, count: int, size: int) -> Tensor:
    """Rows drawn uniformly, with replacement, from all but the own one (avid-cma §3).

    A draw from ``[0, N−1)`` is raised by one where it is not below the own row, so no draw is
    rejected. It is a function of ``seed`` and ``index`` alone: neither the place in the batch nor
    the number of ranks matters.

    Args:
        seed: the run's seed.
        index: ``(B,)`` int64, global sample indices of the draws.
        own_row: ``(B,)`` int64, rows of the samples, below ``size``.
        count: ``K``, negatives per sample.
        size: ``N``, rows in all.

    Returns:
        ``(B, K)`` int64 rows, on the device of ``index``.

    Raises:
        ValueError: there is no other row.
    """
    if size < 2:
        raise ValueError(
            f"negatives need at least 2 training instances, and there are {size}; "
            "scan more videos, or cut long ones into segments"
        )
    drawn = integers_on_device(seed, PURPOSE, index, count, size - 1)
    return drawn + (drawn >= own_row[:, None])


def negatives_outside(seed: int, index: Tensor, excluded: Tensor, count: int, size: int) -> Tensor:
    """Rows drawn uniformly, with replacement, from all but the excluded ones (avid-cma §4).

    With a sample's sorted excluded rows ``e_0 < e_1 < …`` (``E`` of them), a draw ``r`` from
    ``[0, N−E)`` becomes ``r + #{t : r ≥ e_t − t}``: exact, and no draw is rejected.

    Args:
        seed: the run's seed.
        index: ``(B,)`` int64, global sample indices of the draws.
        excluded: ``(B, E)`` int64, each row at most once per sample; -1 excludes nothing.
        count: ``K``, negatives per sample.
        size: ``N``, rows in all.

    Returns:
        ``(B, K)`` int64 rows, on the device of ``index``.

    Raises:
        ValueError: no row is left.
    """
    if size <= excluded.shape[1]:
        raise ValueError(
            f"of {size} training instances {excluded.shape[1]} are excluded, so that none is left "
            "to be a negative; find fewer positives (method.positives)"
        )
    known = excluded >= 0
    # What excludes nothing is sorted behind all rows, where no draw reaches it.
    ordered = torch.where(known, excluded, 2 * size).sort(dim=1).values
    places = torch.arange(excluded.shape[1], device=excluded.device)
    left = size - known.sum(dim=1, keepdim=True)
    drawn = integers_on_device(seed, PURPOSE, index, count, left)
    return drawn + torch.searchsorted(ordered - places, drawn, right=True)


def draw_some(seed: int, purpose: str, index: Tensor, rows: Tensor, count: int) -> Tensor:
    """``count`` of each sample's rows, uniformly and without replacement.

    Args:
        seed: the run's seed.
        purpose: what the draws decide.
        index: ``(B,)`` int64, global sample indices of the draws.
        rows: ``(B, k)`` int64.
        count: how many; with all of them, they come as they are.

    Returns:
        ``(B, count)`` int64.
    """
    if count >= rows.shape[1]:
        return rows
    lots = integers_on_device(seed, purpose, index, rows.shape[1], 2**31 - 1)
    return rows.gather(1, lots.argsort(dim=1, stable=True)[:, :count])
