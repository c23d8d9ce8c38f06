"""Rows that ranks share: who keeps which, and how the others come by them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

_SAVED = 2**26
"""Bytes that rank 0 receives at a time where a table is saved."""


@dataclass(frozen=True, kw_only=True)
class Owners:
    """Each rank keeps one block of the rows: ``⌈N/R⌉`` of them, the last ones fewer or none.

    With one rank, it keeps all, and nothing here communicates. Tables are ``(n, …)`` tensors of
    this rank's ``n`` rows. What several ranks exchange, all of them must ask for, in one order; an
    exchange with a rank that has failed or hangs raises torch's RuntimeError, as all exchanges do.

    Attributes:
        size: ``N``, rows in all.
        rank: this rank's number, from 0.
        ranks: ``R``, how many share the rows.
    """

    size: int
    rank: int = 0
    ranks: int = 1

    @property
    def shared(self) -> bool:
        """Whether there are other ranks."""
        return self.ranks > 1

    @property
    def block(self) -> int:
        """``⌈N/R⌉``, the most rows that a rank keeps."""
        return -(-self.size // self.ranks)

    @property
    def own(self) -> slice:
        """The rows that this rank keeps."""
        return self.rows_of(self.rank)

    def rows_of(self, rank: int) -> slice:
        """The rows that a rank keeps."""
        begin = min(rank * self.block, self.size)
        return slice(begin, min(begin + self.block, self.size))

    def owner(self, rows: Tensor) -> Tensor:
        """The rank that keeps each of ``rows``."""
        return rows // max(1, self.block)

    def fetch(self, tables: Sequence[Tensor], rows: Tensor) -> tuple[list[Tensor], Tensor]:
        """Whatever rows this rank needs, each fetched once from its owner.

        A rank sends its distinct rows to their owners and gets the tables' there, ``M`` in all:
        three exchanges, and one for each further table. The host learns their lengths, so a GPU
        is waited for. With one rank, these are the tables and rows as they are: nothing is copied.

        Args:
            tables: one or several.
            rows: int64, of any shape; each rank has its own.

        Returns:
            Of each table the fetched rows, ``(M, …)``, and the places of ``rows`` among them.
        """
        if not self.shared:
            return list(tables), rows
        distinct, places = torch.unique(rows, return_inverse=True)
        asked = torch.bincount(self.owner(distinct), minlength=self.ranks)
        wanted = torch.empty_like(asked)
        distributed.all_to_all_single(wanted, asked)
        to_owners, from_others = asked.tolist(), wanted.tolist()
        numbers = distinct.new_empty(sum(from_others))
        distributed.all_to_all_single(numbers, distinct, from_others, to_owners)
        local = numbers - self.own.start
        fetched = []
        for table in tables:
            found = table.new_empty(len(distinct), *table.shape[1:])
            given = _bytes(table.index_select(0, local))
            distributed.all_to_all_single(_bytes(found), given, to_owners, from_others)
            fetched.append(found)
        return fetched, places

    def whole(self, table: Tensor) -> Tensor:
        """A table's rows of all ranks, ``(N, …)``, on each; with one rank, the table itself."""
        if not self.shared:
            return table
        every = table.new_empty(self.ranks * self.block, *table.shape[1:])
        parts = list(_bytes(every).chunk(self.ranks))
        distributed.all_gather(parts, _bytes(self._filled(table, slice(0, self.block))))
        return every[: self.size]

    def around(self, tables: Sequence[Tensor]) -> Iterator[tuple[int, list[Tensor]]]:
        """The rows of every rank, one rank's at a time: this one's, then those of the ranks before.

        Blocks pass round a ring. While one is used here it is on its way to the next rank, and the
        one that will be used after it arrives from the rank before: this rank has room for two
        blocks beside its own. All ranks must go on to the end.

        Args:
            tables: one or several; they must not change on the way.

        Yields:
            A rank and its rows of each table. They are good until the next ones are asked for.
        """
        held, source = list(tables), self.rank
        for _ in range(self.ranks - 1):
            before = (source - 1) % self.ranks
            kept = self.rows_of(before)
            arriving = [x.new_empty(kept.stop - kept.start, *x.shape[1:]) for x in held]
            exchanges = self._pass_on(held, arriving)
            yield source, held
            for exchange in exchanges:
                exchange.wait()
            held, source = arriving, before
        yield source, held

    def _pass_on(self, sent: Sequence[Tensor], arriving: Sequence[Tensor]) -> list[Any]:
        """Begin to send to the next rank and to receive from the one before; what to wait for."""
        after, before = (self.rank + 1) % self.ranks, (self.rank - 1) % self.ranks
        to_next = [(distributed.isend, x, after) for x in sent]
        from_before = [(distributed.irecv, x, before) for x in arriving]
        asked = [
            distributed.P2POp(what, _bytes(x), rank)
            for what, x, rank in (*to_next, *from_before)
            if len(x)
        ]
        return distributed.batch_isend_irecv(asked) if asked else []

    def whole_on_main(self, table: Tensor) -> Tensor | None:
        """A table's rows of all ranks, ``(N, …)`` in main memory, on rank 0; None elsewhere.

        They come a part at a time, so no other rank needs room for them.
        """
        if not self.shared:
            return table
        main = self.rank == 0
        result = torch.empty(self.size, *table.shape[1:], dtype=table.dtype) if main else None
        row = table.itemsize * math.prod(table.shape[1:])
        step = max(1, _SAVED // max(1, self.ranks * row))
        for begin in range(0, self.block, step):
            part = slice(begin, min(begin + step, self.block))
            sent = _bytes(self._filled(table, part).cpu())
            if result is None:
                distributed.gather(sent)
                continue
            parts = [torch.empty_like(sent) for _ in range(self.ranks)]
            distributed.gather(sent, parts)
            for rank, received in enumerate(parts):
                kept = self.rows_of(rank)
                place = _bytes(result[kept][part])
                place.copy_(received[: len(place)])
        return result

    def _filled(self, table: Tensor, part: slice) -> Tensor:
        """Some rows of a block; zeros where this rank has none."""
        rows = table[part]
        missing = part.stop - part.start - len(rows)
        return torch.cat((rows, rows.new_zeros(missing, *rows.shape[1:]))) if missing else rows


def _bytes(table: Tensor) -> Tensor:
    """Rows ``(n, …)`` as bytes ``(n, b)``: not every backend knows every type of number."""
    return table.view(len(table), math.prod(table.shape[1:])).view(torch.uint8)
