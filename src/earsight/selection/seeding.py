"""D² seeding: k-means++ without Lloyd's iterations (cm-acc alg. 1, lines 14 and 20).

The first is drawn uniformly, each next with probability proportional to its squared distance to the
nearest drawn (Arthur and Vassilvitskii, 2007). One draw needs the distances of all candidates to
the last drawn, and so reads all of them for one row. Here rows are *proposed* many at a time, by
the distances ``d²`` known so far, and gone through in order: one whose distance has since shrunk to
``d'²`` is accepted with probability ``d'²/d²``. What is accepted then has probability proportional
to ``d'²``, exactly as if drawn by it (rejection sampling), and that takes only the distances
between proposals. All candidates are read once for all that was accepted: at worst one, since the
first proposal always is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight.random import uniform
from earsight.transforms.draws import to_device

PURPOSE = "active"

PROPOSALS = 64
"""Rows proposed at a time."""

_CANDIDATES = {"cpu": 4096, "cuda": 2**18}
"""Candidates looked at together: on a CPU what its cache holds; a GPU gains by large products."""

_ROUNDING = 8
"""Roundings of its largest terms below which a squared distance counts as 0."""

Rows = Tensor | slice
"""Some candidates: ``(A,)`` int64, or a range."""


class Embedding(Protocol):
    """``N`` points of which squared distances are known, however they are held."""

    def __len__(self) -> int:
        """``N``."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the points are."""
        ...

    def squared_distances(self, rows: Tensor, among: Rows) -> Tensor:
        """``‖x_r − x_a‖²`` ``(R, A)`` of ``rows`` ``(R,)`` int64 to the ``A`` points ``among``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Points given by their vectors (table 2's feature embedding).

    Attributes:
        vectors: ``(N, D)``, less their mean.
        squared_norms: ``(N,)``.
    """

    vectors: Tensor
    squared_norms: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, vectors: Tensor) -> "Vectors":
        """Of vectors ``(N, D)``, such as the keys of a pool.

        Raises:
            ValueError: the shape is another, or a number is not finite.
        """
        if vectors.ndim != 2:
            raise ValueError(f"vectors: give (N, D), not {tuple(vectors.shape)}")
        vectors = vectors.detach().to(torch.promote_types(vectors.dtype, torch.float32))
        check_finite("vectors", vectors)
        # Distances stay, and products of what is far from the origin would lose their digits.
        vectors = vectors - vectors.mean(dim=0)
        squared_norms = vectors.square().sum(dim=1)
        check_finite("vectors: squared norms", squared_norms)
        return cls(vectors=vectors, squared_norms=squared_norms)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def device(self) -> torch.device:
        """Where the vectors are."""
        return self.vectors.device

    def squared_distances(self, rows: Tensor, among: Rows) -> Tensor:
        """``‖x_r − x_a‖²``: ``(R, A)``."""
        with torch.autocast(self.device.type, enabled=False):
            products = self.vectors[rows] @ self.vectors[among].T
        own, other = self.squared_norms[rows], self.squared_norms[among]
        return distances_of(products, own, other, own, other)


def distances_of(
    products: Tensor, own: Tensor, other: Tensor, own_scale: Tensor, other_scale: Tensor
) -> Tensor:
    """``‖x‖² + ‖y‖² − 2⟨x, y⟩``, written over the products; 0 where it is but rounding errors.

    Args:
        products: ``⟨x, y⟩`` ``(R, A)``.
        own: ``‖x‖²`` ``(R,)``.
        other: ``‖y‖²`` ``(A,)``.
        own_scale: ``(R,)``, at least the terms that ``‖x‖²`` is a sum of.
        other_scale: ``(A,)``, the same of ``‖y‖²``.
    """
    distances = products.mul_(-2).add_(own[:, None]).add_(other)
    rounding = _ROUNDING * torch.finfo(products.dtype).eps
    noise = (rounding * own_scale)[:, None] + rounding * other_scale
    return distances.masked_fill_(distances <= noise, 0)


