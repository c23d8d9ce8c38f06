import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from earsight.random import integers
from earsight.selection.negatives import (
    PURPOSE,
    draw_some,
    negatives_outside,
    uniform_negatives,
)


@given(
    size=st.integers(2, 2**31 - 1),
    seed=st.integers(0, 2**40),
    own=st.lists(st.integers(0, 2**31), min_size=1, max_size=8),
    count=st.integers(1, 20),
)
@settings(max_examples=60, deadline=None)
def test_never_the_own_row_and_within_bounds(size, seed, own, count):
    own_row = torch.tensor([row % size for row in own])
    index = torch.arange(len(own)) + 17
    rows = uniform_negatives(seed, index, own_row, count, size)
    assert rows.shape == (len(own), count)
    assert rows.dtype == torch.int64
    assert (rows >= 0).all()
    assert (rows < size).all()
    assert (rows != own_row[:, None]).all()


def test_equals_naive_loop():
    index, own = [5, 0, 123456789], [3, 0, 6]
    got = uniform_negatives(9, torch.tensor(index), torch.tensor(own), 6, 7).tolist()
    for sample in range(3):
        for k in range(6):
            drawn = int(integers(9, PURPOSE, index[sample], 6, n=np.array([k]))[0])
            assert got[sample][k] == (drawn if drawn < own[sample] else drawn + 1)


@pytest.mark.parametrize("own", [0, 7, 19])
def test_uniform_over_the_other_rows(own):
    size, draws = 20, 200 * 100
    rows = uniform_negatives(3, torch.arange(200), torch.full((200,), own), 100, size)
    counts = np.bincount(rows.flatten(), minlength=size)
    others = np.delete(counts, own)
    expected = draws / (size - 1)
    statistic = ((others - expected) ** 2 / expected).sum()
    assert counts[own] == 0
    assert chi2.ppf(0.001, size - 2) < statistic < chi2.ppf(0.999, size - 2)


def test_depend_on_the_sample_and_not_on_its_place():
    index, own = torch.tensor([4, 9, 2]), torch.tensor([1, 2, 3])
    rows = uniform_negatives(0, index, own, 50, 100)
    order = torch.tensor([2, 0, 1])
    assert torch.equal(uniform_negatives(0, index[order], own[order], 50, 100), rows[order])
    assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(uniform_negatives(1, index, own, 50, 100), rows)


def test_two_rows_leave_one_choice_and_one_row_none():
    rows = uniform_negatives(0, torch.arange(2), torch.tensor([0, 1]), 4, 2)
    assert rows.tolist() == [[1] * 4, [0] * 4]
    with pytest.raises(ValueError, match="at least 2 training instances"):
        uniform_negatives(0, torch.arange(1), torch.zeros(1, dtype=torch.int64), 4, 1)


@st.composite
def exclusions(draw):
    size = draw(st.integers(2, 12))
    width = draw(st.integers(1, size - 1))
    samples = draw(st.integers(1, 4))
    rows = [draw(st.permutations(range(size)))[:width] for _ in range(samples)]
    hidden = [draw(st.integers(0, width)) for _ in range(samples)]
    return size, torch.tensor(
        [r[:h] + [-1] * (width - h) for r, h in zip(rows, hidden, strict=True)]
    )


@given(case=exclusions(), seed=st.integers(0, 2**40))
@settings(max_examples=80, deadline=None)
def test_negatives_outside_equal_a_naive_choice_from_what_is_left(case, seed):
    size, excluded = case
    index = torch.arange(len(excluded)) + 5
    got = negatives_outside(seed, index, excluded, 30, size)
    for sample in range(len(excluded)):
        left = [row for row in range(size) if row not in excluded[sample].tolist()]
        drawn = integers(seed, PURPOSE, int(index[sample]), len(left), n=np.arange(30))
        assert got[sample].tolist() == [left[r] for r in drawn]


def test_negatives_outside_the_own_row_alone_are_the_uniform_ones():
    index, own = torch.arange(9), torch.tensor([0, 3, 19, 4, 4, 7, 8, 1, 0])
    expected = uniform_negatives(2, index, own, 50, 20)
    assert torch.equal(negatives_outside(2, index, own[:, None], 50, 20), expected)


def test_without_a_row_left_there_are_no_negatives():
    with pytest.raises(ValueError, match="of 3 training instances 3 are excluded"):
        negatives_outside(0, torch.arange(1), torch.tensor([[0, 1, 2]]), 4, 3)


def test_some_rows_are_drawn_evenly_and_each_once():
    rows = torch.arange(10, 16).expand(6000, -1)
    drawn = draw_some(4, "positives", torch.arange(6000), rows, 2)
    assert drawn.shape == (6000, 2)
    assert (drawn[:, 0] != drawn[:, 1]).all()
    counts = np.bincount(drawn.flatten() - 10, minlength=6)
    statistic = ((counts - 2000) ** 2 / 2000).sum()
    assert statistic < chi2.ppf(0.999, 5)
    assert torch.equal(draw_some(4, "positives", torch.arange(6000), rows, 6), rows)
