from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from earsight.selection import seeding as module
from earsight.selection.gradient_embedding import GradientEmbedding
from earsight.selection.seeding import Vectors, d2_seeding

POINTS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 2.0], [3.0, 2.5]])


def squared(vectors):
    return (vectors[:, None] - vectors).square().sum(dim=2)


def probability(distances, order, usable):
    """Of drawing rows in this order, by the definition."""
    p = 1 / len(usable)
    for place in range(1, len(order)):
        nearest = {row: min(distances[row][c] for c in order[:place]) for row in usable}
        p *= nearest[order[place]] / sum(nearest.values())
    return p


def check_frequencies(embedding, distances, usable, count, proposals, draws=2500):
    """Every order of drawing is as frequent as the definition has it (chi-square)."""
    mask = torch.zeros(len(embedding), dtype=torch.bool)
    mask[usable] = True
    seen = {}
    for index in range(draws):
        rows = d2_seeding(
            embedding, count, seed=5, index=index, usable=mask, proposals=proposals
        ).tolist()
        seen[tuple(rows)] = seen.get(tuple(rows), 0) + 1
    expected = {x: draws * probability(distances, x, usable) for x in permutations(usable, count)}
    assert sum(expected.values()) == pytest.approx(draws)
    assert {x for x, e in expected.items() if e == 0}.isdisjoint(seen)
    # Rare orders count together, as chi-square wants.
    common = {x: e for x, e in expected.items() if e >= 5}
    cells = [(seen.get(x, 0), e) for x, e in common.items()]
    rest = draws - sum(common.values())
    if rest > 1:
        cells.append((draws - sum(o for o, _ in cells), rest))
    statistic = sum((o - e) ** 2 / e for o, e in cells)
    assert statistic < chi2.ppf(0.999, len(cells) - 1)


@pytest.mark.parametrize("proposals", [1, 2, 64])
def test_orders_are_as_frequent_as_defined(proposals):
    usable = [0, 1, 2, 3, 5]
    check_frequencies(Vectors.of(POINTS), squared(POINTS).tolist(), usable, 4, proposals)


def test_pairs_of_gradients_are_as_frequent_as_defined():
    generator = torch.Generator().manual_seed(3)
    keys, weight, inputs = (torch.randn(*s, generator=generator) for s in ((5, 3), (3, 6), (4, 6)))
    embedding = GradientEmbedding.of(keys, inputs @ weight.T, inputs)
    distances = embedding.squared_distances(torch.arange(5), slice(None)).tolist()
    check_frequencies(embedding, distances, [0, 1, 2, 3, 4], 3, 64)


def test_the_first_is_uniform():
    draws = 3000
    usable = torch.tensor([True, True, False, True, True, True])
    first = [
        int(d2_seeding(Vectors.of(POINTS), 1, seed=2, index=i, usable=usable)[0])
        for i in range(draws)
    ]
    counts = np.bincount(first, minlength=6)
    assert counts[2] == 0
    others = np.delete(counts, 2)
    statistic = ((others - draws / 5) ** 2 / (draws / 5)).sum()
    assert chi2.ppf(0.001, 4) < statistic < chi2.ppf(0.999, 4)


@pytest.mark.parametrize("proposals", [1, 64])
def test_spreads_as_far_at_any_number_of_proposals(proposals):
    """The mean potential over many draws equals that of drawing by the definition."""
    generator = torch.Generator().manual_seed(0)
    centres = 4 * torch.randn(8, 6, generator=generator)
    x = (centres[torch.arange(200) % 8] + torch.randn(200, 6, generator=generator)).double()
    distances, usual = squared(x), np.random.default_rng(1)
    by_definition, found = [], []
    for index in range(300):
        rows = [int(usual.integers(200))]
        while len(rows) < 12:
            p = distances[rows].amin(dim=0).numpy()
            rows.append(int(usual.choice(200, p=p / p.sum())))
        by_definition.append(float(distances[rows].amin(dim=0).sum()))
        drawn = d2_seeding(Vectors.of(x), 12, seed=0, index=index, proposals=proposals)
        found.append(float(distances[drawn].amin(dim=0).sum()))
    error = np.sqrt((np.var(by_definition) + np.var(found)) / 300)
    assert abs(np.mean(by_definition) - np.mean(found)) < 3.3 * error


@st.composite
def pools(draw):
    size, dim = draw(st.integers(1, 30)), draw(st.integers(1, 3))
    # Few values, so that there are duplicates.
    number = st.integers(-2, 2)
    vectors = draw(st.lists(number, min_size=size * dim, max_size=size * dim))
    usable = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return torch.tensor(vectors).view(size, dim).float(), torch.tensor(usable)


