"""Mining below ``N²`` with certificates: an inverted-file index, and bounds of what it left out.

Rows are put into cells by k-means over the concatenated targets ``[v̄; ā]``. A query looks into
the cells that may hold its positives, best first. Of a cell let ``μ`` be the centre and ``θ`` the
largest angle between it and the cell's rows, in one modality or in both concatenated. With the
angle ``φ`` between query and centre, the angle between query and any row is at least ``φ − θ`` (the
triangle inequality on the sphere), so their cosine is at most ``cos(max(0, φ − θ))``. For unit
vectors that is at most ``q·μ + ‖q‖·R`` with the radius ``R`` about a centre on the sphere. Then

    ρ = min(x, y) ≤ min(bound of x, bound of y, ½·bound of x + y),

the last because ``min(x, y) ≤ (x + y)/2`` and ``x + y`` is the product of concatenated vectors.
Where the largest bound of the cells left out is below the ``k``-th agreement found, and so is the
largest score that was seen and dropped, each with its rounding, the query's result is exact.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from earsight.random import permute
from earsight.selection.agreement import MEMORY, Mined, checked, checked_queries, mine
from earsight.selection.agreement_scores import Banks, Rounding, in_blocks, score_and_rank

_SAMPLED = 64
"""Rows per cell that k-means learns from."""

_ITERATIONS = 5
_QUERIES = 256
_SCANNED = 4096
"""Rows scored at a time for up to 256 queries of neighbouring cells."""

_ANGLE = 1e-6
"""Radians by which an angle computed in float64 may be off.

Cosines err by less than 1e-13, and the arc cosine is steepest at 1, where that is
``√(2·1e-13)`` = 4.5e-7 radians.
"""

_FLOAT64 = 1e-9
"""What the rest of a bound's arithmetic in float64 may be off by, with room to spare."""


@dataclass(frozen=True, kw_only=True)
class Certified:
    """Positives with certificates.

    Attributes:
        mined: as of :func:`~earsight.selection.agreement.mine` where certified; elsewhere the
            best of the rows looked at, −1 where those are fewer than ``k``.
        certified: ``(Q,)`` bool; true too for queries that are not usable (nothing to find).
        looked_at: ``(Q,)`` int64, rows scored.
    """

    mined: Mined
    certified: Tensor
    looked_at: Tensor

    @property
    def share(self) -> float:
        """Of the queries, those certified."""
        return float(self.certified.double().mean()) if len(self.certified) else 1.0


@dataclass(frozen=True, kw_only=True)
class _Space:
    """Unit vectors of one modality, or of both concatenated, and their cells.

    Attributes:
        parts: banks ``(N, D)`` that are concatenated.
        weight: of the product in a bound of ``ρ``.
        centres: ``(cells, parts · D)`` unit vectors, float64.
        angle: ``(cells,)`` largest angle to a row of the cell.
        norm: ``(cells,)`` largest norm of a row of the cell.
    """

    parts: tuple[Tensor, ...]
    weight: float
    centres: Tensor
    angle: Tensor
    norm: Tensor

    @classmethod
    def of(cls, parts: tuple[Tensor, ...], rows: Tensor, cell: Tensor, cells: int) -> "_Space":
        """Centres and angles of the cells ``cell`` ``(n,)`` of ``rows`` ``(n,)``."""
        dim = sum(x.shape[1] for x in parts)
        sums = torch.zeros(cells, dim, dtype=torch.float64)
        for part in in_blocks(len(rows), 65536):
            sums.index_add_(0, cell[part], _wide(parts, rows[part]))
        centres = F.normalize(sums, dim=1)
        least = torch.ones(cells, dtype=torch.float64)
        norm = torch.zeros(cells, dtype=torch.float64)
        for part in in_blocks(len(rows), 65536):
            vectors, own = _wide(parts, rows[part]), cell[part]
            length = vectors.norm(dim=1)
            cosine = (vectors * centres[own]).sum(dim=1) / length.clamp_min(1e-300)
            least.scatter_reduce_(0, own, cosine, "amin")
            norm.scatter_reduce_(0, own, length, "amax")
        angle = least.clamp(-1, 1).arccos() + _ANGLE
        weight = 1 / len(parts)
        return cls(parts=parts, weight=weight, centres=centres, angle=angle, norm=norm)

    def bounds(self, queries: Tensor) -> Tensor:
        """No ``ρ`` of a query with a row of a cell is larger, ``(Q, cells)``."""
        vectors = _wide(self.parts, queries)
        length = vectors.norm(dim=1, keepdim=True)
        cosine = vectors @ self.centres.T / length.clamp_min(1e-300)
        nearest = (cosine.clamp(-1, 1).arccos() - _ANGLE - self.angle).clamp_min(0)
        # Where even the nearest is beyond a right angle, the product is below 0.
        highest: Tensor = length * self.norm * nearest.cos().clamp_min(0)
        return self.weight * highest + _FLOAT64


