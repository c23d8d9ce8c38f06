"""Reading ``metrics.jsonl`` and sorting its numbers into the panels of the report."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earsight.evaluation.rows import is_share
from earsight.report.words import say

MAX_POINTS = 300
"""Points of a curve; of more, neighbours are averaged."""

_BOOKKEEPING = ("step", "epoch", "time", "kind")
_SHARES = ("wait",)
_LAST = ("clips_per_second", "wait")
_SIZES = ("gallery", "queries")

Float = NDArray[np.float64]
Records = Iterable[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Series:
    """A curve.

    Attributes:
        name: in the legend.
        x: steps or epochs.
        y: values, finite.
        chance: what guessing brings; None where unknown.
        colour: its number; None for its place among the curves.
    """

    name: str
    x: Float
    y: Float
    chance: float | None = None
    colour: int | None = None


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves that share their axes.

    Attributes:
        title: above them.
        metric: decides how values are written.
        x_label: ``step`` or ``epoch``.
        share: whether the values are shares, shown in per cent.
        series: the curves.
        averaged: readings behind each point, 1 unless there were too many.
        chance: what guessing brings in all curves alike; None where they differ, or it is unknown.
    """

    title: str
    metric: str
    x_label: str
    share: bool
    series: tuple[Series, ...]
    averaged: int = 1
    chance: float | None = None


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What ``metrics.jsonl`` says.

    Attributes:
        train: panels of the training metrics, the loss first.
        evaluation: panels of the held-out metrics.
        steps: the last step; 0 where there is none.
        epochs: the last epoch.
        seconds: the last time.
        notes: what is missing or could not be read.
    """

    train: tuple[Panel, ...] = ()
    evaluation: tuple[Panel, ...] = ()
    steps: int = 0
    epochs: float = 0.0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def read_metrics(path: Path) -> Metrics:
    """The panels of a metrics file; lines that cannot be read are counted in the notes."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return Metrics(notes=(f"{path.name} cannot be read ({error.strerror}): no curves.",))
    found = [_record(line) for line in lines if line.strip()]
    records = [record for record in found if record is not None]
    train = [r for r in records if r.get("kind") == "train"]
    evaluation = [r for r in records if r.get("kind") == "evaluation"]
    broken, notes = len(found) - len(records), []
    if broken:
        notes.append(f"{path.name}: {broken} of {len(found)} lines not readable and left out.")
    if not train:
        notes.append(f"{path.name} holds no training metrics yet.")
    if not evaluation:
        notes.append(f"{path.name} holds no held-out evaluation yet.")
    return Metrics(
        train=tuple(_train_panels(_columns(train, "step"))),
        evaluation=tuple(_evaluation_panels(_columns(evaluation, "epoch"))),
        steps=int(_last(records, "step")),
        epochs=_last(records, "epoch"),
        seconds=_last(records, "time"),
        notes=tuple(notes),
    )


def _record(line: str) -> Mapping[str, Any] | None:
    """A line's object, or None (a run that was killed leaves a torn last line)."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _last(records: Records, name: str) -> float:
    values = [x for x in (_finite(r.get(name)) for r in records) if x is not None]
    return values[-1] if values else 0.0


def _columns(records: Records, x_name: str) -> dict[str, list[tuple[float, float]]]:
    """Per metric the finite readings and where they were taken."""
    columns: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        x = _finite(record.get(x_name))
        if x is None:
            continue
        for name, value in record.items():
            y = _finite(value)
            if name not in _BOOKKEEPING and y is not None:
                columns.setdefault(name, []).append((x, y))
    return columns


def _series(name: str, points: list[tuple[float, float]], chance: float | None = None) -> Series:
    """A curve of at most :data:`MAX_POINTS` points, means of as many neighbours each."""
    table = np.asarray(points, dtype=np.float64)
    size = _averaged(points)
    means = np.stack([table[i : i + size].mean(axis=0) for i in range(0, len(table), size)])
    return Series(name=name, x=means[:, 0], y=means[:, 1], chance=chance)


def _averaged(points: list[tuple[float, float]]) -> int:
    return -(-len(points) // MAX_POINTS)


def _train_panels(columns: Mapping[str, list[tuple[float, float]]]) -> list[Panel]:
    """One panel for each prefix (up to the last ``/``): the loss first, speed last."""
    groups: dict[str, list[str]] = {}
    for name in columns:
        groups.setdefault(name.rpartition("/")[0] or name, []).append(name)

    def order(title: str) -> tuple[bool, bool, str]:
        return (title != "loss", title in _LAST, title)

    return [
        Panel(
            title=title.replace("_", " "),
            metric=title,
            x_label="step",
            share=title in _SHARES,
            series=tuple(_series(n.rpartition("/")[2], columns[n]) for n in groups[title]),
            averaged=max(_averaged(columns[n]) for n in groups[title]),
        )
        for title in sorted(groups, key=order)
    ]


def _evaluation_panels(columns: Mapping[str, list[tuple[float, float]]]) -> list[Panel]:
    """One panel for the shares of each task, and one for each of its other metrics."""
    chance: dict[str, float] = {}
    panels: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for name, points in columns.items():
        where, _, metric = name.rpartition("/")
        if where.endswith("/chance"):
            chance[f"{where.removesuffix('/chance')}/{metric}"] = points[-1][1]
        elif metric not in _SIZES:
            kind = "" if is_share(metric) else metric
            panels.setdefault((where, kind), []).append((metric, name))

    return [
        Panel(
            title=", ".join(filter(None, [*map(say, where.split("/")), say(kind)])),
            metric=kind or "accuracy",
            x_label="epoch",
            share=not kind,
            series=tuple(_series(say(m), columns[n], chance.get(n)) for m, n in members),
            averaged=max(_averaged(columns[n]) for _, n in members),
        )
        for (where, kind), members in panels.items()
    ]
