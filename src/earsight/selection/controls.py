"""Choices of negatives that active choice is compared with (cm-acc table 3)."""

import torch
from torch import Tensor

from earsight.random import integers_on_device
from earsight.selection.seeding import check_finite, checked_usable

PURPOSE = "random"


@torch.no_grad()
def choose_uniformly(
    usable: Tensor, count: int, *, seed: int, index: int, purpose: str = PURPOSE
) -> Tensor:
    """Usable candidates drawn uniformly, without replacement.

    Args:
        usable: ``(N,)`` bool, candidates that may be drawn.
        count: ``M``, how many.
        seed: the run's seed.
        index: number of this choice among those of its purpose, such as the step.
        purpose: what the draws decide; another for each dictionary of a step.

    Returns:
        ``(min(M, usable),)`` int64, distinct rows in random order: all usable candidates where
        they are fewer than ``M``.

    Raises:
        ValueError: ``count`` is below 1, or ``usable`` is not ``(N,)`` bool.
    """
    usable = checked_usable(usable, len(usable), usable.device, count)
    own = torch.full((1,), index, dtype=torch.int64, device=usable.device)
    lots = integers_on_device(seed, purpose, own, len(usable), 2**31 - 1)[0]
    return _first(torch.where(usable, lots, 2**31), usable, count, descending=False)


@torch.no_grad()
def choose_hardest(losses: Tensor, count: int, *, usable: Tensor | None = None) -> Tensor:
    """Online hard example mining: the usable candidates of highest pseudo-label loss.

    Args:
        losses: ``(N,)``, of :func:`~earsight.selection.gradient_embedding.pseudo_posteriors`.
        count: ``M``, how many.
        usable: ``(N,)`` bool, candidates that may be chosen; all where it is None.

    Returns:
        ``(min(M, usable),)`` int64, highest loss first, the lower of equal rows first: all usable
        candidates where they are fewer than ``M``.

    Raises:
        ValueError: ``count`` is below 1, ``usable`` is not ``(N,)`` bool, or a loss is not finite.
    """
    usable = checked_usable(usable, len(losses), losses.device, count)
    check_finite("losses", losses)
    return _first(losses.masked_fill(~usable, -torch.inf), usable, count, descending=True)


def _first(ranked_by: Tensor, usable: Tensor, count: int, *, descending: bool) -> Tensor:
    order = ranked_by.argsort(stable=True, descending=descending)
    return order[: min(count, int(usable.sum()))]
