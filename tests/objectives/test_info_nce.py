import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from earsight.objectives.info_nce import info_nce, log_posterior


def naive(positive, negatives, negative):
    """Eqs. 6–7 with the sums written out."""
    losses = []
    for b, s in enumerate(positive.tolist()):
        total = math.exp(s)
        for k, other in enumerate(negatives[b].tolist()):
            if negative[b, k]:
                total += math.exp(other)
        losses.append(-math.log(math.exp(s) / total))
    return torch.tensor(losses, dtype=torch.float64)


@given(batch=st.integers(1, 4), count=st.integers(1, 20), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_equals_naive_loop(batch, count, seed):
    g = torch.Generator().manual_seed(seed)
    positive = 4 * torch.randn(batch, generator=g, dtype=torch.float64)
    negatives = 4 * torch.randn(batch, count, generator=g, dtype=torch.float64)
    negative = torch.rand(batch, count, generator=g) > 0.3
    got = info_nce(positive, negatives, negative)
    torch.testing.assert_close(got, naive(positive, negatives, negative), rtol=1e-9, atol=1e-9)


def test_positives_do_not_compete_with_one_another():
    positives, negatives = torch.randn(2, 3), torch.randn(2, 5)
    every = torch.ones(2, 5, dtype=torch.bool)
    together = log_posterior(positives, negatives, every)
    for p in range(3):
        alone = info_nce(positives[:, p], negatives, every)
        torch.testing.assert_close(-alone, together[:, p])


def test_without_negatives_the_loss_and_its_slope_are_zero():
    positive = torch.tensor([3.0, -200.0], requires_grad=True)
    loss = info_nce(positive, torch.zeros(2, 4), torch.zeros(2, 4, dtype=torch.bool))
    assert loss.tolist() == [0.0, 0.0]
    loss.sum().backward()
    assert positive.grad.tolist() == [0.0, 0.0]


def test_half_precision_scores_are_widened_and_large_ones_stay_finite():
    every = torch.ones(3, 4000, dtype=torch.bool)
    positive, negatives = torch.randn(3).bfloat16(), torch.randn(3, 4000).bfloat16()
    loss = info_nce(positive, negatives, every)
    assert loss.dtype == torch.float32
    wanted = info_nce(positive.double(), negatives.double(), every)
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=0)
    far = info_nce(torch.tensor([-2000.0]), torch.tensor([[2000.0]]), every[:1, :1])
    assert far.item() == pytest.approx(4000.0)
