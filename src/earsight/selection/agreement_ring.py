"""Mining where ranks share the banks: each mines for its rows, blocks pass round a ring."""

from functools import partial

import torch
from torch import Tensor

from earsight.selection.agreement import (
    MEMORY,
    Agreement,
    Mined,
    Progress,
    check_enough,
    check_numbers,
    mine_among,
)
from earsight.selection.agreement_scores import Banks, in_blocks, ranked
from earsight.selection.owners import Owners

_MERGED = 65536
"""Queries whose positives of two blocks are merged at a time."""


@torch.no_grad()
def mine_shared(
    video: Tensor,
    audio: Tensor,
    k: int,
    *,
    owners: Owners,
    usable: Tensor,
    agreement: Agreement = "min",
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> Mined:
    """The positives of this rank's rows among those of all ranks; all of them must ask.

    The result is that of :func:`~earsight.selection.agreement.mine` over the whole banks, bit for
    bit: an agreement has the same bits in any company, so the first ``k`` of all are the first
    ``k`` of what each block has for its first ``k``. A rank has room for four blocks of
    ``⌈N/R⌉`` rows beside its own, so nothing grows with ``N`` but ``usable``.

    Args:
        video: ``(n, D)`` unit vectors, this rank's rows of the bank, in whatever type they are
            stored; they travel in it, and are compared in float32.
        audio: ``(n, D)`` the same of audio.
        k: positives per query.
        owners: who keeps which rows.
        usable: ``(N,)`` bool, the same on all ranks.
        agreement: as for :func:`~earsight.selection.agreement.mine`.
        memory: bytes to work in beyond blocks and result.
        progress: called with the number of queries done and their number, counted anew for each
            block.

    Returns:
        Of this rank's ``n`` rows; ``rows`` are numbers among all ``N``.

    Raises:
        ValueError: numbers that are not finite, or fewer than ``k`` other usable rows.
    """
    check_numbers(video, audio)
    check_enough(usable, k)
    tables = _Tables(video, audio, owners, agreement)
    asked = usable[owners.own].nonzero()[:, 0]
    found = Mined.none(len(video), k, video.device)

    def tell(blocks: int, done: int, _: int) -> None:
        if progress is not None:
            progress(blocks * len(asked) + done, owners.ranks * len(asked))

    for number, (rank, block) in enumerate(owners.around([video, audio])):
        rows = owners.rows_of(rank)
        own = rank == owners.rank
        least = min(k, int(usable[rows].sum()) - own)
        if least < 1 or not len(asked):
            continue
        banks, first = tables.beside(None if own else block)
        candidates = torch.zeros(len(banks), dtype=torch.bool, device=video.device)
        candidates[first:] = usable[rows]
        of_block = mine_among(
            banks,
            asked,
            candidates,
            least,
            memory=memory,
            progress=partial(tell, number),
        )
        _merge(found, asked, of_block, rows.start - first)
    return found


class _Tables:
    """This rank's rows in float32, with room behind them for those of another."""

    def __init__(self, video: Tensor, audio: Tensor, owners: Owners, agreement: Agreement) -> None:
        self._own, self._agreement = len(video), agreement
        size = self._own + (owners.block if owners.shared else 0)
        self._tables = [
            video.new_empty(size, x.shape[1], dtype=torch.float32) for x in (video, audio)
        ]
        for table, x in zip(self._tables, (video, audio), strict=True):
            table[: self._own] = x

    def beside(self, block: list[Tensor] | None) -> tuple[Banks, int]:
        """Both banks, and where in them the candidates begin: a ``block``'s behind the own rows.

        Without a block, the own rows are the candidates.
        """
        end = self._own
        if block is not None:
            end += len(block[0])
            for table, x in zip(self._tables, block, strict=True):
                table[self._own : end] = x
        video, audio = (x[:end] for x in self._tables)
        return Banks.of(video, audio, self._agreement), 0 if block is None else self._own


def _merge(found: Mined, asked: Tensor, block: Mined, offset: int) -> None:
    """Put the positives of one more block among those ``found``, of which ``offset`` is the row."""
    k = found.rows.shape[1]
    for part in in_blocks(len(asked), _MERGED):
        some = asked[part]
        scores = torch.cat((found.agreement[some], block.agreement[part]), dim=1)
        rows = torch.cat((found.rows[some], block.rows[part] + offset), dim=1)
        found.rows[some], found.agreement[some] = ranked(scores, rows, k)