@given(
    pool=pools(),
    count=st.integers(1, 35),
    seed=st.integers(0, 2**40),
    proposals=st.sampled_from([1, 3, 64]),
)
@settings(max_examples=120, deadline=None)
def test_distinct_usable_rows_and_what_differs_before_copies(pool, count, seed, proposals):
    vectors, usable = pool
    rows = d2_seeding(
        Vectors.of(vectors), count, seed=seed, index=7, usable=usable, proposals=proposals
    )
    assert rows.dtype == torch.int64
    assert len(rows) == min(count, int(usable.sum()))
    assert len(set(rows.tolist())) == len(rows)
    assert usable[rows].all()
    kinds = len(vectors[usable].unique(dim=0))
    assert len(vectors[rows].unique(dim=0)) == min(len(rows), kinds)
    again = d2_seeding(
        Vectors.of(vectors), count, seed=seed, index=7, usable=usable, proposals=proposals
    )
    assert torch.equal(rows, again)


def test_copies_are_drawn_uniformly():
    draws = 2000
    copies = Vectors.of(torch.full((6, 3), 0.1))
    counts = np.zeros((3, 6))
    for index in range(draws):
        rows = d2_seeding(copies, 3, seed=1, index=index)
        counts[torch.arange(3), rows] += 1
    statistic = ((counts - draws / 6) ** 2 / (draws / 6)).sum(axis=1)
    assert (statistic < chi2.ppf(0.999, 5)).all()


def test_what_is_sure_is_drawn_last():
    """Gradients of 0 are copies of one another."""
    keys = torch.tensor([[90.0, 0.0], [200.0, 0.0], [0.1, 0.0], [0.0, 300.0], [0.0, -0.3]])
    embedding = GradientEmbedding.of(keys, torch.eye(2), torch.eye(2, 3))
    for index in range(20):
        rows = d2_seeding(embedding, 3, seed=0, index=index).tolist()
        assert {2, 4} < set(rows)


def test_other_indices_and_purposes_draw_others():
    x = Vectors.of(torch.randn(200, 4, generator=torch.Generator().manual_seed(0)))
    base = d2_seeding(x, 20, seed=0, index=0)
    assert not torch.equal(base, d2_seeding(x, 20, seed=0, index=1))
    assert not torch.equal(base, d2_seeding(x, 20, seed=1, index=0))
    assert not torch.equal(base, d2_seeding(x, 20, seed=0, index=0, purpose="active/audio"))


def test_parts_change_nothing(monkeypatch):
    x = Vectors.of(torch.randn(150, 4, generator=torch.Generator().manual_seed(0)).double())
    whole = d2_seeding(x, 60, seed=0, index=0, proposals=16)
    monkeypatch.setattr(module, "_CANDIDATES", {"cpu": 7})
    assert torch.equal(d2_seeding(x, 60, seed=0, index=0, proposals=16), whole)


def test_far_from_the_origin():
    x = 1000 + torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    found = Vectors.of(x).squared_distances(torch.arange(50), slice(None))
    torch.testing.assert_close(found.double(), squared(x.double()), rtol=1e-4, atol=1e-4)


def test_anything_that_knows_distances_can_be_drawn_from():
    class Circle:
        device = torch.device("cpu")

        def __len__(self):
            return 12

        def squared_distances(self, rows, among):
            around = (rows[:, None] - torch.arange(12)[among]).abs()
            return torch.minimum(around, 12 - around).double().square()

    rows = d2_seeding(Circle(), 12, seed=0, index=0)
    assert sorted(rows.tolist()) == list(range(12))


def test_nothing_usable_draws_nothing():
    none = torch.zeros(6, dtype=torch.bool)
    assert d2_seeding(Vectors.of(POINTS), 3, seed=0, index=0, usable=none).tolist() == []
    assert d2_seeding(Vectors.of(torch.empty(0, 2)), 3, seed=0, index=0).tolist() == []


def test_faults_are_named():
    x = Vectors.of(POINTS)
    with pytest.raises(ValueError, match="count is 0"):
        d2_seeding(x, 0, seed=0, index=0)
    with pytest.raises(ValueError, match="proposals is 0"):
        d2_seeding(x, 1, seed=0, index=0, proposals=0)
    with pytest.raises(ValueError, match="one bool for each of 6 candidates"):
        d2_seeding(x, 1, seed=0, index=0, usable=torch.ones(5, dtype=torch.bool))
    with pytest.raises(ValueError, match="one bool for each of 6 candidates"):
        d2_seeding(x, 1, seed=0, index=0, usable=torch.ones(6))
    with pytest.raises(ValueError, match="give \\(N, D\\)"):
        Vectors.of(torch.ones(3))
    for wrong in (torch.nan, torch.inf, 1e30):
        with pytest.raises(ValueError, match="not finite"):
            Vectors.of(torch.tensor([[1.0, 2.0], [wrong, 0.0]]))

    class Lost(Vectors):
        def squared_distances(self, rows, among):
            return super().squared_distances(rows, among) * torch.nan

    lost = Lost(vectors=x.vectors, squared_norms=x.squared_norms)
    with pytest.raises(ValueError, match="squared distances: some are not finite"):
        d2_seeding(lost, 2, seed=0, index=0)
