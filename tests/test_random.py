import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from earsight import random

few = settings(max_examples=40, deadline=None)


def splitmix(x: int) -> int:
    """The finaliser in Python's own integers."""
    mask = 2**64 - 1
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
    return x ^ (x >> 31)


def test_stream_is_the_hash_of_its_fields():
    golden, mask = 0x9E3779B97F4A7C15, 2**64 - 1
    h = splitmix((7 * golden ^ random.purpose_code("crop")) & mask)
    for field in (123456789, 2):
        h = splitmix(h ^ (field + 1) * golden & mask)
    assert int(random.stream(7, "crop", 123456789, 2)) == h
    assert int(random.bits(np.uint64(h), 5)) == splitmix((h + 6 * golden) & mask)


@few
@given(
    st.integers(0, 2**40), st.integers(1, 2**31 - 1), st.lists(st.integers(0, 2**62), min_size=1)
)
def test_device_draws_equal_numpy(seed, high, index):
    on_device = random.integers_on_device(seed, "negatives", torch.tensor(index), 5, high, view=1)
    expected = random.integers(
        seed, "negatives", np.array(index)[:, None], high, view=1, n=np.arange(5)
    )
    assert on_device.tolist() == expected.tolist()
    assert expected.min() >= 0
    assert expected.max() < high


def test_uniform_draws_are_uniform_and_separate():
    first = random.uniform(0, "crop", np.arange(100_000))
    second = random.uniform(0, "flip", np.arange(100_000))
    for draws in (first, second):
        counts = np.histogram(draws, 20, (0, 1))[0]
        # Chi-square with 19 degrees of freedom: 43.8 is its 99.9 % point.
        assert ((counts - 5000) ** 2 / 5000).sum() < 43.8
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.01
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.01


@pytest.mark.parametrize("changed", [{"seed": 1}, {"view": 1}, {"n": 1}, {"purpose": "other"}])
def test_every_field_changes_the_draw(changed):
    base = {"seed": 0, "purpose": "crop", "index": np.arange(50), "view": 0, "n": 0}
    assert (random.uniform(**base) != random.uniform(**{**base, **changed})).all()


@few
@given(st.integers(0, 2**32), st.integers(1, 3000))
def test_permutation_is_a_bijection(seed, size):
    assert sorted(random.permute(seed, "order", np.arange(size), size)) == list(range(size))


@few
@given(st.integers(0, 2**32), st.integers(1, 500), st.integers(1, 60))
def test_block_permutation_is_a_bijection_that_keeps_blocks(seed, size, block):
    order = random.permute_blocks(seed, "order", np.arange(size), size, block)
    assert sorted(order) == list(range(size))
    changes = np.count_nonzero(np.diff(order // block)) + 1
    assert changes == -(-size // block)


def test_block_permutation_needs_no_neighbours():
    whole = random.permute_blocks(3, "order", np.arange(103), 103, 10)
    pieces = [random.permute_blocks(3, "order", [p], 103, 10)[0] for p in range(103)]
    assert whole.tolist() == pieces


def test_permutations_of_two_seeds_differ():
    one, two = (random.permute(seed, "order", np.arange(100), 100) for seed in (0, 1))
    assert (one == two).mean() < 0.1
