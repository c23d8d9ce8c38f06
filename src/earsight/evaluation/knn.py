"""k nearest neighbours: a classifier with nothing to fit."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from earsight.evaluation.checks import check_labels, check_unit, check_width, chunks
from earsight.evaluation.classification import score_classes
from earsight.evaluation.rows import Metric


@dataclass(frozen=True, kw_only=True)
class KnnScores:
    """Accuracy of a vote among neighbours.

    Attributes:
        n: test samples.
        accuracy: share of them answered correctly.
        per_class: the same for each class of the test split.
        chance: share of the test split's most frequent class.
        k: neighbours that voted (fewer than asked for where the training split is smaller).
        train: training samples.
    """

    n: int
    accuracy: float
    per_class: Mapping[int, float]
    chance: float
    k: int
    train: int

    def metrics(self) -> dict[str, Metric]:
        """``accuracy``."""
        return {"accuracy": Metric(value=self.accuracy, chance=self.chance)}

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def knn(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, *, k: int = 20
) -> KnnScores:
    """Classify the test split by its neighbours in the training split, and score that.

    Args:
        train: ``(N, D)`` features.
        train_labels: ``(N,)`` integers from 0.
        test: ``(M, D)`` features.
        test_labels: ``(M,)`` integers from 0.
        k: neighbours that vote.

    Raises:
        ValueError: sizes that do not fit, several labels a sample, features that are not finite.
    """
    check_labels("training labels", train_labels, len(train))
    truth = check_labels("test labels", test_labels, len(test))
    predicted = vote(train, train_labels, test, k=k)
    accuracy, per_class, chance = score_classes(predicted.cpu(), truth.cpu())
    return KnnScores(
        n=len(test),
        accuracy=accuracy,
        per_class=per_class,
        chance=chance,
        k=min(k, len(train)),
        train=len(train),
    )


def vote(train: Tensor, train_labels: Tensor, test: Tensor, *, k: int = 20) -> Tensor:
    """The most frequent class among the ``k`` training samples of highest cosine similarity.

    Among classes with equally many votes, the one of the largest summed similarity wins.

    Args:
        train: ``(N, D)`` features.
        train_labels: ``(N,)`` integers from 0.
        test: ``(M, D)`` features.
        k: neighbours that vote; all where the training split is smaller.

    Returns:
        ``(M,)`` classes.

    Raises:
        ValueError: sizes that do not fit, or features that are not finite.
    """
    if k < 1:
        raise ValueError(f"k must be 1 or more neighbours, not {k}")
    gallery, query = check_unit("training features", train), check_unit("test features", test)
    check_width(gallery, query, "training and test features")
    labels = check_labels("training labels", train_labels, len(train)).to(gallery.device)
    classes = int(labels.max()) + 1
    predicted = []
    for part in chunks(query, len(gallery)):
        top = (part @ gallery.T).topk(min(k, len(gallery)), dim=1)
        chosen = labels[top.indices]
        votes = torch.zeros(len(part), classes, dtype=torch.float64, device=part.device)
        votes.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=torch.float64))
        near = torch.zeros_like(votes).scatter_add_(1, chosen, top.values.double())
        tied = votes == votes.max(dim=1, keepdim=True).values
        predicted.append(near.masked_fill(~tied, -torch.inf).argmax(dim=1))
    return torch.cat(predicted)
