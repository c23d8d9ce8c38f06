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

from earsight.selection.agreement_scores import Banks
from earsight.selection.agreement_shortlists import Shortlists, ordered
from earsight.selection.threads import parts_at_once, side_by_side

GROUP = 32
"""Neighbours whose largest score is compared first; tiles are multiples of it."""

Tile = tuple[int, int]
"""Numbers of a block of queries and of a block of columns."""

Found = tuple[slice, Tensor, Tensor, Tensor]
"""What :meth:`Shortlists.add` takes."""


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


def survivors(blocks: Tensor, largest: Tensor, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores that reach the floor of their query.

    Args:
        blocks: ``(Q, GROUP, W)`` scores; element ``(q, g, w)`` is that of column ``g·W + w``.
        largest: ``(Q, W)``, its largest scores over ``g``.
        floor: ``(Q,)``.

    Returns:
        Query (ascending), column and score of each, ``(P,)``.
    """
    query, place = (largest >= floor[:, None]).nonzero().unbind(1)
    scores = blocks[query, :, place]
    flat = (scores >= floor.index_select(0, query)[:, None]).view(-1).nonzero()[:, 0]
    hit, member = flat // GROUP, flat % GROUP
    column = member * blocks.shape[2] + place.index_select(0, hit)
    return query.index_select(0, hit), column, scores.view(-1).index_select(0, flat)


class Sweep:
    """Products of blocks of queries with blocks of columns, and what they add to shortlists."""

    def __init__(self, columns: Columns, queries: Columns, lists: Shortlists) -> None:
        self.columns, self.queries, self.lists = columns, queries, lists
        self._seen, self._asked = columns.least, queries.least
        # Of the first columns seen, k must be candidates, whether or not a query is among them.
        eighth = columns.block // 8 // GROUP * GROUP
        self._start_width = max(eighth, -(-4 * lists.k // GROUP) * GROUP)
        assert self._seen > lists.k
        # Without kept vectors a block of queries meets every block of columns: round it once.
        self._queries = [queries.vectors(number) for number in range(queries.blocks)]

    def run(self, *, symmetric: bool) -> Iterator[float]:
        """Visit all tiles; yields the share visited after each round of them."""
        rounds = list(mirrored_rounds(self.columns.blocks) if symmetric else self._rounds())
        every = slice(0, None)
        with side_by_side(self.lists.count.device) as over:
            # No two tiles of the first round share queries.
            list(over(self._start, rounds[0]))
            self.lists.tighten(every, over)
            yield 1 / len(rounds)
            for number, tiles in enumerate(rounds[1:], 2):
                for found in over(self._mirrored if symmetric else self._across, tiles):
                    for some in found:
                        self.lists.add(*some)
                self.lists.tighten(every, over)
                yield number / len(rounds)
            self.lists.tighten(every, over, always=True)

    def _rounds(self) -> Iterator[list[Tile]]:
        """One block of columns after another, or several where one has fewer tiles than threads."""
        blocks, rows = self.columns.blocks, self.queries.blocks
        wanted = -(-parts_at_once(self.lists.count.device) // rows)
        begin = 0
        while begin < blocks:
            # Shortlists have no room for more than were seen before.
            end = min(blocks, begin + max(1, min(wanted, begin)))
            yield [(row, column) for column in range(begin, end) for row in range(rows)]
            begin = end

    def _across(self, at: Tile) -> list[Found]:
        """What the rows of a tile find in it."""
        rows, columns, tile = self._tile(at)
        return [self._in_rows(rows, columns.start, tile)]

    def _mirrored(self, at: Tile) -> list[Found]:
        """What the rows of a tile find in it, and what its columns do."""
        rows, columns, tile = self._tile(at)
        block, width = tile.shape
        down = tile.view(GROUP, block // GROUP, width)
        # Reduced before it is turned: a processor reads neighbours in memory together.
        turned = down.amax(dim=0).T.contiguous()
        found = self._found(columns, rows.start, down.permute(2, 0, 1), turned)
        return [self._in_rows(rows, columns.start, tile), found]

    def _tile(self, at: Tile) -> tuple[slice, slice, Tensor]:
        """Positions of a tile's queries and columns, and its scores."""
        block, width = self.queries.block, self.columns.block
        rows = slice(at[0] * block, (at[0] + 1) * block)
        columns = slice(at[1] * width, (at[1] + 1) * width)
        tile = self._scores(*at)
        self._hide(rows, columns, tile)
        return rows, columns, tile

    def _scores(self, row_block: int, column_block: int) -> Tensor:
        """The criterion of a tile, as :func:`ordered`."""
        pairs = zip(self._queries[row_block], self.columns.vectors(column_block), strict=True)
        scores = [ordered(query @ column.T) for query, column in pairs]
        return scores[0] if len(scores) == 1 else self.columns.banks.fold(scores[0], scores[1])

    def _hide(self, rows: slice, columns: slice, tile: Tensor) -> None:
        """Neither a query itself nor what fills up a block is a candidate."""
        own = self.lists.own[rows] - columns.start
        query = ((own >= 0) & (own < tile.shape[1])).nonzero()[:, 0]
        tile[query, own[query]] = self.lists.lowest
        if self._seen < self.columns.block:
            tile[:, self._seen :].masked_fill_(
                self.columns.rows[columns][self._seen :] < 0, self.lists.lowest
            )
        if self._asked < self.queries.block:
            tile[self._asked :].masked_fill_(
                (self.queries.rows[rows][self._asked :] < 0)[:, None], self.lists.lowest
            )

    def _start(self, at: Tile) -> None:
        """The first tile of some queries, in growing parts: floors are low in the beginning."""
        rows, columns, tile = self._tile(at)
        ends = [self._start_width, tile.shape[1] // 2 // GROUP * GROUP, tile.shape[1]]
        begin = 0
        for end in ends:
            if end <= begin:
                continue
            part = tile[:, begin:end]
            if begin == 0:
                kth = part.topk(self.lists.k, dim=1).values[:, -1]
                self.lists.set_floors(rows, kth.contiguous())
            self.lists.add(*self._in_rows(rows, columns.start + begin, part))
            self.lists.tighten(rows)
            begin = end
        lost = self.lists.lost[rows] & self.lists.asked[rows]
        if bool(lost.any()):
            self._start_again(rows, columns, tile, lost.nonzero()[:, 0])

    def _start_again(self, rows: slice, columns: slice, tile: Tensor, some: Tensor) -> None:
        """Queries for which a part of the tile was too little: many near-ties, floors below 0."""
        scores, queries = tile[some], some + rows.start
        self.lists.clear(queries)
        self.lists.set_floors(queries, scores.topk(self.lists.k, dim=1).values[:, -1].contiguous())
        blocks = scores.view(len(scores), GROUP, tile.shape[1] // GROUP)
        floor = self.lists.floor[queries]
        query, column, score = survivors(blocks, blocks.amax(dim=1), floor)
        self.lists.add(rows, some[query], column + columns.start, score)
        self.lists.tighten(rows)

    def _in_rows(self, rows: slice, first: int, tile: Tensor) -> Found:
        blocks = tile.view(len(tile), GROUP, tile.shape[1] // GROUP)
        return self._found(rows, first, blocks, blocks.amax(dim=1))

    def _found(self, rows: slice, first: int, blocks: Tensor, largest: Tensor) -> Found:
        query, column, score = survivors(blocks, largest, self.lists.floor[rows])
        return rows, query, column + first, score


def mirrored_rounds(blocks: int) -> Iterator[list[Tile]]:
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
