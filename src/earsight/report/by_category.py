"""Accuracy per category as tables: a column for each modality, and for each run."""

from collections.abc import Sequence

from earsight.encoders.pair import MODALITIES
from earsight.evaluation.categories import Category, read_categories
from earsight.evaluation.negatives_tables import Grid
from earsight.evaluation.results import Evaluation
from earsight.evaluation.rows import POOLED, format_value
from earsight.report.words import say

_NOTHING = "–"


def category_grids(runs: Sequence[tuple[str, Sequence[Evaluation]]]) -> list[Grid]:
    """A table for each task, label and kind of features; the best category first.

    Args:
        runs: names, and evaluations, of which the latest of a task counts.

    Raises:
        ValueError: an entry is damaged; the message names the evaluation.
    """
    groups: dict[tuple[str, str, str], dict[str, dict[tuple[str, str], Category]]] = {}
    for run, evaluations in runs:
        for evaluation in evaluations:
            for one in _read(run, evaluation):
                key = (one.task, one.label, one.block or "")
                groups.setdefault(key, {}).setdefault(one.name, {})[run, one.modality] = one
    columns = [(run, modality) for run, _ in runs for modality in MODALITIES]
    return [_grid(*key, lines, columns, len(runs) > 1) for key, lines in groups.items()]


def _read(run: str, evaluation: Evaluation) -> tuple[Category, ...]:
    try:
        return read_categories(evaluation.details.get("categories"))
    except ValueError as error:
        raise ValueError(f"{run}, evaluation {evaluation.name}: {error}") from error


def _grid(
    task: str,
    label: str,
    block: str,
    lines: dict[str, dict[tuple[str, str], Category]],
    every: Sequence[tuple[str, str]],
    several: bool,
) -> Grid:
    columns = [column for column in every if any(column in cells for cells in lines.values())]
    # Of several runs, the random initialisation is left to each run's own figures.
    before = not several and any(
        one.baseline is not None for cells in lines.values() for one in cells.values()
    )
    heads: list[str] = []
    for run, modality in columns:
        heads.append(f"{run}, {say(modality)}" if several else say(modality))
        heads += [f"{say(modality)}, random init"] if before else []
    kind = "" if block in ("", POOLED) else f", {block} features"
    ordered = sorted(lines.items(), key=lambda item: -_mean(list(item[1].values())))
    return Grid(
        title=f"{say(task)} by {label}{kind}: accuracy of each category",
        words=(label,),
        numbers=(*heads, "n"),
        lines=tuple((name, *_cells(cells, columns, before)) for name, cells in ordered),
    )


def _mean(cells: Sequence[Category]) -> float:
    return sum(one.accuracy for one in cells) / len(cells)


def _cells(
    cells: dict[tuple[str, str], Category], columns: Sequence[tuple[str, str]], before: bool
) -> list[str]:
    texts = []
    for column in columns:
        one = cells.get(column)
        texts.append(_NOTHING if one is None else format_value("accuracy", one.accuracy))
        if before:
            texts.append(format_value("accuracy", one.baseline if one else None))
    counts = sorted({one.n for one in cells.values()})
    return [*texts, " / ".join(map(str, counts))]
