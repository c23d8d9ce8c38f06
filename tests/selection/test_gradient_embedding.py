import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from earsight.selection import seeding
from earsight.selection.gradient_embedding import (
    GradientEmbedding,
    posterior_spread,
    pseudo_posteriors,
)


def layer(n, m, dim, hidden, seed=0, dtype=torch.float64):
    """Candidate keys, the weight of a last layer, and what goes into it."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return draw(n, dim), draw(dim, hidden), draw(m, hidden).relu() + 0.3


def by_autograd(keys, weight, hidden, normalised, temperature):
    """Each candidate's gradient with respect to the weight, flat, and its loss."""
    weight = weight.clone().requires_grad_()
    gradients, losses = [], []
    for key in keys:
        queries = hidden @ weight.T
        queries = F.normalize(queries, dim=1) if normalised else queries
        logits = queries @ key / temperature
        loss = F.cross_entropy(logits[None], logits.argmax()[None])
        gradients.append(torch.autograd.grad(loss, weight)[0].flatten())
        losses.append(loss.detach())
    return torch.stack(gradients), torch.stack(losses)


def check(n, m, dim, hidden, normalised, temperature, seed=0, degenerate=False):
    keys, weight, inputs = layer(n, m, dim, hidden, seed)
    keys = F.normalize(keys, dim=1) if normalised else keys
    gradients, losses = by_autograd(keys, weight, inputs, normalised, temperature)
    embedding = GradientEmbedding.of(
        keys, inputs @ weight.T, inputs, normalised=normalised, temperature=temperature
    )
    products = gradients @ gradients.T
    largest = float(products.diagonal().max())
    if degenerate:
        # With one dimension or input no query can turn, and a gradient's terms cancel to roundings.
        length = (inputs @ weight.T).norm(dim=1) if normalised else torch.ones(m)
        terms = (inputs.norm(dim=1) / length).max() * keys.norm(dim=1).max() / temperature
        largest = float(terms) ** 2
    close = {"rtol": 0, "atol": 1e-10 * largest}
    rows = torch.arange(n).flip(0)[: max(1, n // 2)]
    torch.testing.assert_close(embedding.inner_products(rows, slice(None)), products[rows], **close)
    few = embedding.inner_products(rows, rows[:1])
    torch.testing.assert_close(few, products[rows][:, rows[:1]], **close)
    naive = (gradients[rows][:, None] - gradients).square().sum(dim=2)
    found = embedding.squared_distances(rows, slice(None))
    torch.testing.assert_close(found, naive, **close)
    assert (found >= 0).all()
    assert (found[torch.arange(len(rows)), rows] == 0).all()
    torch.testing.assert_close(embedding.squared_norms, products.diagonal(), **close)
    torch.testing.assert_close(embedding.norms.square(), products.diagonal(), **close)
    torch.testing.assert_close(embedding.losses, losses, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 0.07, 3.0])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("hidden", [5, 8, 30])
def test_equals_the_gradients_of_autograd(normalised, temperature, hidden):
    check(12, 8, 6, hidden, normalised, temperature)


@given(
    n=st.integers(1, 7),
    m=st.integers(1, 6),
    dim=st.integers(1, 5),
    hidden=st.integers(1, 9),
    normalised=st.booleans(),
    temperature=st.sampled_from([0.2, 1.0, 2.5]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_equals_autograd_at_any_size(n, m, dim, hidden, normalised, temperature, seed):
    check(n, m, dim, hidden, normalised, temperature, seed, degenerate=True)


def test_equals_autograd_by_parts(monkeypatch):
    monkeypatch.setattr(seeding, "_CANDIDATES", {"cpu": 5})
    check(12, 8, 6, 10, True, 0.5)
    check(12, 8, 6, 10, False, 0.5)


def test_a_bias_in_the_outputs_is_part_of_the_queries():
    keys, weight, inputs = layer(6, 5, 4, 7)
    bias = torch.linspace(-1, 1, 4, dtype=torch.float64)
    weight.requires_grad_()
    gradients = []
    for key in keys:
        logits = F.linear(inputs, weight, bias) @ key
        loss = F.cross_entropy(logits[None], logits.argmax()[None])
        gradients.append(torch.autograd.grad(loss, weight)[0].flatten())
    products = torch.stack(gradients) @ torch.stack(gradients).T
    outputs = F.linear(inputs, weight, bias)
    assert outputs.requires_grad
    embedding = GradientEmbedding.of(keys, outputs, inputs)
    assert not embedding.inputs.requires_grad
    torch.testing.assert_close(embedding.inner_products(torch.arange(6), slice(None)), products)


def test_holds_the_narrower_factors():
    keys, weight, inputs = layer(50, 8, 6, 30, dtype=torch.float32)
    assert GradientEmbedding.of(keys, inputs @ weight.T, inputs).width == 6 + 8
    normalised = GradientEmbedding.of(keys, inputs @ weight.T, inputs, normalised=True)
    assert normalised.width == 6 + 8 + 2 * 8
    narrow, weight = inputs[:, :5], weight[:, :5]
    assert GradientEmbedding.of(keys, narrow @ weight.T, narrow).width == 6 + 5


@pytest.mark.parametrize("normalised", [False, True])
def test_float32_is_near_float64(normalised):
    wide = layer(40, 16, 12, 40)
    embeddings = []
    for dtype in (torch.float64, torch.float32):
        keys, weight, inputs = (x.to(dtype) for x in wide)
        keys = F.normalize(keys, dim=1) if normalised else keys
        embedding = GradientEmbedding.of(
            keys, inputs @ weight.T, inputs, normalised=normalised, temperature=0.5
        )
        embeddings.append(embedding.squared_distances(torch.arange(40), slice(None)).double())
    exact, single = embeddings
    assert float((exact - single).abs().max()) < 2e-5 * float(exact.max())


@pytest.mark.parametrize("normalised", [False, True])
def test_copies_are_at_distance_zero_in_float32(normalised):
    keys, weight, inputs = layer(30, 16, 12, 40, dtype=torch.float32)
    keys = torch.cat([keys, keys, keys[:1].expand(70, -1)])
    embedding = GradientEmbedding.of(
        keys, inputs @ weight.T, inputs, normalised=normalised, temperature=0.3
    )
    distances = embedding.squared_distances(torch.arange(30), slice(None))
    assert (distances[:, 30:60].diagonal() == 0).all()
    assert (distances[0, 60:] == 0).all()
    assert (distances[0, 1:30] > 0).all()


def test_sure_candidates_keep_their_digits():
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = pseudo_posteriors(torch.tensor([[40.0, 0.0], [0.0, 0.0]]), queries)
    tiny = torch.tensor(40.0).neg().exp()
    torch.testing.assert_close(found.residuals[0], torch.stack([-tiny, tiny]), rtol=1e-5, atol=0)
    torch.testing.assert_close(found.losses[0], tiny, rtol=1e-5, atol=0)
    assert found.residuals[1].tolist() == [-0.5, 0.5]
    assert found.labels.tolist() == [0, 0]


@given(
    n=st.integers(1, 6),
    m=st.integers(1, 6),
    temperature=st.sampled_from([0.07, 1.0, 4.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_pseudo_posteriors_equal_softmax(n, m, temperature, seed):
    (keys, _, _), (queries, _, _) = layer(n, 1, 4, 1, seed), layer(m, 1, 4, 1, seed + 1)
    found = pseudo_posteriors(keys, queries, temperature=temperature)
    p = (keys @ queries.T / temperature).softmax(dim=1)
    labels = p.argmax(dim=1)
    close = {"rtol": 1e-10, "atol": 1e-14}
    torch.testing.assert_close(found.residuals, p - F.one_hot(labels, m), **close)
    torch.testing.assert_close(found.losses, -p.amax(dim=1).log(), **close)
    assert torch.equal(found.labels, labels)


def test_half_precision_and_autocast_are_computed_in_float32():
    keys, weight, inputs = layer(20, 8, 6, 10, dtype=torch.float32)
    keys, inputs = keys.bfloat16(), inputs.bfloat16()
    outputs = (inputs.float() @ weight.T).bfloat16()
    rows = torch.arange(20)
    wide = GradientEmbedding.of(keys.float(), outputs.float(), inputs.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = GradientEmbedding.of(keys, outputs, inputs)
        assert torch.equal(
            embedding.squared_distances(rows, slice(None)),
            wide.squared_distances(rows, slice(None)),
        )
        found = pseudo_posteriors(keys, outputs)
    assert torch.equal(found.residuals.norm(dim=1), wide.residual_norms)


def test_spread_is_quantiles_of_the_residuals():
    norms = torch.tensor([0.0, 0.1, 0.2, 0.3, 9.0])
    usable = torch.tensor([True, True, True, False, False])
    assert posterior_spread(norms, shares=[0, 0.5, 1]).tolist() == pytest.approx([0, 0.2, 9])
    found = posterior_spread(norms, shares=[0.5, 1], usable=usable)
    assert found.tolist() == pytest.approx([0.1, 0.2])
    with pytest.raises(ValueError, match="no candidate is usable"):
        posterior_spread(norms, usable=~usable & usable)


def test_unit_vectors_of_one_dimension_have_no_gradient():
    keys, weight, inputs = layer(6, 4, 1, 5)
    embedding = GradientEmbedding.of(keys, inputs @ weight.T, inputs, normalised=True)
    assert (embedding.norms < 1e-7 * embedding.scale.sqrt()).all()
    assert embedding.squared_distances(torch.arange(6), slice(None)).eq(0).all()


def test_one_query_leaves_no_gradient():
    embedding = GradientEmbedding.of(torch.ones(3, 2), torch.ones(1, 2), torch.ones(1, 5))
    assert embedding.norms.tolist() == [0, 0, 0]
    assert embedding.squared_distances(torch.arange(3), slice(None)).eq(0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0"),
        ({"keys": torch.ones(3)}, "keys: give a matrix"),
        ({"keys": torch.ones(3, 5)}, "keys have 5 dimensions, and queries 2"),
        ({"inputs": torch.ones(3, 5)}, "4 queries, but inputs of 3"),
        ({"outputs": torch.ones(0, 2), "inputs": torch.ones(0, 5)}, "no queries"),
        ({"keys": torch.full((3, 2), torch.nan)}, "keys: some are not finite"),
        ({"inputs": torch.full((4, 5), torch.inf)}, "inputs: some are not finite"),
        ({"keys": 1e30 * torch.eye(3, 2)}, "squared norms: some are not finite"),
        ({"outputs": torch.zeros(4, 2), "normalised": True}, "a query is 0"),
    ],
)
def test_faults_are_named(change, message):
    given = {"keys": torch.ones(3, 2), "outputs": torch.ones(4, 2), "inputs": torch.eye(4, 5)}
    with pytest.raises(ValueError, match=message):
        GradientEmbedding.of(**{**given, **change})