@torch.no_grad()
def d2_seeding(
    embedding: Embedding,
    count: int,
    *,
    seed: int,
    index: int,
    usable: Tensor | None = None,
    purpose: str = PURPOSE,
    proposals: int = PROPOSALS,
) -> Tensor:
    """Rows drawn by D² seeding, without replacement (cm-acc §3).

    Where all distances left are 0, as among duplicates of what is drawn, the next is drawn
    uniformly from those not drawn. The draws are a function of ``seed``, ``purpose`` and ``index``.

    Args:
        embedding: the ``N`` candidates.
        count: ``M``, how many to draw.
        seed: the run's seed.
        index: number of this choice among those of its purpose, such as the step.
        usable: ``(N,)`` bool, candidates that may be drawn; all where it is None.
        purpose: what the draws decide; another for each dictionary of a step.
        proposals: rows proposed at a time; 1 draws one by one. It changes the draws, never their
            distribution.

    Returns:
        ``(min(M, usable),)`` int64, distinct rows in the order drawn: all usable candidates where
        they are fewer than ``M``.

    Raises:
        ValueError: ``count`` or ``proposals`` is below 1, ``usable`` is not ``(N,)`` bool, or a
            distance is not finite.
    """
    if proposals < 1:
        raise ValueError(f"proposals is {proposals}; give at least 1")
    left = checked_usable(usable, len(embedding), embedding.device, count).clone()
    count = min(count, int(left.sum()))
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=left.device)
    drawn = [_draw(left.float(), uniform(seed, purpose, index, n=np.arange(1)))]
    left[drawn[0]] = False
    nearest = _first_distances(embedding, drawn[0], left)
    found, block = 1, 0
    while found < count:
        block += 1
        size = min(proposals, count - found)
        u = uniform(seed, purpose, index, view=block, n=np.arange(2 * size))
        chosen = _accepted(embedding, nearest, left, u)
        drawn.append(chosen)
        left[chosen] = False
        found += len(chosen)
        if found < count:
            _approach(embedding, nearest, chosen)
            nearest[chosen] = 0
    return torch.cat(drawn)


def checked_usable(usable: Tensor | None, size: int, device: torch.device, count: int) -> Tensor:
    """The mask of usable candidates ``(size,)``, all where none is given.

    Raises:
        ValueError: the mask is of another shape or dtype, or ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}; choose at least 1 candidate")
    if usable is None:
        return torch.ones(size, dtype=torch.bool, device=device)
    if usable.shape != (size,) or usable.dtype != torch.bool:
        raise ValueError(
            f"usable: give one bool for each of {size} candidates, not "
            f"{tuple(usable.shape)} {usable.dtype}"
        )
    return usable.to(device)


def parts_of(size: int, device: torch.device) -> Iterator[slice]:
    """``size`` candidates, as many at a time as suit the device."""
    step = _CANDIDATES["cpu" if device.type == "cpu" else "cuda"]
    for begin in range(0, size, step):
        yield slice(begin, begin + step)


def check_finite(name: str, values: Tensor) -> None:
    """Refuse infinities and NaN.

    Raises:
        ValueError: a number is not finite.
    """
    if not bool(torch.isfinite(values).all()):
        raise ValueError(
            f"{name}: some are not finite; the encoders diverged, or lengths overflow float32"
        )


def _draw(weights: Tensor, u: NDArray[np.float64]) -> Tensor:
    """Independent draws ``(B,)`` in proportion to weights ``(N,)``, one per ``u`` in ``[0, 1)``."""
    # MPS has no float64.
    wide = torch.float32 if weights.device.type == "mps" else torch.float64
    cumulative = weights.cumsum(dim=0, dtype=wide)
    below_one = 1 - torch.finfo(wide).eps / 2
    share = to_device(u, weights.device, wide).clamp_(max=below_one)
    rows = torch.searchsorted(cumulative, share * cumulative[-1], right=True)
    rows = rows.clamp_(max=len(weights) - 1)
    # Sums that a device takes in parallel may fall by a rounding, where a weight is 0.
    return torch.where(weights[rows] > 0, rows, weights.argmax())


def _first_distances(embedding: Embedding, first: Tensor, left: Tensor) -> Tensor:
    """Squared distances ``(N,)`` to the first, 0 for what cannot be drawn."""
    nearest = embedding.squared_distances(first, slice(None))[0].clamp_min(0)
    check_finite("squared distances", nearest)
    return nearest.mul_(left)


def _approach(embedding: Embedding, nearest: Tensor, chosen: Tensor) -> None:
    """Lower the squared distances to the nearest drawn, in place, by those newly drawn."""
    for part in parts_of(len(nearest), nearest.device):
        found = embedding.squared_distances(chosen, part).amin(dim=0).clamp_min_(0)
        torch.minimum(nearest[part], found, out=nearest[part])


def _accepted(
    embedding: Embedding, nearest: Tensor, left: Tensor, u: NDArray[np.float64]
) -> Tensor:
    """Propose as many rows as half of ``u``, and accept some, at least the first."""
    spread_out = nearest.any()
    weights = torch.where(spread_out, nearest, left.to(nearest.dtype))
    size = len(u) // 2
    rows = _draw(weights, u[:size])
    between = embedding.squared_distances(rows, rows)
    # Where all distances are 0, a draw leaves the chances of the others as they are.
    between = torch.where(spread_out, between, torch.inf)
    between.masked_fill_(rows[:, None] == rows, 0)
    # The one wait for the device; the rest is a short loop over few numbers.
    table = torch.cat([weights[rows][None], between]).cpu().double().numpy()
    weight, distance = table[0], table[1:]
    now = weight.copy()
    taken = []
    for proposal in range(size):
        if u[size + proposal] * weight[proposal] < now[proposal]:
            taken.append(proposal)
            np.minimum(now, distance[proposal], out=now)
    return rows[torch.tensor(taken, device=rows.device)]
