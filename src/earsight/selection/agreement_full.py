"""Mining by whole rows of the similarity matrix: for few rows, and where shortcuts do not hold."""

import torch
from torch import Tensor

from earsight.selection.agreement_scores import Banks, Rounding, in_blocks, score_and_rank

_BYTES = 32
"""Of working memory per query and row: products of two modalities, a selection's copy, a mask."""

_LISTED = 128
"""Bytes per candidate: its places and rows, and what ordering them takes."""


def mine_whole_rows(
    banks: Banks,
    queries: Tensor,
    k: int,
    *,
    usable: Tensor,
    memory: int,
) -> tuple[Tensor, Tensor]:
    """Rows ``(Q, k)`` of largest agreement and their agreement, a few queries at a time.

    Candidates are all rows within rounding of the k-th largest float32 product.

    Args:
        banks: what is compared.
        queries: ``(Q,)`` usable rows.
        k: below the number of usable rows.
        usable: ``(N,)`` bool.
        memory: bytes to work in.
    """
    rounding = Rounding.of(banks, torch.float32)
    rows = torch.empty(len(queries), k, dtype=torch.int64, device=banks.device)
    agreement = torch.empty(len(queries), k, device=banks.device)
    hidden = None if bool(usable.all()) else ~usable
    for part in in_blocks(len(queries), max(1, memory // (_BYTES * len(banks)))):
        own = queries[part]
        scores = banks.products(tuple(x[own] for x in banks.vectors), banks.vectors)
        scores.scatter_(1, own[:, None], -torch.inf)
        if hidden is not None:
            scores.masked_fill_(hidden, -torch.inf)
        kth = scores.topk(k, dim=1).values[:, -1]
        floor = kth - 2 * (rounding.product[own] + rounding.exact)
        near = scores >= floor[:, None]
        longest = int(near.sum(dim=1).max())
        for some in in_blocks(len(own), max(1, memory // (_LISTED * longest))):
            at, found = near[some].nonzero().unbind(1)
            listed = score_and_rank(banks, own[some], at, found, k)
            rows[part][some], agreement[part][some] = listed
    return rows, agreement
