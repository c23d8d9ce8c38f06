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
        folded: whether it is shown only to who asks for it.
    """

    title: str
    rows: tuple[Row, ...]
    columns: frozenset[str]
    folded: bool = False


CATEGORY = "retrieval of the same category"
"""What retrieval by labels is called, to tell it from that of pairs."""

_LONG = 24
"""Rows above which a table is folded."""


def tables_of(evaluation: Evaluation) -> list[Table]:
    """A table for each task, and for each direction of retrieval; folded ones come last."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in evaluation.rows:
        paired = row.task == "retrieve"
        task = CATEGORY if paired and row.label else row.task
        groups.setdefault((task, row.modality if paired else ""), []).append(row)
    tables = [_table(task, one, tuple(rows)) for (task, one), rows in groups.items()]
    return sorted(tables, key=lambda table: table.folded)


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
        folded=task == CATEGORY or len(rows) > _LONG,
    )