def _wide(parts: tuple[Tensor, ...], rows: Tensor) -> Tensor:
    return torch.cat([x[rows].double() for x in parts], dim=1)


class CertifiedIndex:
    """An inverted-file index over two banks, on the processor. Needs the extra ``faiss``.

    Args:
        video: ``(N, D)`` float32 unit vectors.
        audio: ``(N, D)``.
        usable: ``(N,)`` bool, as for :func:`~earsight.selection.agreement.mine`.
        cells: about how many; by default ``2·√n`` for ``n`` usable rows.

    Raises:
        ValueError: unfit banks, or faiss is not installed.
    """

    def __init__(
        self,
        video: Tensor,
        audio: Tensor,
        *,
        usable: Tensor | None = None,
        cells: int | None = None,
    ) -> None:
        self.usable = checked(video, audio, 1, usable).cpu()
        self.video, self.audio = video.cpu().contiguous(), audio.cpu().contiguous()
        self.banks = Banks.of(self.video, self.audio, "min")
        self.rounding = Rounding.of(self.banks, torch.float32)
        rows = self.usable.nonzero()[:, 0]
        wanted = cells or round(2 * math.sqrt(len(rows)))
        cell = _cells(self.banks, rows, max(1, min(wanted, len(rows) // 16)))
        # Cells that k-means left empty are dropped.
        _, cell, size = torch.unique(cell, return_inverse=True, return_counts=True)
        order = cell.argsort(stable=True)
        self.rows, self.size = rows[order], size
        self.start = size.cumsum(0) - size
        self.cell = torch.full((len(self.banks),), -1)
        self.cell[rows] = cell
        both = self.banks.vectors
        self.spaces = [_Space.of(x, rows, cell, len(size)) for x in ((both[0],), (both[1],), both)]

    @torch.no_grad()
    def mine(self, k: int, *, queries: Tensor | None = None, budget: float = 0.05) -> Certified:
        """Look into cells, those with the largest bounds first, until all that is left is lower.

        Args:
            k: positives per query.
            queries: ``(Q,)`` int64 rows (all).
            budget: share of the rows that a query may look at; what is not certified by then stays
                uncertified.

        Raises:
            ValueError: ``k`` does not fit the usable rows.
        """
        checked(self.video, self.audio, k, self.usable)
        queries = checked_queries(None if queries is None else queries.cpu(), self.video)
        mined = Mined.none(len(queries), k, queries.device)
        certified = ~self.usable[queries]
        looked_at = torch.zeros(len(queries), dtype=torch.int64)
        asked = self.usable[queries].nonzero()[:, 0]
        limit = max(4 * k, round(budget * len(self.rows)))
        for some in self._blocks(queries, asked):
            found = self._look(queries[some], k, limit)
            mined.rows[some], mined.agreement[some], certified[some], looked_at[some] = found
        return Certified(mined=mined, certified=certified, looked_at=looked_at)

    def finish(
        self, found: Certified, k: int, *, queries: Tensor | None = None, memory: int = MEMORY
    ) -> Mined:
        """Mine exactly the queries that are not certified, in ``memory`` bytes, and return all."""
        queries = checked_queries(None if queries is None else queries.cpu(), self.video)
        rest = (~found.certified).nonzero()[:, 0]
        exact = mine(
            self.video, self.audio, k, usable=self.usable, queries=queries[rest], memory=memory
        )
        rows, agreement = found.mined.rows.clone(), found.mined.agreement.clone()
        rows[rest], agreement[rest] = exact.rows, exact.agreement
        return Mined(rows=rows, agreement=agreement)

    def _blocks(self, queries: Tensor, asked: Tensor) -> Iterator[Tensor]:
        """Queries that look into the same cells: those of one cell, a few at a time."""
        cell = self.cell[queries[asked]]
        order = cell.argsort(stable=True)
        sizes = torch.unique_consecutive(cell[order], return_counts=True)[1].tolist()
        for of_cell in torch.split(asked[order], sizes):
            yield from torch.split(of_cell, _QUERIES)

    def _look(self, own: Tensor, k: int, limit: int) -> tuple[Tensor, Tensor, Tensor, int]:
        """Rows, agreement and certificates of some queries, and the rows looked at."""
        bounds = torch.stack([space.bounds(own) for space in self.spaces]).amin(dim=0)
        order = bounds.mean(dim=0).argsort(descending=True)
        # Of all cells from a place of the order on.
        rest = bounds[:, order].flip(1).cummax(dim=1).values.flip(1)
        rest = F.pad(rest, (0, 1), value=-torch.inf)
        error = self.rounding.product[own].double() + self.rounding.exact
        best = _Best(len(own), 2 * k + 32)
        place, looked_at = 0, 0
        for end, rows in self._chunks(order, limit):
            best.add(self._scores(own, rows), rows)
            place, looked_at = end, looked_at + len(rows)
            if bool((rest[:, place] + error < best.kth(k) - error).all()):
                break
        rows, agreement = best.exact(self.banks, own, k)
        beyond = torch.maximum(rest[:, place] + self.rounding.exact, best.dropped + error)
        return rows, agreement, agreement[:, -1].double() > beyond, looked_at

    def _chunks(self, order: Tensor, limit: int) -> Iterator[tuple[int, Tensor]]:
        """Rows of cells in order, some cells at a time, and the cells' number so far."""
        sizes = self.size[order].tolist()
        starts = self.start[order].tolist()
        begin, looked_at = 0, 0
        while begin < len(sizes) and looked_at < limit:
            end, count = begin, 0
            while end < len(sizes) and (end == begin or count + sizes[end] <= _SCANNED):
                count += sizes[end]
                end += 1
            cells = range(begin, end)
            yield end, torch.cat([self.rows[starts[c] : starts[c] + sizes[c]] for c in cells])
            begin, looked_at = end, looked_at + count

    def _scores(self, own: Tensor, rows: Tensor) -> Tensor:
        vectors = self.banks.vectors
        scores = self.banks.products(
            tuple(x.index_select(0, own) for x in vectors),
            tuple(x.index_select(0, rows) for x in vectors),
        )
        return scores.masked_fill_(own[:, None] == rows, -torch.inf)


class _Best:
    """The best scores seen, and the largest that found no place."""

    def __init__(self, queries: int, keep: int) -> None:
        self.scores = torch.full((queries, keep), -torch.inf)
        self.rows = torch.full((queries, keep), -1, dtype=torch.int64)
        self.dropped = torch.full((queries,), -torch.inf, dtype=torch.float64)

    def add(self, scores: Tensor, rows: Tensor) -> None:
        """Take the best of old and new, ``(Q, C)`` scores of rows ``(C,)``."""
        keep = self.scores.shape[1]
        top, at = scores.topk(min(keep, scores.shape[1]), dim=1)
        if scores.shape[1] > keep:
            self.dropped = torch.maximum(self.dropped, top[:, -1].double())
        joined = torch.cat((self.scores, top), dim=1)
        known = torch.cat((self.rows, rows[at]), dim=1)
        joined, order = joined.sort(dim=1, descending=True)
        self.dropped = torch.maximum(self.dropped, joined[:, keep].double())
        self.scores = joined[:, :keep].contiguous()
        self.rows = known.gather(1, order[:, :keep])

    def kth(self, k: int) -> Tensor:
        """The ``k``-th best score, ``(Q,)``."""
        return self.scores[:, k - 1].double()

    def exact(self, banks: Banks, own: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The first ``k`` by exact scores; −1 and −∞ where fewer rows were seen."""
        found = Mined.none(len(own), k, own.device)
        seen = self.scores > -torch.inf
        enough = (seen.sum(dim=1) >= k).nonzero()[:, 0]
        if len(enough):
            at, slot = seen[enough].nonzero().unbind(1)
            rows = self.rows[enough[at], slot]
            listed = score_and_rank(banks, own[enough], at, rows, k)
            found.rows[enough], found.agreement[enough] = listed
        return found.rows, found.agreement


def _cells(banks: Banks, rows: Tensor, cells: int) -> Tensor:
    """The cell of each of ``rows``, ``(n,)``, by k-means over a sample."""
    try:
        import faiss  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(
            "certified mining needs the extra: pip install 'earsight[faiss]'"
        ) from error

    def vectors(some: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return torch.cat([x[some] for x in banks.vectors], dim=1).numpy()

    sample = permute(0, "cells", np.arange(min(len(rows), _SAMPLED * cells)), len(rows))
    # One setting of threads is for all.
    faiss.omp_set_num_threads(torch.get_num_threads())
    kmeans = faiss.Kmeans(
        2 * banks.dim,
        cells,
        niter=_ITERATIONS,
        seed=0,
        min_points_per_centroid=1,
        max_points_per_centroid=_SAMPLED,
    )
    kmeans.train(vectors(rows[torch.from_numpy(sample)]))
    cell = torch.empty(len(rows), dtype=torch.int64)
    for part in in_blocks(len(rows), 65536):
        cell[part] = torch.from_numpy(kmeans.index.search(vectors(rows[part]), 1)[1][:, 0])
    return cell
