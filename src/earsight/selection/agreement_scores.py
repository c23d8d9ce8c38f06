"""The arithmetic of mining: agreement to the last bit, its rounding errors, the order of rows."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Agreement = Literal["min", "video", "audio", "either"]
"""``min(v̄_i·v̄_j, ā_i·ā_j)`` (avid-cma eq. 6); ``v̄_i·v̄_j``; ``ā_i·ā_j``; the larger of both."""

_PAIRS = 8192
"""Pairs scored at a time: their vectors stay in a processor's cache."""

_FLOAT32 = 2.0**-24
_BFLOAT16 = 2.0**-8
_SLACK = 1.001
"""Norms and roundings are themselves computed in float32; this covers their own error."""


@dataclass(frozen=True, kw_only=True)
class Banks:
    """The vectors that a criterion compares, and how it folds their products into one number."""

    vectors: tuple[Tensor, ...]
    largest: bool

    @classmethod
    def of(cls, video: Tensor, audio: Tensor, agreement: Agreement) -> "Banks":
        """The banks ``(N, D)`` that ``agreement`` needs."""
        if agreement in ("video", "audio"):
            return cls(vectors=(video if agreement == "video" else audio,), largest=False)
        return cls(vectors=(video, audio), largest=agreement == "either")

    def __len__(self) -> int:
        return len(self.vectors[0])

    @property
    def device(self) -> torch.device:
        """Where the banks are."""
        return self.vectors[0].device

    @property
    def dim(self) -> int:
        """``D``."""
        return self.vectors[0].shape[1]

    def fold(self, first: Tensor, second: Tensor) -> Tensor:
        """The criterion of two products, written over the first."""
        choose = torch.maximum if self.largest else torch.minimum
        return choose(first, second, out=first)

    def products(self, queries: tuple[Tensor, ...], columns: tuple[Tensor, ...]) -> Tensor:
        """The criterion of all pairs ``(Q, C)``, in the precision that torch multiplies in."""
        scores = queries[0] @ columns[0].T
        for query, column in zip(queries[1:], columns[1:], strict=True):
            scores = self.fold(scores, query @ column.T)
        return scores

    def exact(self, queries: Tensor, rows: Tensor) -> Tensor:
        """``ρ`` of pairs of rows ``(P,)``, ``(P,)`` as float32, the same bits in any company.

        Products and sums are elementwise operations in a fixed order, so neither the number of
        pairs nor their place changes a rounding; ``ρ_ij`` and ``ρ_ji`` are the same number.
        """
        scores = torch.empty(len(rows), device=self.device)
        for begin in range(0, len(rows), _PAIRS):
            part = slice(begin, begin + _PAIRS)
            summed = [_tree_sum(_terms(x, queries[part], rows[part])) for x in self.vectors]
            scores[part] = summed[0] if len(summed) == 1 else self.fold(summed[0], summed[1])
        return scores


def _terms(vectors: Tensor, one: Tensor, other: Tensor) -> Tensor:
    # Far quicker than indexing, which does not copy whole rows.
    return vectors.index_select(0, one).mul_(vectors.index_select(0, other))


def _tree_sum(terms: Tensor) -> Tensor:
    """Sums ``(P,)`` of ``(P, D)`` by halves: at most ``log2(D) + 1`` roundings of a term."""
    while terms.shape[1] > 1:
        half = terms.shape[1] // 2
        summed = terms[:, :half] + terms[:, half : 2 * half]
        odd = terms.shape[1] % 2
        terms = torch.cat((summed, terms[:, -1:]), dim=1) if odd else summed
    return terms[:, 0]


