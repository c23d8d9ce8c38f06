"""Accuracy of single categories, kept beside the figures over all of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor


class Judged(Protocol):
    """Scores of a classifier of single labels."""

    @property
    def per_class(self) -> Mapping[int, float]:
        """Accuracy of each class that was tested."""


@dataclass(frozen=True, kw_only=True)
class Category:
    """How often the clips of one category are classified correctly.

    Attributes:
        task: ``knn``, ``probe``, ``svm`` or ``classify``.
        modality: ``video`` or ``audio``.
        label: the label column.
        block: which features are classified, as in :class:`~earsight.evaluation.rows.Row`.
        name: the category's text.
        accuracy: share of its clips that are answered correctly.
        baseline: the same of the random initialisation; None if not measured.
        n: its clips.
    """

    task: str
    modality: str
    label: str
    block: str | None
    name: str
    accuracy: float
    baseline: float | None = None
    n: int


def judge(
    scores: Sequence[Judged],
    counts: Mapping[int, int],
    words: Sequence[str],
    *,
    task: str,
    modality: str,
    label: str,
    block: str | None,
) -> list[Category]:
    """The categories of a measurement, in the order of their codes.

    Args:
        scores: of the learned weights, and of the random initialisation if it was measured.
        counts: clips that were tested, by code.
        words: the category's text by code.
        task: as in :class:`Category`, like those that follow.
        modality: likewise.
        label: likewise.
        block: likewise.
    """
    before = scores[1].per_class if len(scores) > 1 else {}
    return [
        Category(
            task=task,
            modality=modality,
            label=label,
            block=block,
            name=words[code],
            accuracy=accuracy,
            baseline=before.get(code),
            n=counts[code],
        )
        for code, accuracy in sorted(scores[0].per_class.items())
    ]


def counts_of(truth: Tensor) -> dict[int, int]:
    """Clips of each code of ``(N,)``; those below 0 are of clips without the label."""
    return dict(enumerate(torch.bincount(truth[truth >= 0]).tolist()))


def categories_tree(found: Iterable[Category]) -> list[dict[str, Any]]:
    """Plain data for an evaluation's details: over folds and seeds means, and sums of clips."""
    groups: dict[tuple[str, str, str, str | None, str], list[Category]] = {}
    for one in found:
        key = (one.task, one.modality, one.label, one.block, one.name)
        groups.setdefault(key, []).append(one)
    return [_mean(same) for same in groups.values()]


def _mean(same: Sequence[Category]) -> dict[str, Any]:
    before = [one.baseline for one in same if one.baseline is not None]
    return asdict(same[0]) | {
        "accuracy": float(np.mean([one.accuracy for one in same])),
        "baseline": float(np.mean(before)) if before else None,
        "n": sum(one.n for one in same),
    }


def read_categories(tree: Any) -> tuple[Category, ...]:
    """Read what :func:`categories_tree` made; nothing of evaluations of before it was recorded.

    Raises:
        ValueError: an entry is damaged.
    """
    try:
        return TypeAdapter(tuple[Category, ...]).validate_python(tree or ())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("details", "categories", *first["loc"])))
        raise ValueError(f"{where}: {first['msg']}; evaluate again") from error
