"""Scores of queries against chosen rows of a bank of targets."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor

DENSE_UP_TO = 8
"""Largest bank, in multiples of the rows asked for per query, that is scored as a whole.

Measured on one core (AVX2) for 256 queries, 1,024 rows and 128 dimensions, forward and backward:
the whole bank takes 5 ms at 2,000 rows, 48 ms at 20,000 and 340 ms at 100,000; gathering takes 25
to 75 ms at any size (all rows at once: 150 to 240 ms).
"""

_GATHERED = {"cpu": 2**19, "cuda": 2**26}
"""Numbers gathered at a time: on a CPU what its cache holds."""


def widened(x: Tensor) -> Tensor:
    """Half precision as float32; exponentials, squares and sums need its range and digits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


How = Literal["dense", "gather", "triton"]


def scores(
    queries: Tensor,
    bank: Tensor,
    rows: Tensor,
    temperature: float,
    how: Literal["auto"] | How = "auto",
) -> Tensor:
    """``s = x·x̄/τ`` for each query of a sample and each of the sample's rows.

    All ways give the same scores to rounding. ``dense`` multiplies by the whole bank and picks
    the products, ``O(B·Q·N·D)`` operations and ``B·Q·N`` numbers; ``gather`` fetches the rows a
    few samples at a time, forward and again backward, so that ``B·K·D`` numbers never stand in
    memory; ``triton`` fetches and multiplies in one kernel, so that none are written. ``auto``
    takes ``triton`` on CUDA where it is installed; else ``dense`` for banks of up to 8 times ``K``
    rows, and ``gather`` for larger ones.

    Args:
        queries: ``(B, Q, D)``; the gradient reaches them alone.
        bank: ``(N, D)`` targets; of half precision too.
        rows: ``(B, K)`` int64 rows of the bank.
        temperature: ``τ``.
        how: which way.

    Returns:
        ``(B, Q, K)`` in float32 (float64 for such a bank), also under autocast: half precision is
        widened before products are made.

    Raises:
        ValueError: ``triton`` for a bank of float64.
    """
    if how == "auto":
        how = best_way(bank, len(bank), rows.shape[1])
    if how == "triton" and bank.dtype == torch.float64:
        raise ValueError("how: the kernel sums in float32; take gather for a bank of float64")
    with torch.autocast(queries.device.type, enabled=False):
        scaled = queries.to(torch.promote_types(bank.dtype, torch.float32)) / temperature
        if how != "dense":
            function = _Fused if how == "triton" else _Gathered
            fetched: Tensor = function.apply(scaled, bank, rows)  # type: ignore[no-untyped-call]
            return fetched
        chosen = rows[:, None].expand(-1, queries.shape[1], -1)
        return (scaled @ bank.detach().to(scaled.dtype).T).gather(2, chosen)


def best_way(bank: Tensor, size: int, count: int) -> How:
    """Which way ``auto`` takes.

    Args:
        bank: targets, of which device and type decide.
        size: ``N``, rows of the bank; ``bank`` may hold some of them.
        count: ``K``, rows asked for per query.
    """
    fits = bank.device.type == "cuda" and bank.dtype != torch.float64
    if fits and find_spec("triton") is not None:
        return "triton"
    return "dense" if size <= DENSE_UP_TO * count else "gather"


class _Fused(torch.autograd.Function):
    """Products of queries with rows that are never copied."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, bank: Tensor, rows: Tensor) -> Tensor:
        # Triton is not installed everywhere.
        from earsight.objectives.scores_triton import products  # noqa: PLC0415

        ctx.save_for_backward(bank, rows)
        return products(queries, bank, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        from earsight.objectives.scores_triton import slopes  # noqa: PLC0415

        return slopes(gradients[0], *ctx.saved_tensors), None, None


class _Gathered(torch.autograd.Function):
    """Products of queries with gathered rows, a few samples at a time."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, bank: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(bank, rows)
        products = queries.new_empty(*queries.shape[:2], rows.shape[1])
        for part, targets in _targets(bank, rows):
            products[part] = queries[part] @ targets.transpose(1, 2)
        return products

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        bank, rows = ctx.saved_tensors
        result = gradient.new_empty(*gradient.shape[:2], bank.shape[1])
        with torch.autocast(gradient.device.type, enabled=False):
            for part, targets in _targets(bank, rows):
                result[part] = gradient[part] @ targets
        return result, None, None


def _targets(bank: Tensor, rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the batch with their targets ``(b, K, D)``."""
    budget = _GATHERED.get(bank.device.type, _GATHERED["cuda"])
    step = max(1, budget // max(1, rows.shape[1] * bank.shape[1]))
    for begin in range(0, len(rows), step):
        part = slice(begin, begin + step)
        chosen = rows[part]
        yield part, widened(bank.index_select(0, chosen.flatten())).view(*chosen.shape, -1)
