"""Rows that serve as negatives."""

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
