"""What repeated runs say about a claim: intervals, paired tests, Holm's correction, verdicts.

Runs of one seed share their data order and initialisation, so differences are taken seed by seed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, stats

from earsight.evaluation.repeats import LEVEL, Estimate, estimate

POWER = 0.8
"""Chance with which the smallest detectable effect would be found."""

ROUNDING = 1e-12
"""Less than this is what subtraction leaves of equal figures."""

Verdict = Literal["holds", "does not", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A claim about a difference, tested over seeds.

    Attributes:
        difference: the first less the second, seed by seed.
        p: of the null hypothesis that the claim must overcome, before correction.
        against: p of the opposite finding, before correction.
        detectable: smallest true difference with which this many seeds would show the claim with a
            chance of 80 %, at the deviation seen and the strictest level that Holm's correction
            asks for; of a claim that nothing differs, the smallest margin that they would show if
            nothing did. None for one seed.
    """

    difference: Estimate
    p: float
    against: float
    detectable: float | None


def compare_greater(
    first: Sequence[float], second: Sequence[float], margin: float = 0.0, claims: int = 1
) -> Comparison:
    """Does ``first`` exceed ``second`` by more than ``margin``? Paired t-test, one-sided each way.

    ``claims`` are tested together.

    Raises:
        ValueError: the two are not as many, or not finite.
    """
    difference = estimate(_paired(first, second))
    effect = detectable_effect(difference, claims)
    return Comparison(
        difference=difference,
        p=_upper_tail(difference, margin),
        against=_lower_tail(difference, margin),
        detectable=None if effect is None else margin + effect,
    )


def compare_equal(
    first: Sequence[float], second: Sequence[float], margin: float, claims: int = 1
) -> Comparison:
    """Do the two differ by less than ``margin``? Two one-sided paired t-tests (TOST).

    ``claims`` are tested together.

    Raises:
        ValueError: the two are not as many, or not finite, or the margin is not positive.
    """
    if margin <= 0:
        raise ValueError("a claim that nothing differs needs a positive margin")
    difference = estimate(_paired(first, second))
    inside = _upper_tail(difference, -margin), _lower_tail(difference, margin)
    outside = _upper_tail(difference, margin), _lower_tail(difference, -margin)
    return Comparison(
        difference=difference,
        p=max(inside),
        # Either side would do, so the smaller p counts twice (Bonferroni).
        against=min(1.0, 2 * min(outside)),
        # Both tests must succeed: each may fail half as often.
        detectable=detectable_effect(difference, claims, (1 + POWER) / 2),
    )


def _paired(first: Sequence[float], second: Sequence[float]) -> list[float]:
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} seeds cannot be paired; run the same")
    return [a - b for a, b in zip(first, second, strict=True)]


def _upper_tail(difference: Estimate, margin: float) -> float:
    """Chance of a mean at least this large if the true difference were ``margin``."""
    if difference.n == 1:
        return 1.0
    excess = difference.mean - margin
    error = difference.std / math.sqrt(difference.n)
    if error < ROUNDING:
        return 0.5 if abs(excess) < ROUNDING else float(excess < 0)
    return float(stats.t.sf(excess / error, difference.n - 1))


def _lower_tail(difference: Estimate, margin: float) -> float:
    """Chance of a mean at most this large if the true difference were ``margin``."""
    return 1.0 if difference.n == 1 else 1 - _upper_tail(difference, margin)


def detectable_effect(difference: Estimate, claims: int = 1, power: float = POWER) -> float | None:
    """Smallest true difference that a one-sided paired t-test at 5 % / ``claims`` finds."""
    n = difference.n
    if n == 1:
        return None
    threshold = stats.t.isf(LEVEL / claims, n - 1)

    def lacking(noncentrality: float) -> float:
        return float(stats.nct.sf(threshold, n - 1, noncentrality)) - power

    most = 1.0
    while lacking(most) < 0:
        most *= 2
    found: float = optimize.brentq(lacking, 0.0, most)
    return found * difference.std / math.sqrt(n)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: all claims of a study stand together at 5 %."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    largest = 0.0
    for place, at in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - place) * p[at]))
        adjusted[at] = largest
    return [float(x) for x in adjusted]


def verdicts(comparisons: Sequence[Comparison]) -> list[Verdict]:
    """*holds* where a claim's null is rejected, *does not* where the opposite is found.

    Both are corrected over all of a study's claims; anything else is *undecided*.
    """
    shown = holm([c.p for c in comparisons])
    refuted = holm([c.against for c in comparisons])
    result: list[Verdict] = []
    for yes, no in zip(shown, refuted, strict=True):
        result.append("holds" if yes < LEVEL else "does not" if no < LEVEL else "undecided")
    return result
