"""What rules choose as negatives, and how well the pretext task is done (cm-acc figs. 2, 4–6)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight import random
from earsight.encoders.pair import MODALITIES, OTHER
from earsight.methods.base import unit
from earsight.methods.choice import RULES, Choice, Queries
from earsight.methods.momentum import PosteriorConfig

SIZES = (8, 16, 32)
"""Negatives chosen at a time, ``M``."""

DRAWS = 20
"""Batches, each with its pool, that figures are averaged over."""

POOL_BATCHES = 16
"""Batches that a pool holds, at most."""

_FEWEST_BATCHES = 2
_QUERIES = 1024

Codes = Mapping[str, NDArray[np.int64]]
"""Category of each clip by label column, -1 where there is none."""


class Direction(NamedTuple):
    """The modality of the queries, and that of the keys that they are compared with."""

    query: str
    key: str

    def __str__(self) -> str:
        return f"{self.query}-{self.key}"


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """``n`` clips as the encoders of a checkpoint give them.

    Attributes:
        step: of the checkpoint.
        keys: modality to ``(n, D)``, not normalised.
        queries: modality to what the query encoders give, of ``n`` clips.
    """

    step: int
    keys: Mapping[str, Tensor]
    queries: Mapping[str, Queries]

    def __len__(self) -> int:
        return len(self.keys["video"])


@dataclass(frozen=True, kw_only=True)
class Unique:
    """How many categories the chosen come from.

    Attributes:
        step: of the checkpoint.
        direction: from queries to the keys that are chosen.
        label: the label column.
        size: ``M``, chosen at a time.
        rule: that chose, by its name in ``RULES``.
        value: unique categories, the mean over draws.
        error: its standard error.
        categories: that there are among all clips.
    """

    step: int
    direction: Direction
    label: str
    size: int
    rule: str
    value: float
    error: float
    categories: int


@dataclass(frozen=True, kw_only=True)
class Norms:
    """Gradient norms of negatives, over all draws.

    Attributes:
        chosen: ``(draws · M,)`` of those that the gradient rule chose.
        random: ``(draws · M,)`` of random ones.
        residuals: ``‖r_n‖`` of all candidates.
        best: clips of the first draw that the gradient rule chose, by falling norm.
        others: clips of the first draw at random.
    """

    chosen: Tensor
    random: Tensor
    residuals: Tensor
    best: tuple[tuple[int, float], ...]
    others: tuple[tuple[int, float], ...]


def directions(within: bool) -> list[Direction]:
    """From queries to keys: across modalities or, as in SMoCo, within each."""
    return [Direction(query, query if within else OTHER[query]) for query in MODALITIES]


def sizes_for(clips: int) -> list[int]:
    """The ``M`` for which a batch, and a pool of at least two more, can be drawn."""
    return [size for size in SIZES if (1 + _FEWEST_BATCHES) * size <= clips]


def draw(clips: int, size: int, number: int, seed: int) -> tuple[Tensor, Tensor]:
    """A batch ``(M,)`` and a pool of sixteen times as many other clips, or all that are left."""
    order = random.uniform(seed, "negatives", number, n=np.arange(clips)).argsort(kind="stable")
    drawn = torch.from_numpy(order)
    return drawn[:size], drawn[size : (1 + POOL_BATCHES) * size]


def posed(
    encoded: Encoded,
    direction: Direction,
    batch: Tensor,
    pool: Tensor,
    *,
    settings: PosteriorConfig,
    number: int,
    seed: int,
) -> Choice:
    """What rules choose from: clips of a pool, given the queries of a batch."""
    queries = encoded.queries[direction.query]
    return Choice(
        settings=settings,
        candidates=encoded.keys[direction.key][pool],
        usable=torch.ones(len(pool), dtype=torch.bool),
        queries=Queries(queries.outputs[batch], queries.inputs[batch]),
        seed=seed,
        index=number,
        name=f"negatives/{direction.key}/{len(batch)}",
    )


def with_product(labels: Codes) -> dict[str, NDArray[np.int64]]:
    """The columns and, of two or more, their product: a category for each combination."""
    if len(labels) < 2:
        return dict(labels)
    table = np.stack(list(labels.values()), axis=1)
    codes = np.unique(table, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    codes[(table < 0).any(axis=1)] = -1
    return {**labels, " × ".join(labels): codes}


def categories(codes: NDArray[np.int64]) -> int:
    """How many there are; clips without one count for none."""
    return len(np.unique(codes[codes >= 0]))


def unique_categories(
    encoded: Encoded, labels: Codes, *, settings: PosteriorConfig, within: bool, seed: int
) -> list[Unique]:
    """Unique categories among ``M`` negatives that each rule chooses from a pool (figs. 2, 4).

    The draws of batch and pool are the same for all rules and checkpoints.

    Args:
        encoded: the clips.
        labels: columns, products among them.
        settings: of the choice.
        within: see :func:`directions`.
        seed: of the draws.
    """
    found = []
    for size in sizes_for(len(encoded)):
        for direction in directions(within):
            counts: dict[tuple[str, str], list[int]] = {}
            for number in range(DRAWS):
                batch, pool = draw(len(encoded), size, number, seed)
                choice = posed(
                    encoded, direction, batch, pool, settings=settings, number=number, seed=seed
                )
                for rule, choose in RULES.items():
                    rows = pool[choose(choice)].numpy()
                    for label, codes in labels.items():
                        counts.setdefault((label, rule), []).append(categories(codes[rows]))
            found += [
                Unique(
                    step=encoded.step,
                    direction=direction,
                    label=label,
                    size=size,
                    rule=rule,
                    value=float(np.mean(each)),
                    error=float(np.std(each, ddof=1) / DRAWS**0.5),
                    categories=categories(labels[label]),
                )
                for (label, rule), each in counts.items()
            ]
    return found


def gradient_norms(
    encoded: Encoded, direction: Direction, *, settings: PosteriorConfig, seed: int
) -> Norms:
    """Norms of gradient embeddings, of chosen and of random negatives, for the largest ``M``."""
    size = sizes_for(len(encoded))[-1]
    norms: dict[str, list[Tensor]] = {"cm-acc": [], "random-pool": []}
    first: dict[str, tuple[tuple[int, float], ...]] = {}
    residuals = []
    for number in range(DRAWS):
        batch, pool = draw(len(encoded), size, number, seed)
        choice = posed(encoded, direction, batch, pool, settings=settings, number=number, seed=seed)
        residuals.append(choice.gradients.residual_norms)
        for rule, every in norms.items():
            chosen = RULES[rule](choice)
            every.append(choice.gradients.norms[chosen])
            if not number:
                found = zip(pool[chosen].tolist(), every[0].tolist(), strict=True)
                first[rule] = tuple(found)
    return Norms(
        chosen=torch.cat(norms["cm-acc"]),
        random=torch.cat(norms["random-pool"]),
        residuals=torch.cat(residuals),
        best=tuple(sorted(first["cm-acc"], key=lambda one: -one[1])),
        others=first["random-pool"],
    )


def pretext_accuracy(queries: Tensor, keys: Tensor, count: int, *, normalise: bool) -> Tensor:
    """How surely each query finds its own key first, among ``K`` keys of other clips (fig. 6).

    The others are drawn without replacement. Of the ``n − 1`` other keys, ``c`` are at least as
    near to a query as its own: all draws together, it wins in ``C(n−1−c, K) / C(n−1, K)`` of them.

    Args:
        queries: ``(n, D)``.
        keys: ``(n, D)``, of the same clips.
        count: ``K``, at most ``n − 1``.
        normalise: compare by cosine instead of by inner products.

    Returns:
        ``(n,)`` probabilities, float64.
    """
    change = unit if normalise else torch.Tensor.float
    q, k = change(queries), change(keys)
    nearer = []
    for begin in range(0, len(q), _QUERIES):
        scores = q[begin : begin + _QUERIES] @ k.T
        at = torch.arange(len(scores))
        own = scores[at, begin + at]
        nearer.append((scores >= own[:, None]).sum(dim=1) - 1)
    every = torch.tensor(len(keys) - 1)
    left = every - torch.cat(nearer)
    won = (_log_choices(left.clamp_min(count), count) - _log_choices(every, count)).exp()
    return torch.where(left >= count, won, 0.0)


def _log_choices(of: Tensor, count: int) -> Tensor:
    """``log C(of, count)``, less what depends on the count alone."""
    wide = of.double()
    return torch.lgamma(wide + 1) - torch.lgamma(wide - count + 1)
