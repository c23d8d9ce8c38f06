"""Candidates for mining on a GPU: one fused pass, the similarity matrix never written.

A program takes a few queries, goes over all rows and keeps each query's best scores in registers.
Imported only where Triton is installed; :mod:`~earsight.selection.agreement_sweep` is the
reference, and what other devices use.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from earsight.selection.agreement_scores import Banks

_SINGLE, _MIN, _MAX = 0, 1, 2
_COLUMNS = 64


def kept(k: int) -> int:
    """Candidates kept per query, a power of two: what is beyond ``k`` is for near-ties."""
    return int(triton.next_power_of_2(3 * k + 32))


def candidates(banks: Banks, queries: Tensor, usable: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """The ``keep`` rows of largest score, in no order.

    Scores are products of vectors rounded to bfloat16, summed in float32 and not rounded again.
    No row that is left out scores higher than the lowest that is kept.

    Args:
        banks: what is compared, ``(N, D)`` float32.
        queries: ``(Q,)`` int64 rows.
        usable: ``(N,)`` bool.
        keep: a power of two.

    Returns:
        Scores ``(Q, keep)`` float32 and rows ``(Q, keep)`` int32; −inf and −1 where there are
        fewer rows.
    """
    vectors = tuple(x.contiguous() for x in banks.vectors)
    scores = torch.empty(len(queries), keep, device=banks.device)
    rows = torch.empty(len(queries), keep, dtype=torch.int32, device=banks.device)
    fold = _SINGLE if len(vectors) == 1 else _MAX if banks.largest else _MIN
    height = 32 if keep <= 128 else 16
    _kernel[(triton.cdiv(len(queries), height),)](
        vectors[0],
        vectors[-1],
        usable.to(torch.int8),
        queries,
        scores,
        rows,
        len(banks),
        len(queries),
        dim=banks.dim,
        fold=fold,
        wide=max(16, triton.next_power_of_2(banks.dim)),
        keep=keep,
        height=height,
        width=_COLUMNS,
        # Triton's interpreter, which takes tensors of the processor, cannot multiply bfloat16.
        widen=banks.device.type == "cpu",
    )
    return scores, rows


@triton.jit  # type: ignore[untyped-decorator]
def _load(  # type: ignore[no-untyped-def]
    bank, rows, valid, dim: tl.constexpr, wide: tl.constexpr, widen: tl.constexpr
):
    """Vectors of rows ``(R,)``, rounded to bfloat16 and filled up with zeros, ``(R, wide)``."""
    place = tl.arange(0, wide)
    at = bank + rows[:, None].to(tl.int64) * dim + place[None, :]
    vectors = tl.load(at, mask=valid[:, None] & (place < dim)[None, :], other=0.0)
    # To nearest, even where halfway, as the error bound has it: casts may cut off instead.
    bits = vectors.to(tl.uint32, bitcast=True)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    vectors = bits.to(tl.float32, bitcast=True)
    return vectors if widen else vectors.to(tl.bfloat16)


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    first,
    second,
    usable,
    queries,
    scores_out,
    rows_out,
    size,
    asked,
    dim: tl.constexpr,
    fold: tl.constexpr,
    wide: tl.constexpr,
    keep: tl.constexpr,
    height: tl.constexpr,
    width: tl.constexpr,
    widen: tl.constexpr,
):
    place = tl.program_id(0) * height + tl.arange(0, height)
    valid = place < asked
    own = tl.load(queries + place, mask=valid, other=0)
    query_1 = _load(first, own, valid, dim, wide, widen)
    query_2 = _load(second, own, valid, dim, wide, widen)
    slots = tl.arange(0, keep)
    members = tl.arange(0, width)
    best = tl.full((height, keep), float("-inf"), tl.float32)
    rows = tl.full((height, keep), -1, tl.int32)
    for begin in range(0, size, width):
        column = begin + members
        present = column < size
        scores = tl.dot(query_1, tl.trans(_load(first, column, present, dim, wide, widen)))
        if fold != 0:
            other = tl.dot(query_2, tl.trans(_load(second, column, present, dim, wide, widen)))
            scores = tl.minimum(scores, other) if fold == 1 else tl.maximum(scores, other)
        allowed = tl.load(usable + column, mask=present, other=0) != 0
        counted = allowed[None, :] & (column[None, :] != own[:, None]) & valid[:, None]
        scores = tl.where(counted, scores, float("-inf"))
        # One candidate per query and turn takes the place of its lowest; later tiles have few.
        top = tl.max(scores, axis=1)
        lowest = tl.min(best, axis=1)
        while tl.max((top > lowest).to(tl.int32), axis=0) > 0:
            member = tl.argmax(scores, axis=1)
            slot = tl.argmin(best, axis=1)
            put = (slots[None, :] == slot[:, None]) & (top > lowest)[:, None]
            best = tl.where(put, top[:, None], best)
            rows = tl.where(put, (begin + member)[:, None].to(tl.int32), rows)
            scores = tl.where(members[None, :] == member[:, None], float("-inf"), scores)
            top = tl.max(scores, axis=1)
            lowest = tl.min(best, axis=1)
    at = place[:, None].to(tl.int64) * keep + slots[None, :]
    tl.store(scores_out + at, best, mask=valid[:, None])
    tl.store(rows_out + at, rows, mask=valid[:, None])
