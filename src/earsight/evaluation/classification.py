"""What any classifier of single labels is scored by."""

import torch
from torch import Tensor


def score_classes(predicted: Tensor, truth: Tensor) -> tuple[float, dict[int, float], float]:
    """Accuracy, accuracy of each class, and chance.

    Args:
        predicted: ``(N,)`` classes.
        truth: ``(N,)`` classes.

    Returns:
        The share of correct answers; for each class present in ``truth``, the share of its samples
        that is answered correctly; and chance, the share of the most frequent class of ``truth``,
        the best that one constant answer can reach.
    """
    correct = (predicted == truth).double()
    count = torch.bincount(truth)
    hits = torch.bincount(truth, weights=correct)
    per_class = {
        int(index): float(hits[index] / count[index]) for index in torch.nonzero(count).flatten()
    }
    return float(correct.mean()), per_class, float(count.max()) / len(truth)
