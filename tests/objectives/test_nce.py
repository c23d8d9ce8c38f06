import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln, ive

from earsight.objectives.nce import expected_partition, nce, partition
from earsight.selection.memory_bank import random_unit_vectors


def naive_nce(positives, negatives, kz):
    """Eqs. 1–2 with the probabilities written out."""
    losses = []
    for query in range(len(positives)):
        terms = []
        for p in positives[query].tolist():
            loss = -math.log(math.exp(p) / (math.exp(p) + kz))
            for n in negatives[query].tolist():
                loss -= math.log(1 - math.exp(n) / (math.exp(n) + kz))
            terms.append(loss)
        losses.append(sum(terms) / len(terms))
    return torch.tensor(losses, dtype=torch.float64)


@given(
    batch=st.integers(1, 4),
    count=st.integers(1, 3),
    noise=st.integers(1, 20),
    z=st.floats(0.1, 10),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_equals_naive_loop(batch, count, noise, z, seed):
    g = torch.Generator().manual_seed(seed)
    positives = 4 * torch.randn(batch, count, generator=g, dtype=torch.float64)
    negatives = 4 * torch.randn(batch, noise, generator=g, dtype=torch.float64)
    got = nce(positives, negatives, math.log(noise * z))
    assert got.shape == (batch,)
    torch.testing.assert_close(got, naive_nce(positives, negatives, noise * z), rtol=1e-7, atol=0)


def test_extreme_scores_stay_finite():
    scores = torch.tensor([[2000.0], [-2000.0]], requires_grad=True)
    loss = nce(scores, torch.tensor([[-2000.0], [2000.0]]), torch.tensor(7.0))
    assert loss.tolist() == [0.0, 2007.0 + 1993.0]
    loss.sum().backward()
    assert scores.grad.isfinite().all()


def test_half_precision_scores_are_widened_even_under_autocast():
    positives = torch.randn(3, 1)
    negatives = torch.randn(3, 4000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nce(positives.bfloat16(), negatives.bfloat16(), 3.0)
        z = partition(negatives.bfloat16())
    wanted = nce(positives.bfloat16().double(), negatives.bfloat16().double(), 3.0)
    assert loss.dtype == z.dtype == torch.float32
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=0)
    torch.testing.assert_close(z.double(), negatives.bfloat16().double().exp().mean())


def test_partition_is_the_mean_of_exponentials():
    scores = torch.tensor([[0.0, math.log(2)], [math.log(3), math.log(6)]])
    assert float(partition(scores)) == pytest.approx(3.0)


@pytest.mark.parametrize("dim", [2, 3, 64, 128])
@pytest.mark.parametrize("temperature", [0.02, 0.07, 0.5, 10.0])
def test_expected_partition_equals_closed_form(dim, temperature):
    kappa, order = 1 / temperature, dim / 2 - 1
    bessel = math.log(ive(order, kappa)) + kappa
    wanted = gammaln(dim / 2) + order * math.log(2 / kappa) + bessel
    assert math.log(expected_partition(dim, temperature)) == pytest.approx(wanted, abs=1e-9)


def test_expected_partition_known_values():
    assert expected_partition(3, 0.07) == pytest.approx(math.sinh(1 / 0.07) * 0.07)
    assert expected_partition(100_000, 0.1) == pytest.approx(math.exp(100 / 200_000))
    assert expected_partition(128, 0.07) == pytest.approx(2.219 * 0.995, rel=1e-3)


@pytest.mark.parametrize(("pairs", "tolerance"), [((100_000, 1), 0.01), ((2000, 2000), 0.005)])
def test_partition_of_random_unit_vectors_equals_its_expectation(pairs, tolerance):
    queries, per_query = pairs
    x = random_unit_vectors(0, "queries", queries, 128)
    if per_query == 1:
        scores = (x * random_unit_vectors(0, "bank", queries, 128)).sum(1, keepdim=True) / 0.07
    else:
        scores = x @ random_unit_vectors(0, "bank", per_query, 128).T / 0.07
    assert scores.numel() == queries * per_query
    assert float(partition(scores)) == pytest.approx(expected_partition(128, 0.07), rel=tolerance)
