"""One number of an evaluation, beside chance and the random initialisation."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

LOWER_IS_BETTER = ("median_rank", "mean_log_rank", "alignment", "uniformity")
"""Metrics that fall as a model improves; all others rise."""

POOLED = "pooled"
"""The block's name where the encoder's output is classified."""

FLATTENED = "flat"
"""The block's name where the last activation is classified as it is, not pooled."""

SPREAD = ("_deviation", "_low", "_high")
"""What is added to a metric's name for its deviation over repeats and the mean's interval."""

PRECISION = "precision@"
"""What metrics begin with that say how many of so many positives are right."""

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
        task: ``probe``, ``knn``, ``svm``, ``retrieve``, ``geometry``, ``classify``, ``finetune``,
            ``agreement``, ``memory``, or of negatives ``unique``, ``gradient_norm``,
            ``pseudo_posterior`` and ``pretext``.
        modality: ``video`` or ``audio``, or a direction, from query to gallery: ``video-audio``;
            of agreement, its criterion.
        label: the label column that is classified; None where no labels are used.
        block: which features of the encoder are classified, ``pooled``, ``flat`` or the number of
            a block; None where there is no such choice.
        metric: such as ``accuracy``, ``R@1`` or ``median_rank``.
        value: of the evaluated weights; shares lie between 0 and 1.
        chance: of guessing; None where guessing means nothing.
        baseline: of the random initialisation, measured the same way; None if not measured.
        n: samples measured.
    """

    task: str
    modality: str
    label: str | None = None
    block: str | None = None
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
    block: str | None = None,
    baseline: Scores | None = None,
) -> list[Row]:
    """The rows of a measurement, each beside the same metric of the random initialisation."""
    before = {} if baseline is None else baseline.metrics()
    return [
        Row(
            task=task,
            modality=modality,
            label=label,
            block=block,
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

    A name is ``task/modality[/label][/block]/metric``, such as ``retrieval/video-audio/R@1`` or
    ``probe/video/digit/block2/accuracy`` (nothing stands for pooled features); chance, where known,
    stands beside it as ``retrieval/video-audio/chance/R@1``.
    """
    flat: dict[str, float] = {}
    for row in rows:
        parts = [_KEYS.get(row.task, row.task), row.modality, *([row.label] if row.label else [])]
        parts += [f"block{row.block}"] if is_block(row) else []
        flat["/".join([*parts, row.metric])] = row.value
        if row.chance is not None:
            flat["/".join([*parts, "chance", row.metric])] = row.chance
    return flat


def is_block(row: Row) -> bool:
    """Whether a row is of a numbered block of an encoder, not of its pooled features."""
    return row.block not in (None, POOLED, FLATTENED)


def is_share(metric: str) -> bool:
    """Whether a metric is a share of the samples, between 0 and 1."""
    if metric.startswith(("R@", PRECISION)):
        return True
    for end in SPREAD:
        metric = metric.removesuffix(end)
    return metric in ("accuracy", "Sample@1", "Clip@1", "mAP")


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
    """Plain-text tables of rows, beside the random initialisation and chance.

    Rows of a measurement that was made of several blocks stand in a table of their own, with a
    column for each block; so does precision, with a column for each number of positives.
    """
    spread = {_measured(row) for row in rows if is_block(row)}
    precise = [row for row in rows if row.metric.startswith(PRECISION)]
    plain = [row for row in rows if _measured(row) not in spread and row not in precise]
    parts = []
    if plain or not rows:
        parts.append(
            draw_table(("task", "of", "label", "metric"), _PLAIN, list(map(_cells, plain)))
        )
    if spread:
        parts.append(_block_table([row for row in rows if _measured(row) in spread]))
    if precise:
        parts.append(_precision_table(precise))
    return "\n\n".join(parts)


_PLAIN = ("value", "random init", "chance", "n")


def _measured(row: Row) -> tuple[str, str, str | None, str]:
    """All that names a row but its block."""
    return (row.task, row.modality, row.label, row.metric)


def _block_table(rows: Sequence[Row]) -> str:
    """A line for the weights, and one for their random initialisation where it was measured."""
    blocks = sorted({str(row.block) for row in rows}, key=lambda name: (name != POOLED, name))
    groups: dict[tuple[str, str, str | None, str], dict[str, Row]] = {}
    for row in rows:
        groups.setdefault(_measured(row), {})[str(row.block)] = row
    lines = []
    for (task, modality, label, metric), found in groups.items():
        first = next(iter(found.values()))
        values = {name: row.value for name, row in found.items()}
        before = {name: row.baseline for name, row in found.items()}
        for weights, numbers in (("learned", values), ("random init", before)):
            if any(number is not None for number in numbers.values()):
                cells = [format_value(metric, numbers.get(name)) for name in blocks]
                end = (format_value(metric, first.chance), str(first.n))
                lines.append((task, modality, label or "–", weights, *cells, *end))
    names = [name if name == POOLED else f"block {name}" for name in blocks]
    return draw_table(("task", "of", "label", "weights"), (*names, "chance", "n"), lines)


def _precision_table(rows: Sequence[Row]) -> str:
    """A line for each criterion and label, a column for each number of positives."""
    counts = list(dict.fromkeys(row.metric for row in rows))
    lines = []
    for label, of in dict.fromkeys((row.label, row.modality) for row in rows):
        own = {row.metric: row for row in rows if (row.label, row.modality) == (label, of)}
        first = next(iter(own.values()))
        cells = [format_value(name, own[name].value) if name in own else "–" for name in counts]
        end = (format_value(first.metric, first.chance), str(first.n))
        lines.append((first.task, of, label or "–", *cells, *end))
    names = [name.replace(PRECISION, "P@") for name in counts]
    return draw_table(("task", "of", "label"), (*names, "chance", "n"), lines)


def draw_table(words: Sequence[str], numbers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table whose first columns are words, to the left, and whose others are numbers."""
    head = (*words, *numbers)
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]

    def draw(line: Sequence[str]) -> str:
        cells = [
            text.ljust(width) if column < len(words) else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([draw(head), rule, *(draw(line) for line in lines)])


def _cells(row: Row) -> tuple[str, ...]:
    numbers = (format_value(row.metric, x) for x in (row.value, row.baseline, row.chance))
    return (row.task, row.modality, row.label or "–", row.metric, *numbers, str(row.n))
