"""Candidates of many queries, and the score below which nothing can be among their first ``k``."""

from collections.abc import Callable

import torch
from torch import Tensor

from earsight.selection.agreement_scores import Banks, Rounding, rounded_once
from earsight.selection.threads import Over

Exact = Callable[[Tensor, Tensor], Tensor]
"""Places of queries and positions of candidates, ``(P,)`` each, to their exact scores."""

_TIGHTENED = 4096


def shortlist_size(k: int) -> int:
    """Candidates kept per query: enough to double the rows seen twice over, and near-ties."""
    return 5 * k + 64


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
        asked: ``(P,)`` bool; false for queries that fill up a block.
        own: ``(P,)`` positions of the queries themselves; −1 where they are no candidates.
        positions: ``(P, room)`` int32; the first ``count`` of each query are candidates.
        scores: ``(P, room)``, as :func:`ordered`.
        count: ``(P,)`` int64.
        floor: ``(P,)``, as :func:`ordered`: what lies below cannot be among the first ``k``.
        lost: ``(P,)`` bool: more candidates than room, or no positive floor; these queries need
            another way.
    """

    def __init__(
        self,
        asked: Tensor,
        own: Tensor,
        k: int,
        error: Tensor,
        dtype: torch.dtype,
        exact: Exact,
    ) -> None:
        size, room, device = len(own), shortlist_size(k), own.device
        self.asked, self.own, self.k, self.room, self.dtype = asked, own, k, room, dtype
        self._error, self._exact = error, exact
        stored = torch.int16 if dtype == torch.bfloat16 else dtype
        self.lowest = -torch.inf if stored.is_floating_point else torch.iinfo(stored).min
        self._top = torch.inf if stored.is_floating_point else torch.iinfo(stored).max
        self.positions = torch.zeros(size, room, dtype=torch.int32, device=device)
        self.scores = torch.zeros(size, room, dtype=stored, device=device)
        self.count = torch.zeros(size, dtype=torch.int64, device=device)
        self.floor = torch.full((size,), self.lowest, dtype=stored, device=device)
        self.lost = ~asked
        self._first = torch.full((size, k), -torch.inf, device=device)
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
        self.floor[part] = torch.maximum(floor, self.floor[part]).masked_fill(
            self.lost[part], self._top
        )

    def clear(self, some: Tensor) -> None:
        """Forget the candidates of queries (not of fillers), and that they were lost."""
        self.count[some] = 0
        self.floor[some] = self.lowest
        self.lost[some] = False
        self._first[some] = -torch.inf
        self._settled[some] = 0

    def add(self, part: slice, query: Tensor, position: Tensor, score: Tensor) -> None:
        """Append candidates to the queries of ``part``; ``query`` counts from its start, ascending.

        A query whose candidates find no room is lost.
        """
        before = self.count[part]
        more = torch.bincount(query, minlength=len(before))
        first = before - (more.cumsum(0) - more)
        place = torch.arange(len(query), device=query.device) + first.index_select(0, query)
        at = (query + part.start) * self.room + place
        full = before + more > self.room
        if bool(full.any()):
            fits = place < self.room
            at, position, score = at[fits], position[fits], score[fits]
        self.positions.view(-1)[at] = position.to(torch.int32)
        self.scores.view(-1)[at] = score
        self.count[part] = (before + more).clamp_(max=self.room)
        self.lost[part] |= full
        self.floor[part].masked_fill_(self.lost[part], self._top)

    def tighten(self, part: slice, over: Over = map, *, always: bool = False) -> None:
        """Raise the floors of queries whose lists have grown, and drop what falls below.

        Args:
            part: the queries.
            over: does parts of the work.
            always: do it to all lists, and settle them.
        """
        count = self.count[part]
        grown = (count > 2 * self.k) & (count - self._settled[part] > self.k // 2)
        ready = ~self.lost[part] & (count >= self.k)
        chosen = ((grown | always) & ready).nonzero()[:, 0] + part.start

        def each(some: Tensor) -> None:
            settled = self._first[some, 0] > -torch.inf
            self._loosely(some[~settled])
            crowded = settled | (self.count[some] > 2 * self.k) | always
            self._settle(some[crowded])
            self._settled[some] = self.count[some]

        list(over(each, torch.split(chosen, _TIGHTENED)))

    def exact(self, some: Tensor) -> tuple[Tensor, Tensor]:
        """Candidates ``(S, C)`` of some queries and their exact scores, once all was tightened.

        A query with fewer than others has scores of −inf behind its own.
        """
        width = self._width(some)
        # Behind the first k stands only what equals the last of them.
        scores = self._first[some, -1:].repeat(1, width)
        scores[:, : self.k] = self._first[some]
        return self.positions[some, :width], scores.masked_fill(
            ~self._used(some, width), -torch.inf
        )

    def _loosely(self, some: Tensor) -> None:
        """Drop what is below a floor from scores as they are."""
        used = self._used(some, self._width(some))
        scores = self.scores[some, : used.shape[1]].masked_fill(~used, self.lowest)
        scores, order = scores.sort(dim=1, descending=True)
        self.set_floors(some, scores[:, self.k - 1])
        self._keep(some, scores >= self.floor[some, None], scores, order)

    def _width(self, some: Tensor) -> int:
        return int(self.count[some].amax()) if len(some) else self.k

    def _used(self, some: Tensor, width: int) -> Tensor:
        """``(S, width)`` bool: which of the first places hold a candidate."""
        return torch.arange(width, device=some.device) < self.count[some, None]

    def _keep(self, some: Tensor, kept: Tensor, scores: Tensor, order: Tensor) -> None:
        """Keep the first ones, as many as ``kept`` counts, of lists in another order."""
        width = order.shape[1]
        self.count[some] = torch.minimum(self.count[some], kept.sum(dim=1))
        self.scores[some, :width] = scores
        self.positions[some, :width] = self.positions[some, :width].gather(1, order)

    def _settle(self, some: Tensor) -> None:
        """Keep only the first ``k``, with all that equal the last, by their exact scores.

        A floor from exact scores is lower than the ``k``-th by one error of a product, not by
        two and a rounding, so fewer near-ties come after.
        """
        used = self._used(some, self._width(some))
        positions = self.positions[some, : used.shape[1]]
        exact = torch.full(used.shape, -torch.inf, device=some.device)
        # What was first the last time is still in front.
        exact[:, : self.k] = self._first[some]
        used &= exact == -torch.inf
        at = used.nonzero()[:, 0]
        exact[used] = self._exact(some.index_select(0, at), positions[used])
        exact, order = exact.sort(dim=1, descending=True)
        self._first[some] = exact[:, : self.k]
        kth = exact[:, self.k - 1]
        floor = ordered((kth - self._error[some]).to(self.dtype))
        self.floor[some] = torch.maximum(self.floor[some], floor)
        scores = self.scores[some, : used.shape[1]].gather(1, order)
        self._keep(some, exact >= kth[:, None], scores, order)


def errors(banks: Banks, dtype: torch.dtype) -> Tensor:
    """What a product in ``dtype`` and its exact score may differ by, for each row, ``(N,)``."""
    rounding = Rounding.of(banks, dtype)
    return rounding.product + rounding.exact
