"""InfoNCE (cm-acc eqs. 6–7): which of the keys is the query's own?"""

import torch
from torch import Tensor

from earsight.objectives.scores import widened


def info_nce(positive_scores: Tensor, negative_scores: Tensor, negative: Tensor) -> Tensor:
    """``−log(exp(s⁺) / (exp(s⁺) + Σ exp(s⁻)))`` per query, over the entries that are negatives.

    Args:
        positive_scores: ``(B,)``, inner products over the temperature.
        negative_scores: ``(B, K)``, likewise.
        negative: ``(B, K)`` bool, False for entries that are left out (those of the query's own
            clip, for one). Where all are left out, the loss is 0.

    Returns:
        ``(B,)``, float32 whatever the half precision of the scores; the mean over the batch is
        the caller's.
    """
    return -log_posterior(positive_scores[:, None], negative_scores, negative)[:, 0]


def log_posterior(positive_scores: Tensor, negative_scores: Tensor, negative: Tensor) -> Tensor:
    """Log-probability of each positive among itself and the negatives, ``(B, P)``.

    Several positives do not compete with one another.

    Args:
        positive_scores: ``(B, P)``.
        negative_scores: ``(B, K)``.
        negative: ``(B, K)`` bool, see :func:`info_nce`.
    """
    positive, others = widened(positive_scores), widened(negative_scores)
    rest = others.masked_fill(~negative, -torch.inf).logsumexp(dim=1, keepdim=True)
    return positive - torch.logaddexp(positive, rest)
