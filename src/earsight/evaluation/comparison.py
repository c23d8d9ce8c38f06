"""What a comparison of runs holds: plain data, for tables and for JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from earsight.evaluation.compare_protocol import Measured
from earsight.evaluation.published import Figure


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A run's figure.

    Attributes:
        value: as measured; shares lie between 0 and 1.
        deviation: over folds or seeds, where there are several.
        low: end of its 95 % interval.
        high: the other end.
        chance: of guessing; None where guessing means nothing.
        baseline: of the random initialisation.
        n: samples measured.
        evaluation: the name of the evaluation.
        differences: in how it was measured, from the figure of the first run that has one.
    """

    value: float
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    baseline: float | None = None
    n: int
    evaluation: str
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A published figure, and by run and aspect in what its measuring differs from the run's."""

    figure: Figure
    differences: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Key:
    """What a figure is of.

    Attributes:
        task: as :class:`~earsight.evaluation.rows.Row` has it, with the next four.
        modality: likewise.
        label: likewise.
        block: likewise, or ``best`` of all numbered ones.
        metric: likewise.
        data: layout of a public data set; empty for any other corpus.
        variant: tells evaluations of one run apart.
    """

    task: str
    modality: str
    label: str | None
    block: str | None
    metric: str
    data: str
    variant: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A figure of every run that has it, and published ones.

    Attributes:
        key: what it is of.
        cells: by the run's name; runs that do not have it are left out.
        published: own figures of the papers and quoted ones, in the order of the tables.
    """

    key: Key
    cells: Mapping[str, Cell]
    published: tuple[Beside, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting in which runs differ; None where a run does not have it."""

    path: str
    values: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: names, in the order given.
        settings: of training, which differ.
        lines: figures.
        measured: for each run and evaluation, how it was measured.
        notes: what a reader should know.
    """

    runs: tuple[str, ...]
    settings: tuple[Setting, ...]
    lines: tuple[Line, ...]
    measured: Mapping[str, Mapping[str, Measured]]
    notes: tuple[str, ...]
