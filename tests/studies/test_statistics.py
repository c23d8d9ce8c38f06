"""Intervals, paired tests, Holm's correction and verdicts, against formulas and scipy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from earsight.evaluation.repeats import estimate
from earsight.studies.statistics import (
    compare_equal,
    compare_greater,
    detectable_effect,
    holm,
    verdicts,
)

FIRST = [3.0, 4.5, 5.0, 4.0, 6.0]
SECOND = [2.0, 3.0, 3.5, 4.5, 3.0]


def test_an_estimate_by_hand():
    found = estimate([1.0, 2.0, 6.0])
    assert found.mean == pytest.approx(3.0)
    assert found.std == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    half = 4.302652729749462 * found.std / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))


def test_one_seed_has_no_interval_and_decides_nothing():
    assert estimate([2.0]).low is None
    alone = compare_greater([2.0], [1.0])
    assert (alone.p, alone.against, alone.detectable) == (1.0, 1.0, None)
    assert verdicts([alone, compare_equal([2.0], [2.0], 1.0)]) == ["undecided", "undecided"]


def test_paired_tests_equal_those_of_scipy():
    found = compare_greater(FIRST, SECOND)
    assert found.p == pytest.approx(stats.ttest_rel(FIRST, SECOND, alternative="greater").pvalue)
    assert found.against == pytest.approx(stats.ttest_rel(FIRST, SECOND, alternative="less").pvalue)
    shifted = [x + 0.5 for x in SECOND]
    assert compare_greater(FIRST, SECOND, margin=0.5).p == pytest.approx(
        stats.ttest_rel(FIRST, shifted, alternative="greater").pvalue
    )


def test_equality_is_the_worse_of_two_one_sided_tests():
    difference = np.subtract(FIRST, SECOND)
    found = compare_equal(FIRST, SECOND, 3.0)
    above = stats.ttest_1samp(difference, -3.0, alternative="greater").pvalue
    below = stats.ttest_1samp(difference, 3.0, alternative="less").pvalue
    assert found.p == pytest.approx(max(above, below))


def test_the_detectable_effect_is_found_as_often_as_it_says():
    rng = np.random.default_rng(0)
    n, std = 6, 2.0
    one = estimate(rng.normal(0, std, n))
    effect = detectable_effect(one)
    assert effect is not None
    effect *= std / one.std
    draws = rng.normal(effect, std, (20_000, n))
    t = draws.mean(1) / (draws.std(1, ddof=1) / math.sqrt(n))
    assert (t > stats.t.ppf(0.95, n - 1)).mean() == pytest.approx(0.8, abs=0.01)


SIX = [*FIRST, 5.5], [*SECOND, 3.0]


def excess(draws, margin):
    """t of each row's mean beyond a margin."""
    return (draws.mean(1) - margin) / (draws.std(1, ddof=1) / math.sqrt(draws.shape[1]))


@pytest.mark.parametrize("margin", [1.0, -0.5])
def test_what_is_detectable_is_found_beyond_the_margin_and_after_correction(margin):
    one = compare_greater(*SIX, margin, claims=3)
    effect = (one.detectable - margin) / one.difference.std
    draws = np.random.default_rng(1).normal(margin + effect, 1, (20_000, 6))
    found = excess(draws, margin) > stats.t.isf(0.05 / 3, 5)
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_the_margin_that_is_detectable_is_shown_where_nothing_differs():
    one = compare_equal(*SIX, 1.0, claims=3)
    margin = one.detectable / one.difference.std
    draws = np.random.default_rng(2).normal(0, 1, (20_000, 6))
    least = stats.t.isf(0.05 / 3, 5)
    found = (excess(draws, -margin) > least) & (excess(draws, margin) < -least)
    # A little more often: where the deviation comes out large, both tests fail together.
    assert 0.79 < found.mean() < 0.83


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_many_claims_have_a_detectable_effect(seeds):
    one = estimate(list(range(seeds)))
    effects = [detectable_effect(one, claims) for claims in (1, 24)]
    assert 0 < effects[0] < effects[1] < math.inf


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p):
    adjusted = holm(p)
    assert all(x <= y <= min(1.0, len(p) * x) + 1e-12 for x, y in zip(p, adjusted, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_verdicts():
    clear = compare_greater([5.0, 5.1, 4.9, 5.2], [1.0, 1.2, 0.9, 1.1])
    wrong = compare_greater([1.0, 1.2, 0.9, 1.1], [5.0, 5.1, 4.9, 5.2])
    open_ = compare_greater([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 3.0])
    alike = compare_equal([1.0, 1.2, 0.9, 1.1], [1.1, 1.1, 1.0, 1.0], 2.0)
    apart = compare_equal([5.0, 5.1, 4.9, 5.2], [1.0, 1.2, 0.9, 1.1], 1.0)
    found = verdicts([clear, wrong, open_, alike, apart])
    assert found == ["holds", "does not", "undecided", "holds", "does not"]


def test_differences_without_spread():
    same = compare_greater([2.0, 3.0], [1.0, 2.0])
    assert (same.p, same.against) == (0.0, 1.0)
    assert compare_greater([1.0, 2.0], [1.0, 2.0]).p == 0.5


def test_what_rounding_leaves_is_no_difference():
    # 0.3 - 0.2 and 0.1 differ by 3e-17, the same in both seeds.
    same = compare_greater([0.3 - 0.2, 0.3 - 0.2], [0.1, 0.1])
    assert (same.p, same.against) == (0.5, 0.5)
    at_margin = compare_greater([0.52, 0.52], [0.5, 0.5], margin=0.02)
    assert (at_margin.p, at_margin.against) == (0.5, 0.5)


def test_what_cannot_be_compared():
    with pytest.raises(ValueError, match="2 and 1 seeds"):
        compare_greater([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="finite"):
        estimate([1.0, math.nan])
    with pytest.raises(ValueError, match="margin"):
        compare_equal([1.0], [1.0], 0.0)
