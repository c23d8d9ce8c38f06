"""One evaluation over several folds and seeds: means, deviations, intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import stdtrit

from earsight.evaluation.rows import Row, as_metrics

LEVEL = 0.05
"""Of the 95 % intervals."""


_DEVIATION = "_deviation"

_Name = tuple[str, str, str | None, str | None, str]
"""What a row is of, its metric last."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        n: seeds.
        mean: over them.
        std: sample deviation (n − 1 in the denominator); 0 for one seed.
        low: lower end of the mean's 95 % interval (Student's t); None for one seed.
        high: upper end; None for one seed.
    """

    n: int
    mean: float
    std: float
    low: float | None
    high: float | None


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, deviation and 95 % interval of one figure over seeds.

    Raises:
        ValueError: there are no values, or one is not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError("an estimate needs one finite figure per seed")
    mean, n = float(x.mean()), len(x)
    if n == 1:
        return Estimate(n=1, mean=mean, std=0.0, low=None, high=None)
    std = float(x.std(ddof=1))
    half = float(stdtrit(n - 1, 1 - LEVEL / 2)) * std / math.sqrt(n)
    return Estimate(n=n, mean=mean, std=std, low=mean - half, high=mean + half)


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """The rows of one seed and fold; fold 0 is the split that the manifest names."""

    seed: int
    fold: int
    rows: tuple[Row, ...]


def check_seeds(seeds: int) -> None:
    """Refuse a number of seeds that measures nothing.

    Raises:
        ValueError: there are none.
    """
    if seeds < 1:
        raise ValueError(f"seeds: must be 1 or more, not {seeds}")


def combine(repeats: Sequence[Repeat]) -> list[Row]:
    """Each figure's mean over folds, and over seeds of these means.

    Added are ``METRIC_deviation``, over seeds or, of one seed, over folds; and of several seeds the
    ends of the mean's 95 % interval, ``METRIC_low`` and ``METRIC_high``. A measurement that has a
    ``METRIC_deviation`` of its own keeps that, as a mean. A figure that a fold lacks (a class that
    is not there) is averaged over the others.
    """
    if len(repeats) == 1:
        return list(repeats[0].rows)
    found: dict[_Name, dict[int, list[Row]]] = {}
    for repeat in repeats:
        for row in repeat.rows:
            name = (row.task, row.modality, row.label, row.block, row.metric)
            found.setdefault(name, {}).setdefault(repeat.seed, []).append(row)
    rows: list[Row] = []
    for name, by_seed in found.items():
        mean, *added = _combined(by_seed)
        rows.append(mean)
        if not name[-1].endswith(_DEVIATION):
            rows += [row for row in added if (*name[:-1], row.metric) not in found]
    return rows


def spread_text(repeats: Sequence[Repeat]) -> str:
    """How figures were averaged, as a sentence to go on with; empty where they were not."""
    folds, seeds = _folds(repeats), len({repeat.seed for repeat in repeats})
    text = f" Mean over folds {', '.join(map(str, folds))}." if len(folds) > 1 else ""
    if seeds > 1:
        return (
            f"{text} Mean over {seeds} seeds, with its 95 % interval (Student's t) and, except of "
            "figures that have a deviation of their own, the deviation over seeds."
        )
    return f"{text} The deviation is that over folds." if text else ""


def repeats_tree(repeats: Sequence[Repeat]) -> list[dict[str, Any]]:
    """The figures of each fold and seed, as plain data; nothing of a single one.

    Those of the random initialisation, where it was measured, stand beside them: ``baselines``.
    """
    if len(repeats) == 1:
        return []
    return [
        {
            "seed": one.seed,
            "fold": one.fold,
            "figures": as_metrics(one.rows),
            "baselines": as_metrics(
                replace(row, value=row.baseline, chance=None)
                for row in one.rows
                if row.baseline is not None
            ),
        }
        for one in repeats
    ]


def _folds(repeats: Sequence[Repeat]) -> list[int]:
    return sorted({repeat.fold for repeat in repeats if repeat.fold})


def _combined(by_seed: dict[int, list[Row]]) -> list[Row]:
    every = [row for rows in by_seed.values() for row in rows]
    seeds = [float(np.mean([row.value for row in rows])) for rows in by_seed.values()]
    over = estimate(seeds if len(seeds) > 1 else [row.value for row in every])
    first = every[0]
    mean = replace(
        first,
        value=float(np.mean(seeds)),
        chance=_mean([row.chance for row in every]),
        baseline=_mean([row.baseline for row in every]),
        n=sum(row.n for row in next(iter(by_seed.values()))),
    )
    added = {"deviation": over.std}
    if len(seeds) > 1 and over.low is not None and over.high is not None:
        added |= {"low": over.low, "high": over.high}
    plain = replace(mean, chance=None, baseline=None)
    return [
        mean,
        *(replace(plain, metric=f"{first.metric}_{n}", value=x) for n, x in added.items()),
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
