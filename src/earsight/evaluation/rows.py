"""One number of an evaluation, beside chance and the random initialisation."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

LOWER_IS_BETTER = ("median_rank", "mean_log_rank", "alignment", "uniformity")
"""Metrics that fall as a model improves; all others rise."""

_KEYS = {"retrieve": "retrieval"}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A measured value, and what guessing brings (None where guessing means nothing)."""

    value: float
    chance: float | None = None


class Scores(Protocol):
    """What a measurement returns: its metrics by name, over ``n`` samples."""

    @property
    def n(self) -> int:
        """Samples measured."""

    def metrics(self) -> Mapping[str, Metric]:
        """Metrics by name."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of an evaluation.

    Attributes:
        task: ``probe``, ``knn``, ``retrieve`` or ``geometry``.
        modality: ``video`` or ``audio``, or a direction, from query to gallery: ``video-audio``.
        label: the label column that is classified; None where no labels are used.
        metric: such as ``accuracy``, ``R@1`` or ``median_rank``.
        value: of the evaluated weights; shares lie between 0 and 1.
        chance: of guessing; None where guessing means nothing.
        baseline: of the random initialisation, measured the same way; None if not measured.
        n: samples measured.
    """

    task: str
    modality: str
    label: str | None = None
    metric: str
    value: float
    chance: float | None = None
    baseline: float | None = None
    n: int

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def make_rows(
    scores: Scores,
    *,
    task: str,
    modality: str,
    label: str | None = None,
    baseline: Scores | None = None,
) -> list[Row]:
    """The rows of a measurement, each beside the same metric of the random initialisation."""
    before = {} if baseline is None else baseline.metrics()
    return [
        Row(
            task=task,
            modality=modality,
            label=label,
            metric=name,
            value=metric.value,
            chance=metric.chance,
            baseline=before[name].value if name in before else None,
            n=scores.n,
        )
        for name, metric in scores.metrics().items()
    ]


def as_metrics(rows: Iterable[Row]) -> dict[str, float]:
    """Rows as flat names for ``metrics.jsonl``.

    A name is ``task/modality[/label]/metric``, such as ``retrieval/video-audio/R@1``; chance, where
    known, stands beside it as ``retrieval/video-audio/chance/R@1``.
    """
    flat: dict[str, float] = {}
    for row in rows:
        parts = [_KEYS.get(row.task, row.task), row.modality, *([row.label] if row.label else [])]
        flat["/".join([*parts, row.metric])] = row.value
        if row.chance is not None:
            flat["/".join([*parts, "chance", row.metric])] = row.chance
    return flat


def is_share(metric: str) -> bool:
    """Whether a metric is a share of the samples, between 0 and 1."""
    return metric == "accuracy" or metric.startswith("R@")


def format_value(metric: str, value: float | None) -> str:
    """A value for people: shares in per cent, ranks with one decimal, others with three digits."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    if is_share(metric):
        return f"{100 * value:.1f} %"
    if metric == "median_rank":
        return f"{value:.1f}"
    return f"{value:.3g}"


def format_table(rows: Sequence[Row]) -> str:
    """A plain-text table of rows, beside the random initialisation and chance."""
    head = ("task", "of", "label", "metric", "value", "random init", "chance", "n")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]

    def draw(line: Sequence[str]) -> str:
        # The first four columns are words, the others numbers.
        cells = [
            text.ljust(width) if column < 4 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([draw(head), rule, *(draw(line) for line in lines[1:])])


def _cells(row: Row) -> tuple[str, ...]:
    numbers = (format_value(row.metric, x) for x in (row.value, row.baseline, row.chance))
    return (row.task, row.modality, row.label or "–", row.metric, *numbers, str(row.n))
