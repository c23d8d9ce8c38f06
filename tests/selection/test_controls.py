import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from earsight.selection.controls import choose_hardest, choose_uniformly

masks = st.lists(st.booleans(), max_size=30).map(lambda x: torch.tensor(x, dtype=torch.bool))


@given(usable=masks, count=st.integers(1, 35), seed=st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_uniform_choice_is_of_distinct_usable_rows(usable, count, seed):
    rows = choose_uniformly(usable, count, seed=seed, index=3)
    assert len(rows) == len(set(rows.tolist())) == min(count, int(usable.sum()))
    assert usable[rows].all()
    assert torch.equal(rows, choose_uniformly(usable, count, seed=seed, index=3))


def test_uniform_choice_is_uniform_at_every_place():
    usable, draws = torch.tensor([True, False, True, True, True]), 3000
    counts = np.zeros((2, 5))
    for index in range(draws):
        counts[torch.arange(2), choose_uniformly(usable, 2, seed=0, index=index)] += 1
    assert (counts[:, 1] == 0).all()
    statistic = ((counts[:, usable] - draws / 4) ** 2 / (draws / 4)).sum(axis=1)
    assert (statistic < chi2.ppf(0.999, 3)).all()


def test_uniform_choice_depends_on_seed_index_and_purpose():
    usable = torch.ones(300, dtype=torch.bool)
    base = choose_uniformly(usable, 20, seed=0, index=0)
    assert not torch.equal(base, choose_uniformly(usable, 20, seed=1, index=0))
    assert not torch.equal(base, choose_uniformly(usable, 20, seed=0, index=1))
    assert not torch.equal(base, choose_uniformly(usable, 20, seed=0, index=0, purpose="audio"))


@given(
    losses=st.lists(st.integers(0, 5), max_size=20),
    count=st.integers(1, 25),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_hardest_equals_sorting(losses, count, data):
    usable = data.draw(st.lists(st.booleans(), min_size=len(losses), max_size=len(losses)))
    rows = choose_hardest(
        torch.tensor(losses, dtype=torch.float32),
        count,
        usable=torch.tensor(usable, dtype=torch.bool),
    )
    wanted = sorted((i for i in range(len(losses)) if usable[i]), key=lambda i: (-losses[i], i))
    assert rows.tolist() == wanted[:count]


def test_hardest_of_all():
    assert choose_hardest(torch.tensor([0.1, 3.0, 2.0]), 2).tolist() == [1, 2]


def test_faults_are_named():
    usable = torch.ones(3, dtype=torch.bool)
    with pytest.raises(ValueError, match="count is 0"):
        choose_uniformly(usable, 0, seed=0, index=0)
    with pytest.raises(ValueError, match="one bool for each of 3 candidates"):
        choose_uniformly(torch.ones(3), 1, seed=0, index=0)
    with pytest.raises(ValueError, match="losses: some are not finite"):
        choose_hardest(torch.tensor([0.0, torch.nan]), 1)
    with pytest.raises(ValueError, match="one bool for each of 3 candidates"):
        choose_hardest(torch.zeros(3), 1, usable=usable[:2])
