"""Figures of chosen negatives: as rows of the evaluation, and as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from earsight.evaluation.negatives import (
    DRAWS,
    Codes,
    Direction,
    Encoded,
    Norms,
    Unique,
    directions,
    pretext_accuracy,
)
from earsight.evaluation.rows import Row
from earsight.methods.momentum import MomentumConfig
from earsight.selection.gradient_embedding import SHARES, posterior_spread


@dataclass(frozen=True, kw_only=True)
class Judged:
    """How well the pretext task is done on a category.

    Attributes:
        direction: from queries to keys.
        label: the label column; empty for all clips.
        category: its text.
        accuracy: mean over the clips.
        n: clips.
    """

    direction: Direction
    label: str
    category: str
    accuracy: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is measured.

    Attributes:
        step: of the last checkpoint.
        unique: unique categories, of every checkpoint.
        norms: gradient norms, of the last.
        judged: pretext accuracies, of the last.
        keys: ``K``, keys of other clips that a query's own is told from.
    """

    step: int
    unique: Sequence[Unique]
    norms: Mapping[Direction, Norms]
    judged: Sequence[Judged]
    keys: int


def judge(
    last: Encoded,
    method: MomentumConfig,
    keys: int,
    labels: Codes,
    vocabulary: Mapping[str, tuple[str, ...]],
) -> list[Judged]:
    """Pretext accuracy over all clips, and of each category, best first."""
    found = []
    for direction in directions(within=False):
        sure = pretext_accuracy(
            last.queries[direction.query].outputs,
            last.keys[direction.key],
            keys,
            normalise=method.normalise,
        ).numpy()
        found.append(_judge(direction, "", "", sure))
        for label, codes in labels.items():
            each = [
                _judge(direction, label, vocabulary[label][code], sure[codes == code])
                for code in np.unique(codes[codes >= 0])
            ]
            found += sorted(each, key=lambda one: -one.accuracy)
    return found


def _judge(direction: Direction, label: str, category: str, sure: NDArray[np.float64]) -> Judged:
    return Judged(
        direction=direction,
        label=label,
        category=category,
        accuracy=float(sure.mean()),
        n=len(sure),
    )


def rows_of(figures: Figures) -> list[Row]:
    """The figures of the last checkpoint."""
    rows = [
        Row(
            task="unique",
            modality=str(one.direction),
            label=one.label,
            metric=f"{one.rule}@{one.size}",
            value=one.value,
            n=DRAWS,
        )
        for one in figures.unique
        if one.step == figures.step
    ]
    for direction, found in figures.norms.items():
        for name, values in (("chosen", found.chosen), ("random", found.random)):
            stats = {"mean": values.double().mean(), **quantiles(values)}
            rows += _stat_rows("gradient_norm", direction, f"{name}_", stats, len(values))
        spread = quantiles(found.residuals)
        rows += _stat_rows("pseudo_posterior", direction, "", spread, len(found.residuals))
    rows += [
        Row(
            task="pretext",
            modality=str(one.direction),
            metric="accuracy",
            value=one.accuracy,
            chance=1 / (figures.keys + 1),
            n=one.n,
        )
        for one in figures.judged
        if not one.label
    ]
    return rows


def quantiles(values: Tensor) -> dict[str, Tensor]:
    """By name: ``q05`` to ``q95``."""
    found = posterior_spread(values.double())
    return {f"q{100 * s:02.0f}": x for s, x in zip(SHARES, found, strict=True)}


def _stat_rows(
    task: str, direction: Direction, prefix: str, stats: Mapping[str, Tensor], n: int
) -> list[Row]:
    return [
        Row(task=task, modality=str(direction), metric=f"{prefix}{name}", value=float(x), n=n)
        for name, x in stats.items()
    ]


def plain(one: Unique | Judged) -> dict[str, Any]:
    """A figure as plain data."""
    tree = {name: value for name, value in vars(one).items() if name != "direction"}
    return {"query": one.direction.query, "key": one.direction.key, **tree}
