"""Candidates for mining from low-precision products: one pass over tiles of the similarity matrix.

Each query keeps a shortlist and a *floor*: a score that, whatever rounding did, all of its true
first ``k`` reach. Most of a tile lies below the floors of its rows, and looking at the largest of
every few neighbours shows that without looking at each. Scores are symmetric, so where every row
is a query a tile serves its rows and its columns, and half of the tiles is enough.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from earsight.selection.agreement_scores import Banks, Rounding, rounded_once

GROUP = 32
"""Neighbours whose largest score is compared first; tiles are multiples of it."""


def shortlist_size(k: int) -> int:
    """Candidates kept per query: enough to double the rows seen twice over, and near-ties."""
    return 4 * k + 64


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Rounded vectors of the candidates in a scrambled order, by blocks.

    Neighbours in a bank are often alike (clips of one file); in a scrambled order what was seen
    is a fair sample of what is to come, and shortlists do not run over.

    Attributes:
        banks: what is compared.
        rows: ``(blocks · block,)`` rows, −1 where a block is filled up; a *position* is a place
            in it.
        block: positions per block.
        dtype: of the rounded vectors.
        kept: all of them, if there is memory for it.
    """

    banks: Banks
    rows: Tensor
    block: int
    dtype: torch.dtype
    kept: tuple[Tensor, ...] | None

    @classmethod
    def of(
        cls, banks: Banks, rows: Tensor, block: int, dtype: torch.dtype, *, keep: bool
    ) -> "Columns":
        """Round the vectors of ``rows`` ``(n,)``, now or block by block."""
        filled = spread(rows, block)
        columns = cls(banks=banks, rows=filled, block=block, dtype=dtype, kept=None)
        if not keep:
            return columns
        parts = [columns.vectors(number) for number in range(columns.blocks)]
        kept = tuple(torch.cat(x) for x in zip(*parts, strict=True))
        return cls(banks=banks, rows=filled, block=block, dtype=dtype, kept=kept)

    @property
    def blocks(self) -> int:
        """Their number."""
        return len(self.rows) // self.block

    @property
    def least(self) -> int:
        """Rows that every block has, at its start."""
        return int((self.rows.view(-1, self.block) >= 0).sum(dim=1).min())

    def vectors(self, number: int) -> tuple[Tensor, ...]:
        """Vectors ``(block, D)`` of each modality; zero where the block is filled up."""
        part = slice(number * self.block, (number + 1) * self.block)
        if self.kept is not None:
            return tuple(x[part] for x in self.kept)
        rows = self.rows[part]
        own = rows[rows >= 0]
        return tuple(rounded(x, own, self.block, self.dtype) for x in self.banks.vectors)


