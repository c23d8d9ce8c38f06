"""An evaluation of negatives as tables, for the terminal and for its page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from earsight.evaluation.results import Evaluation
from earsight.evaluation.rows import Row, draw_table, format_value

RULE_NAMES = {"random-pool": "random", "ohem": "OHEM", "feature": "feature", "cm-acc": "gradient"}
"""What the rules choose by, by their names; others are shown by their own."""

_BEST, _WORST = 10, 5
"""Categories that a terminal shows of many (fig. 6)."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table.

    Attributes:
        title: above it.
        words: heads of the columns that hold words; that of directions is ``of``.
        numbers: heads of the columns after these, which hold numbers.
        lines: cells as text.
    """

    title: str
    words: tuple[str, ...]
    numbers: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def rule_names(rules: Iterable[str]) -> dict[str, str]:
    """Each rule with what it is shown as."""
    return {rule: RULE_NAMES.get(rule, rule) for rule in rules}


def format_negatives(evaluation: Evaluation) -> str:
    """Plain-text tables; of many categories the best and the worst."""
    return "\n\n".join(
        f"{grid.title}\n{draw_table(grid.words, grid.numbers, _ends(grid.lines))}"
        for grid in grids_of(evaluation)
    )


def _ends(lines: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    if len(lines) <= _BEST + _WORST + 1:
        return list(lines)
    gap = ("…", *("" for _ in lines[0][1:]))
    return [*lines[:_BEST], gap, *lines[-_WORST:]]


def grids_of(evaluation: Evaluation) -> list[Grid]:
    """Unique categories, norms, and pretext accuracies, as far as they were measured."""
    unique = evaluation.details["unique"]
    grids = []
    if unique:
        last, most = unique[-1]["step"], max(one["size"] for one in unique)
        over_sizes = [one for one in unique if one["step"] == last]
        over_steps = [one for one in unique if one["size"] == most]
        grids.append(_unique_grid(f"Unique categories among M, step {last}", "size", over_sizes))
        if len({one["step"] for one in unique}) > 1:
            title = f"Unique categories among {most}, over steps"
            grids.append(_unique_grid(title, "step", over_steps))
    grids.append(_spread_grid("Gradient norms of negatives", "gradient_norm", evaluation.rows))
    title = "Norms of the pseudo-posteriors' residuals"
    grids.append(_spread_grid(title, "pseudo_posterior", evaluation.rows))
    return [*grids, *_pretext_grids(evaluation)]


def _unique_grid(title: str, by: str, unique: Iterable[Mapping[str, Any]]) -> Grid:
    """A line for each direction, label and ``by``; a column for each rule."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in unique:
        groups.setdefault((_direction(one), one["label"]), []).append(one)
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for one in (one for group in groups.values() for one in group):
        key = (_direction(one), one["label"], str(one[by]), str(one["categories"]))
        lines.setdefault(key, {})[one["rule"]] = f"{one['value']:.2f}"
    names = rule_names(rule for cells in lines.values() for rule in cells)
    return Grid(
        title=title,
        words=("of", "label"),
        numbers=("M" if by == "size" else by, "categories", *names.values()),
        lines=tuple((*key, *(cells[rule] for rule in names)) for key, cells in lines.items()),
    )


def _direction(one: Mapping[str, Any]) -> str:
    return f"{one['query']}-{one['key']}"


def _spread_grid(title: str, task: str, rows: Sequence[Row]) -> Grid:
    """A line for each direction and, of norms, for chosen and random negatives."""
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        if row.task == task:
            which, _, stat = row.metric.rpartition("_")
            key = (row.modality, *([which] if which else []))
            lines.setdefault(key, {})[stat] = format_value(row.metric, row.value)
    stats = list(next(iter(lines.values())))
    return Grid(
        title=title,
        words=("of", "negatives")[: len(next(iter(lines)))],
        numbers=tuple(f"{int(s[1:])} %" if s.startswith("q") else s for s in stats),
        lines=tuple((*key, *cells.values()) for key, cells in lines.items()),
    )


def _pretext_grids(evaluation: Evaluation) -> list[Grid]:
    """A table for all clips and one for each label, the best category first."""
    judged = evaluation.details["pretext"]
    directions = list(dict.fromkeys(map(_direction, judged)))
    grids = []
    for label in dict.fromkeys(one["label"] for one in judged):
        lines: dict[str, list[Mapping[str, Any]]] = {}
        for one in judged:
            if one["label"] == label:
                lines.setdefault(one["category"], []).append(one)
        ordered = sorted(lines.items(), key=lambda item: -sum(one["accuracy"] for one in item[1]))
        about = f" by {label}" if label else ""
        chance = format_value("accuracy", 1 / (evaluation.details["keys"] + 1))
        grids.append(
            Grid(
                title=f"Pretext accuracy{about} (chance {chance})",
                words=(label or "clips",),
                numbers=(*directions, "n"),
                lines=tuple(_pretext_line(name, each, directions) for name, each in ordered),
            )
        )
    return grids


def _pretext_line(
    name: str, each: Sequence[Mapping[str, Any]], directions: Sequence[str]
) -> tuple[str, ...]:
    accuracy = {_direction(one): format_value("accuracy", one["accuracy"]) for one in each}
    return (name or "all", *(accuracy[direction] for direction in directions), str(each[0]["n"]))
