"""Several runs beside each other: their settings, their curves, their figures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from earsight.evaluation.compare_tables import cell_text
from earsight.evaluation.comparison import Comparison, Line, Setting
from earsight.evaluation.rows import LOWER_IS_BETTER, POOLED, format_value, is_share
from earsight.report.metrics import Panel, Series
from earsight.report.tables import CATEGORY
from earsight.report.words import Fact, say

_NOTHING = "–"
_LEADING = ("probe", "svm", "classify", "finetune", "knn")
_ACCURACIES = ("accuracy", "Sample@1")
_FOLDED = ("geometry", "agreement", "gradient_norm", "pseudo_posterior", "unique")
_WORDS = ("task", "of", "label", "block", "metric", "on", "variant")


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A name, what each run has of it (a dash where it has none), and whether that differs."""

    name: str
    values: tuple[str, ...]
    differs: bool


@dataclass(frozen=True, kw_only=True)
class FigureCell:
    """A run's figure as text.

    Attributes:
        value: with deviation and interval where known; a dash where the run does not have it.
        before: of the random initialisation; empty where it was not measured.
        marks: numbers of the differences in how it was measured.
        best: whether no other run has a better one.
    """

    value: str = _NOTHING
    before: str = ""
    marks: tuple[int, ...] = ()
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class FigureLine:
    """A figure of every run: what it is of, the runs' cells in their order, and chance."""

    words: tuple[str, ...]
    cells: tuple[FigureCell, ...]
    chance: str
    lower: bool


@dataclass(frozen=True, kw_only=True)
class FigureTable:
    """Figures that belong together.

    Attributes:
        title: of the table.
        folded: whether it is shown only to who asks for it.
        heads: of the columns of words.
        lines: one for each figure.
    """

    title: str
    folded: bool
    heads: tuple[str, ...]
    lines: tuple[FigureLine, ...]


@dataclass(kw_only=True)
class Figures:
    """Tables, and what their marks mean, by number."""

    tables: list[FigureTable] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)

    def mark(self, differences: Iterable[str]) -> tuple[int, ...]:
        """Numbers of differences, those that are new getting the next."""
        return tuple(self.marks.setdefault(text, len(self.marks) + 1) for text in differences)


def beside(facts: Sequence[Sequence[Fact]]) -> list[Beside]:
    """Facts of several runs, those that differ first, in the order in which they are met."""
    trees = [dict(one) for one in facts]
    names = dict.fromkeys(name for tree in trees for name in tree)
    lines = [_beside(name, [tree.get(name) for tree in trees]) for name in names]
    return sorted(lines, key=lambda line: not line.differs)


def settings_beside(settings: Sequence[Setting]) -> tuple[list[Beside], list[Beside]]:
    """Settings in which runs differ: those that all have, and those that only some methods have."""
    lines = [(_beside(one.path, one.values), None in one.values) for one in settings]
    return [one for one, some in lines if not some], [one for one, some in lines if some]


def _beside(name: str, values: Sequence[Any]) -> Beside:
    texts = tuple(_NOTHING if value is None else str(value) for value in values)
    return Beside(name=name, values=texts, differs=len(set(texts)) > 1)


def overlay(runs: Sequence[tuple[str, Sequence[Panel]]]) -> list[Panel]:
    """A panel for each curve, with that of every run that has it; of one run, its panels.

    The order is that of the first run; what others have besides comes last.
    """
    if len(runs) == 1:
        return list(runs[0][1])
    found: dict[tuple[str, str], list[tuple[Panel, Series]]] = {}
    for colour, (run, panels) in enumerate(runs):
        for panel in panels:
            for series in panel.series:
                own = replace(series, name=run, colour=colour)
                found.setdefault((panel.title, series.name), []).append((panel, own))
    return [_laid_over(title, name, curves) for (title, name), curves in found.items()]


def _laid_over(title: str, name: str, curves: Sequence[tuple[Panel, Series]]) -> Panel:
    first = curves[0][0]
    alone = name == title or len(first.series) == 1
    chances = {series.chance for _, series in curves}
    same = chances.pop() if len(chances) == 1 else None
    return replace(
        first,
        title=title if alone else f"{title}, {name}",
        series=tuple(
            series if same is None else replace(series, chance=None) for _, series in curves
        ),
        averaged=max(panel.averaged for panel, _ in curves),
        chance=same,
    )


