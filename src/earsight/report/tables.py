"""Rows of an evaluation as the tables of a page."""

from dataclasses import dataclass

from earsight.evaluation.results import Evaluation
from earsight.evaluation.rows import Row, is_block
from earsight.report.words import say


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of one evaluation that belong together.

    Attributes:
        title: the task, and whatever is the same in all rows and has no column therefore.
        rows: one line each.
        columns: of ``of``, ``label``, ``block`` and ``metric`` those that are needed.
    """

    title: str
    rows: tuple[Row, ...]
    columns: frozenset[str]


def tables_of(evaluation: Evaluation) -> list[Table]:
    """A table for each task, and for each direction of retrieval, in the order they appear."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in evaluation.rows:
        one = row.modality if row.task == "retrieve" else ""
        groups.setdefault((row.task, one), []).append(row)
    return [_table(task, one, tuple(rows)) for (task, one), rows in groups.items()]


def _table(task: str, one: str, rows: tuple[Row, ...]) -> Table:
    metrics = {row.metric for row in rows}
    same = [one, *(metrics if len(metrics) == 1 else ())]
    needed = {
        "of": not one,
        "label": any(row.label for row in rows),
        "block": any(is_block(row) for row in rows),
        "metric": len(metrics) > 1,
    }
    return Table(
        title=", ".join(say(word) for word in (task, *same) if word),
        rows=rows,
        columns=frozenset(name for name, wanted in needed.items() if wanted),
    )