def in_blocks(size: int, block: int) -> Iterator[slice]:
    """``[0, size)`` in slices."""
    for begin in range(0, size, block):
        yield slice(begin, min(begin + block, size))


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """Bounds of what products may be off by, of each row against any other.

    With ``x̂ = x + d`` the rounded vectors, ``x̂·ŷ − x·y = d·ŷ + x·e``, so by Cauchy and Schwarz
    its size is at most ``‖d‖‖ŷ‖ + ‖x‖‖e‖``. ``‖d‖`` is measured for each row, and taken at its
    largest over the bank for the other side. Adding ``D`` products in float32, in whatever order,
    errs by at most ``D·2⁻²³·‖x̂‖‖ŷ‖``. ``min`` and ``max`` of two numbers move no further than
    the numbers do. The rounding of a product that is written as bfloat16 is not part of this.

    Attributes:
        product: ``(N,)``, of a product of vectors in ``dtype``.
        exact: of :meth:`Banks.exact`, whose every term is rounded ``⌈log2 D⌉ + 1`` times.
    """

    product: Tensor
    exact: float

    @classmethod
    def of(cls, banks: Banks, dtype: torch.dtype) -> "Rounding":
        """Bounds for products of the banks' vectors rounded to ``dtype``."""
        product = torch.zeros(len(banks), device=banks.device)
        exact = 0.0
        for vectors in banks.vectors:
            norm, off = _norms(vectors, dtype)
            widest, furthest = norm.max(), off.max()
            sides = off * (widest + furthest) + norm * furthest
            sums = 2 * banks.dim * _FLOAT32 * (norm + off) * (widest + furthest)
            product = torch.maximum(product, _SLACK * (sides + sums))
            exact = max(exact, _SLACK * float(widest) ** 2)
        roundings = math.ceil(math.log2(banks.dim)) + 2 if banks.dim > 1 else 2
        return cls(product=product, exact=roundings * _FLOAT32 * exact)


def _norms(vectors: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Norms ``(N,)``, and those of what rounding to ``dtype`` takes away or adds."""
    norm = torch.linalg.vector_norm(vectors, dim=1)
    if dtype == torch.float32:
        # Multiplication may round float32 on its own, to no less than bfloat16.
        return norm, norm * (_BFLOAT16 if _reduced(vectors.device) else 0.0)
    off = torch.empty_like(norm)
    for part in in_blocks(len(vectors), _PAIRS):
        whole = vectors[part]
        off[part] = torch.linalg.vector_norm(whole - whole.to(dtype).to(whole.dtype), dim=1)
    return norm, off


def _reduced(device: torch.device) -> bool:
    """Whether torch was told to multiply float32 matrices in fewer bits (TF32, bfloat16)."""
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    return backend.matmul.fp32_precision not in ("none", "ieee")


def rounded_once(scores: Tensor, dtype: torch.dtype) -> Tensor:
    """The least that scores written in ``dtype`` can have been before they were rounded."""
    wide = scores.float()
    return wide - wide.abs() * _BFLOAT16 if dtype == torch.bfloat16 else wide


def ranked(scores: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The first ``k`` of candidates by descending score, the lower row first among equals.

    Args:
        scores: ``(B, C)`` float32, −inf where there is no candidate.
        rows: ``(B, C)`` int64.
        k: at most ``C``.

    Returns:
        Rows ``(B, k)`` and their scores ``(B, k)``.
    """
    rows, order = rows.sort(dim=1, stable=True)
    scores, order = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    return rows.gather(1, order[:, :k]), scores[:, :k].contiguous()


def score_and_rank(
    banks: Banks, queries: Tensor, at: Tensor, rows: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Exact scores of a list of pairs, and each query's first ``k``.

    Args:
        banks: what is compared.
        queries: ``(B,)`` rows.
        at: ``(P,)`` ascending places in ``queries``, each at least ``k`` times.
        rows: ``(P,)`` candidates of that query.
        k: how many.

    Returns:
        Rows ``(B, k)`` int64 and agreement ``(B, k)`` float32.
    """
    count = torch.bincount(at, minlength=len(queries))
    place = torch.arange(len(at), device=at.device) - (count.cumsum(0) - count)[at]
    shape = (len(queries), int(count.max()) if len(queries) else k)
    scores = torch.full(shape, -torch.inf, device=at.device)
    scores[at, place] = banks.exact(queries[at], rows)
    padded = torch.full(shape, -1, dtype=torch.int64, device=at.device)
    padded[at, place] = rows
    return ranked(scores, padded, k)
