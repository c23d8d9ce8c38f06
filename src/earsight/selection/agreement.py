"""Mining of positives: the rows whose video and audio targets both agree with a row's own."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from earsight.processor import multiplies_bfloat16
from earsight.random import permute
from earsight.selection.agreement_full import mine_whole_rows
from earsight.selection.agreement_scores import Agreement, Banks, in_blocks, ranked, score_and_rank
from earsight.selection.agreement_shortlists import Shortlists, errors, shortlist_size
from earsight.selection.agreement_sweep import GROUP, Columns, Sweep, spread
from earsight.selection.threads import parts_at_once

__all__ = ["Agreement", "Mined", "mine"]

Progress = Callable[[int, int], None]

_BLOCK = 1984
"""Rows and columns of a tile: its scores stay in a processor's cache.

A multiple of 32, not of 2,048: scores of a column then do not compete for the same lines of it.
"""

_REFINED = 1024
"""Queries whose candidates are ranked at a time."""

MEMORY = 256 * 2**20
"""Bytes to work in, where nothing else is asked for."""

_LEAST_MEMORY = 2**20


@dataclass(frozen=True, kw_only=True)
class Mined:
    """Positives of ``Q`` queries.

    Attributes:
        rows: ``(Q, k)`` int64, by descending agreement, of equals the lower row first; −1 where
            the query is not usable.
        agreement: ``(Q, k)`` float32, ``ρ``; −inf where ``rows`` is −1.
    """

    rows: Tensor
    agreement: Tensor

    @classmethod
    def none(cls, size: int, k: int, device: torch.device) -> "Mined":
        """Room for ``size`` queries, none answered."""
        return cls(
            rows=torch.full((size, k), -1, dtype=torch.int64, device=device),
            agreement=torch.full((size, k), -torch.inf, device=device),
        )


@torch.no_grad()
def mine(
    video: Tensor,
    audio: Tensor,
    k: int,
    *,
    agreement: Agreement = "min",
    usable: Tensor | None = None,
    queries: Tensor | None = None,
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> Mined:
    """The ``k`` rows of largest ``ρ_ij = min(v̄_i·v̄_j, ā_i·ā_j)``, ``j ≠ i`` (avid-cma eqs. 6–7).

    The result is exact: the first ``k`` by an agreement computed in float32, in a fixed order of
    operations (within 5e-7 of the true number for unit vectors of 128), the lower row first among
    equals. It depends neither on ``memory``, nor on how queries are split, nor on the device.
    Candidates come from bfloat16 products where the machine has instructions for them, with a
    bound of their error (:class:`~earsight.selection.agreement_scores.Rounding`) that decides
    which are kept. Queries with more near-ties than a shortlist holds, and those of which the
    ``k``-th agreement is hardly positive, are mined by whole rows in float32, which is slower.

    Args:
        video: ``(N, D)`` float32 unit vectors, the bank of video targets.
        audio: ``(N, D)`` the same of audio, on the same device.
        k: positives per query.
        agreement: ``min``; ``video`` or ``audio`` alone; ``either``, the larger (avid-cma fig. 4).
        usable: ``(N,)`` bool, rows that may be queries and positives (all); see ``visited`` of
            :class:`~earsight.selection.memory_bank.MemoryBank`.
        queries: ``(Q,)`` int64 rows (all); with several ranks, each mines its part.
        memory: bytes to work in beyond the banks and the result. Where all rows are queries and
            ``N·(2·D·2 + 6·(4·k + 64))`` bytes fit, half of the products are enough.
        progress: called with the number of queries done and their number.

    Raises:
        ValueError: wrong shapes or types, numbers that are not finite, fewer than ``k`` other
            usable rows, or too little memory.
    """
    usable = checked(video, audio, k, usable, memory)
    queries = checked_queries(queries, video)
    banks = Banks.of(video, audio, agreement)
    asked = usable[queries].nonzero()[:, 0]
    result = Mined.none(len(queries), k, video.device)
    task = _Task(banks, queries[asked], k, usable, memory, progress)
    result.rows[asked], result.agreement[asked] = task.run()
    return result


@torch.no_grad()
def mine_among(
    banks: Banks,
    queries: Tensor,
    candidates: Tensor,
    k: int,
    *,
    memory: int,
    progress: Progress | None = None,
) -> Mined:
    """As :func:`mine`, of checked banks, with other rows for candidates than for queries.

    Args:
        banks: what is compared.
        queries: ``(Q,)`` int64 rows.
        candidates: ``(N,)`` bool, rows that may be positives.
        k: at most the number of candidates that a query finds beside itself.
        memory: bytes to work in.
        progress: as for :func:`mine`.
    """
    rows, agreement = _Task(banks, queries, k, candidates, memory, progress).run()
    return Mined(rows=rows, agreement=agreement)


class _Task:
    """One call of :func:`mine` after its checks; ``queries`` ``(Q,)`` need not be candidates."""

    def __init__(
        self,
        banks: Banks,
        queries: Tensor,
        k: int,
        usable: Tensor,
        memory: int,
        progress: Progress | None,
    ) -> None:
        self.banks, self.queries, self.k, self.usable = banks, queries, k, usable
        self.memory, self.progress = memory, progress
        low = multiplies_bfloat16(banks.device)
        self.dtype = torch.bfloat16 if low else torch.float32
        found = Mined.none(len(queries), k, banks.device)
        self.rows, self.agreement = found.rows, found.agreement
        self._done = 0.0

    def run(self) -> tuple[Tensor, Tensor]:
        """Rows and agreement, ``(Q, k)`` each."""
        if self.banks.device.type == "cuda" and find_spec("triton") is not None:
            self.fused()
            return self.rows, self.agreement
        candidates = self.usable.nonzero()[:, 0]
        block = self._block()
        if len(candidates) < 2 * block or self.k > block // 8:
            self._whole_rows(torch.arange(len(self.queries), device=self.banks.device))
            self._tell(len(self.queries))
        else:
            self._sweep(candidates[self._scrambled(len(candidates))], block)
        return self.rows, self.agreement

    def fused(self) -> None:
        """Candidates from one pass of a GPU, then as elsewhere."""
        from earsight.selection.agreement_triton import candidates, kept  # noqa: PLC0415

        error = errors(self.banks, torch.bfloat16)
        keep = kept(self.k)
        places = torch.arange(len(self.queries), device=self.banks.device)
        for some in torch.split(places, max(1, self.memory // (64 * keep))):
            own = self.queries[some]
            scores, rows = candidates(self.banks, own, self.usable, keep)
            at, slot = (rows >= 0).nonzero().unbind(1)
            enough = torch.bincount(at, minlength=len(own)) >= self.k
            assert bool(enough.all())
            listed = score_and_rank(self.banks, own, at, rows[at, slot].long(), self.k)
            self.rows[some], self.agreement[some] = listed
            # What was left out scores no higher than the lowest that was kept.
            sure = listed[1][:, -1] > scores.min(dim=1).values + error[own]
            self._whole_rows(some[~sure])
            self._tell(self._done + len(some))

    def _block(self) -> int:
        """Width of tiles: a fifth of the memory for those at work and what is found in them."""
        widest = math.isqrt(self.memory // (5 * 8 * parts_at_once(self.banks.device)))
        return max(GROUP, min(_BLOCK, widest // GROUP * GROUP))

    def _scrambled(self, size: int) -> Tensor:
        order = permute(0, "mining", np.arange(size), size)
        return torch.from_numpy(order).to(self.banks.device)

    def _sweep(self, candidates: Tensor, block: int) -> None:
        """Shortlists for all queries at once if memory allows, else for one part after another."""
        width = self.dtype.itemsize
        rounded = len(candidates) * self.banks.dim * len(self.banks.vectors) * width
        listed = shortlist_size(self.k) * (4 + width) + 4 * self.k + 64
        error = errors(self.banks, self.dtype)
        every = len(self.queries) == len(candidates) == len(torch.unique(self.queries))
        every = every and bool(self.usable[self.queries].all())
        if every and 5 * (len(candidates) * listed + rounded) <= 4 * self.memory:
            columns = Columns.of(self.banks, candidates, block, self.dtype, keep=True)
            place = _inverse(self.queries, len(self.banks))[columns.rows]
            self._run(columns, columns, error, place.where(columns.rows >= 0, -1), symmetric=True)
            return
        keep = 5 * rounded <= 2 * self.memory
        columns = Columns.of(self.banks, candidates, block, self.dtype, keep=keep)
        each = listed + self.banks.dim * len(self.banks.vectors) * width
        part_size = max(block, 2 * self.memory // (5 * each))
        for part in in_blocks(len(self.queries), part_size):
            place = torch.arange(part.start, part.stop, device=self.banks.device)
            height = min(block, -(-len(place) // GROUP) * GROUP)
            queries = Columns.of(self.banks, self.queries[part], height, self.dtype, keep=True)
            self._run(columns, queries, error, spread(place, height))

    def _run(
        self,
        columns: Columns,
        queries: Columns,
        error: Tensor,
        place: Tensor,
        *,
        symmetric: bool = False,
    ) -> None:
        """Mine ``queries``, whose places among all queries are ``place`` (−1: none)."""
        asked = queries.rows >= 0
        position = _inverse(columns.rows, len(self.banks))[queries.rows]
        own = position.where(asked, -1)

        def exact(query: Tensor, candidate: Tensor) -> Tensor:
            return self.banks.exact(queries.rows[query], columns.rows[candidate])

        lists = Shortlists(asked, own, self.k, error[queries.rows], self.dtype, exact)
        start, size = self._done, int((place >= 0).sum())
        for share in Sweep(columns, queries, lists).run(symmetric=symmetric):
            self._tell(start + share * size)
        self._refine(lists, columns.rows, place)
        self._whole_rows(place[lists.lost & (place >= 0)])

    def _refine(self, lists: Shortlists, rows: Tensor, place: Tensor) -> None:
        """The first ``k`` candidates of all queries that are not lost."""
        kept = (~lists.lost).nonzero()[:, 0]
        for some in torch.split(kept, _REFINED):
            assert bool((lists.count[some] >= self.k).all())
            positions, scores = lists.exact(some)
            listed = ranked(scores, rows[positions.long()], self.k)
            self.rows[place[some]], self.agreement[place[some]] = listed

    def _whole_rows(self, places: Tensor) -> None:
        for some in torch.split(places, 4096):
            self.rows[some], self.agreement[some] = mine_whole_rows(
                self.banks, self.queries[some], self.k, usable=self.usable, memory=self.memory
            )

    def _tell(self, done: float) -> None:
        self._done = done
        if self.progress is not None:
            self.progress(round(done), len(self.queries))


def _inverse(rows: Tensor, size: int) -> Tensor:
    """The place of each of ``size`` rows in ``rows``, ``(size,)``, −1 where it has none."""
    # Fillers (−1) write the extra place at the end.
    places = rows.new_full((size + 1,), -1)
    places[rows] = torch.arange(len(rows), device=rows.device)
    return places[:size]


def checked(
    video: Tensor, audio: Tensor, k: int, usable: Tensor | None, memory: int = _LEAST_MEMORY
) -> Tensor:
    """The usable rows, ``(N,)`` bool, once all inputs are known to fit."""
    if video.ndim != 2 or video.shape != audio.shape or video.shape[1] < 1:
        raise ValueError(
            f"mining compares two banks of shape (N, D), and got video {tuple(video.shape)}, "
            f"audio {tuple(audio.shape)}; give the banks of one run"
        )
    if video.dtype != torch.float32 or audio.dtype != torch.float32:
        raise ValueError(
            f"banks must be float32, and are {video.dtype} and {audio.dtype}; convert with .float()"
        )
    if usable is None:
        usable = torch.ones(len(video), dtype=torch.bool, device=video.device)
    if usable.shape != (len(video),) or usable.dtype != torch.bool:
        raise ValueError(
            f"usable must be ({len(video)},) bool, and is {tuple(usable.shape)} {usable.dtype}"
        )
    if memory < _LEAST_MEMORY:
        raise ValueError(f"memory must be at least {_LEAST_MEMORY} bytes, and is {memory}")
    check_numbers(video, audio)
    check_enough(usable, k)
    return usable


def check_numbers(video: Tensor, audio: Tensor) -> None:
    """Rows ``(n, D)`` of both banks must be finite.

    Raises:
        ValueError: they are not.
    """
    for name, bank in (("video", video), ("audio", audio)):
        if not len(bank):
            continue
        largest = torch.linalg.vector_norm(bank, ord=torch.inf, dim=1)
        wrong = int((~largest.isfinite()).sum())
        if wrong:
            raise ValueError(
                f"{wrong} rows of the {name} bank hold numbers that are not finite; "
                "take an earlier checkpoint"
            )


def check_enough(usable: Tensor, k: int) -> None:
    """Of the ``usable`` rows, ``(N,)`` bool, each must find ``k`` others.

    Raises:
        ValueError: there are too few.
    """
    others = int(usable.sum()) - 1
    if not 1 <= k <= others:
        raise ValueError(
            f"k must be from 1 to the number of other usable rows, and is {k}: "
            f"{others + 1} of {len(usable)} rows are usable"
        )


def checked_queries(queries: Tensor | None, video: Tensor) -> Tensor:
    """The rows asked for, ``(Q,)`` int64: all of them where none are given."""
    if queries is None:
        return torch.arange(len(video), device=video.device)
    if queries.ndim != 1 or queries.dtype != torch.int64:
        raise ValueError(
            f"queries must be (Q,) int64, and is {tuple(queries.shape)} {queries.dtype}"
        )
    if len(queries) and not 0 <= int(queries.min()) <= int(queries.max()) < len(video):
        raise ValueError(f"queries must be rows from 0 to {len(video) - 1}")
    return queries