def figures_beside(comparison: Comparison) -> Figures:
    """All figures of the runs: first what says most, last what is folded, such as single blocks."""
    figures = Figures()
    groups: dict[tuple[str, bool], list[Line]] = {}
    for line in comparison.lines:
        groups.setdefault(_group(line), []).append(line)
    for (title, folded), lines in sorted(groups.items(), key=lambda item: item[0][1]):
        figures.tables.append(_table(title, folded, lines, comparison.runs, figures))
    return figures


def _group(line: Line) -> tuple[str, bool]:
    """The table that a figure belongs to, and whether it is folded."""
    key = line.key
    block = key.block or ""
    if block.isdigit() or block == "best":
        return f"{say(key.task)} of single blocks", True
    if key.task == "retrieve" and key.label:
        return CATEGORY, True
    return say(key.task), key.task in _FOLDED


def headlines_beside(comparison: Comparison, figures: Figures) -> FigureTable | None:
    """The figures worth reading first: R@1 of pairs, and a classifier of each label.

    They stand in the tables of ``figures``, too, whose marks they share.
    """
    leading = sorted(
        (line for line in comparison.lines if _leads(line)),
        key=lambda line: line.key.task != "retrieve",
    )
    if not leading:
        return None
    return FigureTable(
        title="the figures worth reading first",
        folded=False,
        heads=("figure",),
        lines=tuple(
            replace(_line(line, comparison.runs, figures), words=(_named(line),))
            for line in leading
        ),
    )


def _named(line: Line) -> str:
    """A figure in one phrase: ``linear probe of shape, picture``."""
    key = line.key
    of = f"{say(key.task)} of {key.label}" if key.label else f"{say(key.task)}, {key.metric}"
    return ", ".join(filter(None, [of, say(key.modality), key.data, key.variant]))


def _leads(line: Line) -> bool:
    key = line.key
    if key.task == "retrieve":
        return key.label is None and key.metric == "R@1"
    return key.task in _LEADING and key.block in (None, POOLED) and key.metric in _ACCURACIES


def _table(
    title: str, folded: bool, lines: Sequence[Line], runs: Sequence[str], figures: Figures
) -> FigureTable:
    drawn = [_line(line, runs, figures) for line in lines]
    # A column that says the same of all is in the title, or says nothing.
    kept = [at for at in range(len(_WORDS)) if len({line.words[at] for line in drawn}) > 1]
    same = [drawn[0].words[at] for at in range(1, len(_WORDS)) if at not in kept]
    named = [word for word in same if word not in (_NOTHING, title, POOLED)]
    return FigureTable(
        title=", ".join([title, *named]),
        folded=folded,
        heads=tuple(_WORDS[at] for at in kept),
        lines=tuple(replace(line, words=tuple(line.words[at] for at in kept)) for line in drawn),
    )


def _line(line: Line, runs: Sequence[str], figures: Figures) -> FigureLine:
    key = line.key
    words = (key.task, key.modality, key.label, key.block, key.metric, key.data, key.variant)
    first = next(iter(line.cells.values()))
    best = _best({run: cell.value for run, cell in line.cells.items()}, key.metric)
    cells = []
    for run in runs:
        cell = line.cells.get(run)
        if cell is None:
            cells.append(FigureCell())
            continue
        before = "" if cell.baseline is None else format_value(key.metric, cell.baseline)
        cells.append(
            FigureCell(
                value=cell_text(key.metric, cell),
                before=before,
                marks=figures.mark(cell.differences),
                best=run in best,
            )
        )
    return FigureLine(
        words=tuple(say(word) if word else _NOTHING for word in words),
        cells=tuple(cells),
        chance=format_value(key.metric, first.chance),
        lower=key.metric in LOWER_IS_BETTER,
    )


def _best(values: Mapping[str, float], metric: str) -> set[str]:
    """Runs with the best figure, where better and worse can be told and there is a difference."""
    lower = metric in LOWER_IS_BETTER
    if not (lower or is_share(metric)) or len(set(values.values())) < 2:
        return set()
    best = (min if lower else max)(values.values())
    return {run for run, value in values.items() if value == best}