def spread(rows: Tensor, block: int) -> Tensor:
    """Rows in blocks of ``block`` places, equally filled, −1 in the places left at their ends."""
    parts = rows.tensor_split(-(-len(rows) // block))
    filled = rows.new_full((len(parts), block), -1)
    for part, place in zip(parts, filled, strict=True):
        place[: len(part)] = part
    return filled.flatten()


def rounded(vectors: Tensor, rows: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Vectors of ``rows`` in ``dtype``, filled up with zeros to ``(size, D)``."""
    result = torch.zeros(size, vectors.shape[1], dtype=dtype, device=vectors.device)
    result[: len(rows)] = vectors[rows].to(dtype)
    return result


def ordered(scores: Tensor) -> Tensor:
    """Scores as numbers that a processor compares quickly and in the same order.

    Patterns of bfloat16, read as 16-bit integers, have the order of the numbers where one of two
    is positive, and negative ones stay below all positive ones. Floors are positive (see
    :meth:`Shortlists.set_floors`), so the disorder among negative scores decides nothing.
    """
    return scores.view(torch.int16) if scores.dtype == torch.bfloat16 else scores


class Shortlists:
    """Candidates of ``P`` queries, at most ``room`` each.

    Attributes:
        own: ``(P,)`` positions of the queries themselves; −1 for queries that fill up a block.
        positions: ``(P, room)`` int32; the first ``count`` of each query are candidates.
        scores: ``(P, room)``, as :func:`ordered`.
        count: ``(P,)`` int64.
        floor: ``(P,)``, as :func:`ordered`: what lies below cannot be among the first ``k``.
        lost: ``(P,)`` bool: more candidates than room, or no positive floor; these queries need
            another way.
    """

    def __init__(self, own: Tensor, k: int, error: Tensor, dtype: torch.dtype) -> None:
        size, room, device = len(own), shortlist_size(k), own.device
        self.own, self.k, self.room, self.dtype = own, k, room, dtype
        self._error = error
        stored = torch.int16 if dtype == torch.bfloat16 else dtype
        self.lowest = -torch.inf if stored.is_floating_point else torch.iinfo(stored).min
        self._top = torch.inf if stored.is_floating_point else torch.iinfo(stored).max
        self.positions = torch.zeros(size, room, dtype=torch.int32, device=device)
        self.scores = torch.zeros(size, room, dtype=stored, device=device)
        self.count = torch.zeros(size, dtype=torch.int64, device=device)
        self.floor = torch.full((size,), self._top, dtype=stored, device=device)
        self.lost = self.own < 0
        self._settled = torch.zeros(size, dtype=torch.int64, device=device)

    def set_floors(self, part: slice | Tensor, kth: Tensor) -> None:
        """Floors of some queries from the ``k``-th largest of the scores they have seen.

        Those ``k`` have true scores of at least the ``k``-th, less the rounding of its writing
        and less the error of a product. So have the first ``k`` of all; their products are lower
        by another such error at most, and rounding for writing keeps the order of numbers.
        """
        least = rounded_once(kth.view(self.dtype), self.dtype)
        floor = ordered((least - 2 * self._error[part]).to(self.dtype))
        if self.dtype == torch.bfloat16:
            self.lost[part] |= floor <= 0
        self.floor[part] = floor.masked_fill(self.lost[part], self._top)

    def add(self, part: slice, query: Tensor, position: Tensor, score: Tensor) -> None:
        """Append candidates to the queries of ``part``; ``query`` counts from its start, ascending.

        A query whose candidates find no room is lost.
        """
        before = self.count[part]
        more = torch.bincount(query, minlength=len(before))
        first = before - (more.cumsum(0) - more)
        place = torch.arange(len(query), device=query.device) + first[query]
        fits = place < self.room
        at = ((query + part.start) * self.room + place)[fits]
        self.positions.view(-1)[at] = position[fits].to(torch.int32)
        self.scores.view(-1)[at] = score[fits]
        self.count[part] = (before + more).clamp_(max=self.room)
        self.lost[part] |= before + more > self.room
        self.floor[part].masked_fill_(self.lost[part], self._top)

    def tighten(self, *, all_of_them: bool = False) -> None:
        """Raise the floors of queries whose lists have grown, and drop what falls below."""
        grown = self.count - self._settled > (self.room - self._settled) // 3
        chosen = ((grown | all_of_them) & ~self.lost & (self.count >= self.k)).nonzero()[:, 0]
        for some in torch.split(chosen, 4096):
            count = self.count[some]
            empty = torch.arange(self.room, device=some.device) >= count[:, None]
            scores = self.scores[some].masked_fill(empty, self.lowest)
            scores, order = scores.sort(dim=1, descending=True)
            self.set_floors(some, scores[:, self.k - 1])
            count = torch.minimum(count, (scores >= self.floor[some, None]).sum(dim=1))
            self.scores[some] = scores
            self.positions[some] = self.positions[some].gather(1, order)
            self.count[some] = count
            self._settled[some] = count


def survivors(blocks: Tensor, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores that reach the floor of their query.

    Args:
        blocks: ``(Q, GROUP, W)`` scores; element ``(q, g, w)`` is that of column ``g·W + w``.
        floor: ``(Q,)``.

    Returns:
        Query (ascending), column and score of each, ``(P,)``.
    """
    query, place = (blocks.amax(dim=1) >= floor[:, None]).nonzero().unbind(1)
    scores = blocks[query, :, place]
    hit, member = (scores >= floor[query, None]).nonzero().unbind(1)
    column = member * blocks.shape[2] + place[hit]
    return query[hit], column, scores[hit, member]


class Sweep:
    """Products of blocks of queries with blocks of columns, and what they add to shortlists."""

    def __init__(self, columns: Columns, queries: Columns, lists: Shortlists) -> None:
        self.columns, self.queries, self.lists = columns, queries, lists
        self._seen = columns.least
        assert self._seen > lists.k
        # Without kept vectors a block of queries meets every block of columns: round it once.
        self._queries = [queries.vectors(number) for number in range(queries.blocks)]

    def run(self, *, symmetric: bool) -> Iterator[float]:
        """Visit all tiles; yields the share visited after each round of them."""
        rounds = list(mirrored_rounds(self.columns.blocks) if symmetric else self._rounds())
        for number, tiles in enumerate(rounds):
            for row_block, column_block in tiles:
                self._visit(row_block, column_block, start=number == 0, mirror=symmetric)
            self.lists.tighten()
            yield (number + 1) / len(rounds)
        self.lists.tighten(all_of_them=True)

    def _rounds(self) -> Iterator[list[tuple[int, int]]]:
        for column in range(self.columns.blocks):
            yield [(row, column) for row in range(self.queries.blocks)]

    def _visit(self, row_block: int, column_block: int, *, start: bool, mirror: bool) -> None:
        block, width = self.queries.block, self.columns.block
        rows = slice(row_block * block, (row_block + 1) * block)
        columns = slice(column_block * width, (column_block + 1) * width)
        tile = self._scores(row_block, column_block)
        if start:
            self._start(rows, columns, tile)
        self._add(rows, columns, tile.view(block, GROUP, width // GROUP))
        if mirror and row_block != column_block:
            turned = tile.view(GROUP, block // GROUP, width).permute(2, 0, 1)
            self._add(columns, rows, turned)

    def _scores(self, row_block: int, column_block: int) -> Tensor:
        """The criterion of a tile, as :func:`ordered`."""
        pairs = zip(self._queries[row_block], self.columns.vectors(column_block), strict=True)
        scores = [ordered(query @ column.T) for query, column in pairs]
        return scores[0] if len(scores) == 1 else self.columns.banks.fold(scores[0], scores[1])

    def _start(self, rows: slice, columns: slice, tile: Tensor) -> None:
        """First floors, from the first columns seen."""
        own = self.lists.own[rows]
        query = ((own >= columns.start) & (own < columns.stop)).nonzero()[:, 0]
        tile[query, own[query] - columns.start] = self.lists.lowest
        kth = tile[:, : self._seen].topk(self.lists.k, dim=1).values[:, -1]
        self.lists.set_floors(rows, kth.contiguous())

    def _add(self, rows: slice, columns: slice, blocks: Tensor) -> None:
        query, column, score = survivors(blocks, self.lists.floor[rows])
        position = column + columns.start
        # Neither a query itself nor what fills up a block is a candidate.
        true = (position != self.lists.own[rows][query]) & (self.columns.rows[position] >= 0)
        self.lists.add(rows, query[true], position[true], score[true])


def mirrored_rounds(blocks: int) -> Iterator[list[tuple[int, int]]]:
    """Every pair of blocks once, such that no block is far ahead of another.

    The pairs ``(b, b + d)`` around the circle make two rounds, ``b`` and ``b + d`` in different
    ones, so that a block has about one tile in each.
    """
    yield [(b, b) for b in range(blocks)]
    for distance in range(1, blocks // 2 + 1):
        last = blocks // 2 if 2 * distance == blocks else blocks
        pairs = [(b, (b + distance) % blocks) for b in range(last)]
        for odd in (False, True):
            chosen = [pair for pair in pairs if pair[0] // distance % 2 == odd]
            if chosen:
                yield chosen


def errors(banks: Banks, dtype: torch.dtype) -> Tensor:
    """What a product in ``dtype`` and its exact score may differ by, for each row, ``(N,)``."""
    rounding = Rounding.of(banks, dtype)
    return rounding.product + rounding.exact
