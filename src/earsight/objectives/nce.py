"""Noise-contrastive estimation (avid-cma eqs. 1–2) and its partition function."""

from torch import Tensor
from torch.nn import functional as F

from earsight.objectives.scores import widened

_SERIES_RELATIVE_ERROR = 1e-15


def nce(positive_scores: Tensor, negative_scores: Tensor, log_kz: Tensor | float) -> Tensor:
    """Loss per query: is a target its own, or noise? (avid-cma eqs. 1–2).

    ``−log P(D=1) = softplus(c − s)`` for positives, averaged over them, plus the *sum* over the
    negatives of ``−log P(D=0) = softplus(s − c)``, with ``c = log(K·Z̄)``. With one positive this
    is eq. 2; with several it is the mean of their losses against the same negatives (eq. 9).

    Args:
        positive_scores: ``(B, P)``, inner products over the temperature.
        negative_scores: ``(B, K)``, likewise.
        log_kz: ``log(K·Z̄)``, a number or a scalar tensor.

    Returns:
        ``(B,)``, float32 whatever the half precision of the scores; the mean over the batch is
        the caller's.
    """
    positive, negative = widened(positive_scores), widened(negative_scores)
    return F.softplus(log_kz - positive).mean(dim=1) + F.softplus(negative - log_kz).sum(dim=1)


def partition(negative_scores: Tensor) -> Tensor:
    """``Z̄ = mean(exp(s))`` over all negative scores, a scalar (avid-cma §3)."""
    return widened(negative_scores).exp().mean()


def expected_partition(dim: int, temperature: float) -> float:
    """``E[exp(κt)]`` for the inner product ``t`` of random unit vectors, ``κ = 1/temperature``.

    The closed form ``Γ(D/2)·(2/κ)^(D/2−1)·I_(D/2−1)(κ)``, by its power series
    ``Σ_j (κ²/4)^j · Γ(D/2) / (j!·Γ(D/2 + j))``, all of whose terms are positive.

    Args:
        dim: size of the vectors, ``D`` ≥ 1.
        temperature: ``τ`` > 0.
    """
    quarter = (1 / temperature) ** 2 / 4
    total = term = 1.0
    count = 0
    while term > _SERIES_RELATIVE_ERROR * total:
        count += 1
        term *= quarter / (count * (dim / 2 + count - 1))
        total += term
    return total
