"""Scores on a GPU: each query meets its rows where they lie, and no copy of them is written.

A program takes one sample and some of its rows, and multiplies them with all the sample's queries
while they are in registers. Sums are made in a fixed order, so equal inputs give equal bits.
Imported only where Triton is installed; :mod:`~earsight.objectives.scores` is the reference, and
what other devices use.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_NUMBERS = 4096
"""Products that a program holds at a time."""

_WIDTH = 128
_SHARE = 256
"""Rows that one program of the backward pass adds up."""


def products(queries: Tensor, bank: Tensor, rows: Tensor) -> Tensor:
    """``x·x̄`` of each query with each row of its sample, summed in float32.

    Args:
        queries: ``(B, Q, D)`` float32; ``Q`` is small, the directions that share targets.
        bank: ``(N, D)`` float32, float16 or bfloat16.
        rows: ``(B, K)`` int64, each below ``N``: they are not checked.

    Returns:
        ``(B, Q, K)`` float32.
    """
    batch, asked, dim = queries.shape
    count = rows.shape[1]
    out = torch.empty(batch, asked, count, device=bank.device)
    few, height, width = _tile(asked, dim)
    _products[(batch, triton.cdiv(count, height))](
        queries.contiguous(),
        bank.contiguous(),
        rows.contiguous(),
        out,
        count,
        dim=dim,
        asked=asked,
        few=few,
        height=height,
        width=width,
    )
    return out


def slopes(gradient: Tensor, bank: Tensor, rows: Tensor) -> Tensor:
    """``Σ_k g_k·x̄_k``: the gradient of :func:`products` with respect to the queries.

    Args:
        gradient: ``(B, Q, K)`` float32.
        bank: as there.
        rows: as there.

    Returns:
        ``(B, Q, D)`` float32.
    """
    batch, asked, count = gradient.shape
    dim = bank.shape[1]
    few, height, width = _tile(asked, dim)
    shares = triton.cdiv(count, _SHARE)
    out = torch.empty(shares, batch, asked, dim, device=bank.device)
    _slopes[(batch, shares, triton.cdiv(dim, width))](
        gradient.contiguous(),
        bank.contiguous(),
        rows.contiguous(),
        out,
        count,
        dim=dim,
        asked=asked,
        few=few,
        height=height,
        width=width,
        share=_SHARE,
    )
    return out.sum(dim=0)


def _tile(asked: int, dim: int) -> tuple[int, int, int]:
    """Queries, rows and dimensions of a program's products, each a power of two."""
    few = triton.next_power_of_2(asked)
    width = min(_WIDTH, triton.next_power_of_2(dim))
    return few, max(1, min(_SHARE, _NUMBERS // (few * width))), width


@triton.jit  # type: ignore[untyped-decorator]
def _targets(bank, row, present, column, dim: tl.constexpr):  # type: ignore[no-untyped-def]
    """Some columns of rows ``(R,)`` as float32, ``(R, C)``; zeros where there are none."""
    at = bank + row[:, None] * dim + column[None, :]
    found = tl.load(at, mask=present[:, None] & (column < dim)[None, :], other=0.0)
    return found.to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator]
def _products(  # type: ignore[no-untyped-def]
    queries,
    bank,
    rows,
    out,
    count,
    dim: tl.constexpr,
    asked: tl.constexpr,
    few: tl.constexpr,
    height: tl.constexpr,
    width: tl.constexpr,
):
    sample = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * height + tl.arange(0, height)
    present = place < count
    row = tl.load(rows + sample * count + place, mask=present, other=0)
    query = tl.arange(0, few)
    own = sample * asked + query
    total = tl.zeros((few, height), tl.float32)
    for begin in range(0, dim, width):
        column = begin + tl.arange(0, width)
        inside = (query < asked)[:, None] & (column < dim)[None, :]
        x = tl.load(queries + own[:, None] * dim + column[None, :], mask=inside, other=0.0)
        targets = _targets(bank, row, present, column, dim)
        total += tl.sum(x[:, None, :] * targets[None, :, :], axis=2)
    inside = (query < asked)[:, None] & present[None, :]
    tl.store(out + own[:, None] * count + place[None, :], total, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _slopes(  # type: ignore[no-untyped-def]
    gradient,
    bank,
    rows,
    out,
    count,
    dim: tl.constexpr,
    asked: tl.constexpr,
    few: tl.constexpr,
    height: tl.constexpr,
    width: tl.constexpr,
    share: tl.constexpr,
):
    sample = tl.program_id(0).to(tl.int64)
    number = tl.program_id(1)
    column = tl.program_id(2) * width + tl.arange(0, width)
    query = tl.arange(0, few)
    own = sample * asked + query
    total = tl.zeros((few, width), tl.float32)
    for begin in range(0, share, height):
        place = number * share + begin + tl.arange(0, height)
        present = place < count
        row = tl.load(rows + sample * count + place, mask=present, other=0)
        inside = (query < asked)[:, None] & present[None, :]
        g = tl.load(gradient + own[:, None] * count + place[None, :], mask=inside, other=0.0)
        targets = _targets(bank, row, present, column, dim)
        total += tl.sum(g[:, :, None] * targets[None, :, :], axis=1)
    at = (number * tl.num_programs(0) * asked + own)[:, None] * dim + column[None, :]
    tl.store(out + at, total, mask=(query < asked)[:, None] & (column < dim)[None, :])
