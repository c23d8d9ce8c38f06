"""Runs side by side, and beside the figures that the papers print for the same protocol and data.

Nothing is measured here: evaluations are read from the run folders. Whatever differs in how two
figures were measured is named beside them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from earsight.config import RunConfig, as_tree
from earsight.evaluation.compare_protocol import (
    BEST,
    Measured,
    between_runs,
    from_published,
    measured,
)
from earsight.evaluation.comparison import Beside, Cell, Comparison, Key, Line, Setting
from earsight.evaluation.published import CLASSES, Figure, read_published
from earsight.evaluation.results import read_evaluation
from earsight.evaluation.rows import Row
from earsight.presets import difference
from earsight.training.resume import FREE
from earsight.training.run_folder import read_config

CLASS_LABEL = "label"
"""The column in which known data sets have their classes."""

_UNSTATED = ("svm", "finetune")
"""Protocols that a published figure may have been measured by, if its paper does not say."""

_OUR_OWN = ("agreement", "negatives")
"""Evaluations that no paper prints figures of."""

_SHOWN = tuple(name for name in FREE if name != "data.corpus")
_SPREAD = ("deviation", "low", "high")
_APART = ("mean_log_rank",)
"""Metrics whose deviation is that of chance, not of the metric."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A cell with the row and the evaluation that it is of."""

    cell: Cell
    row: Row
    of: Measured


def compare(runs: Sequence[Path]) -> Comparison:
    """Compare the evaluations of runs with each other and with published figures.

    Args:
        runs: run folders; one is enough to be held against what is published.

    Raises:
        ValueError: a folder is no run or stands twice, an evaluation is damaged (it is named), or
            no run has any.
    """
    names = _names(runs)
    settings = differing_settings(runs)
    found: dict[Key, dict[str, _Found]] = {}
    every: dict[str, dict[str, Measured]] = {name: {} for name in names}
    for name, run in zip(names, runs, strict=True):
        for of, rows in _evaluations(name, run):
            every[name][of.name] = of
            _collect(found, of, rows)
    if not any(every.values()):
        raise ValueError(
            "no run has an evaluation to compare; make one first, such as "
            f"`earsight evaluate probe {runs[0]}`"
        )
    return Comparison(
        runs=tuple(names),
        settings=settings,
        lines=tuple(_line(key, by_run) for key, by_run in found.items()),
        measured=every,
        notes=tuple(_notes(every)),
    )


def _evaluations(name: str, run: Path) -> list[tuple[Measured, tuple[Row, ...]]]:
    """A run's evaluations, those of most folds and seeds first: the others are their parts."""
    found = []
    for path in sorted((run / "evaluation").glob("*.json")):
        evaluation = read_evaluation(path)
        found.append((measured(name, run, path, evaluation), evaluation.rows))
    return sorted(found, key=lambda one: -one[0].repeats)


def _names(runs: Sequence[Path]) -> list[str]:
    """Folder names, or whole paths where two folders have the same."""
    if not runs:
        raise ValueError("name at least one run folder")
    resolved = [run.resolve() for run in runs]
    twice = [str(run) for run, path in zip(runs, resolved, strict=True) if resolved.count(path) > 1]
    if twice:
        raise ValueError(f"{twice[0]} stands twice; name each run once")
    short = [path.name for path in resolved]
    unique = len(set(short)) == len(short)
    return short if unique else [str(run) for run in runs]


def differing_settings(runs: Sequence[Path]) -> tuple[Setting, ...]:
    """The settings of training in which runs differ.

    Raises:
        ValueError: a folder is no run.
    """
    return _settings([read_config(run) for run in runs])


def _settings(configs: Sequence[RunConfig]) -> tuple[Setting, ...]:
    """What decides the losses of a run, and the corpus, where it is not the same in all."""
    trees = [as_tree(config) for config in configs]
    # By run, its values at the paths where it differs from the first.
    changes = [{path: two for path, _, two in difference(trees[0], tree)} for tree in trees]
    first = {path: one for tree in trees for path, one, _ in difference(trees[0], tree)}
    return tuple(
        Setting(path=path, values=tuple(change.get(path, first[path]) for change in changes))
        for path in sorted(first)
        if not path.startswith(_SHOWN)
    )


def _collect(found: dict[Key, dict[str, _Found]], of: Measured, rows: Sequence[Row]) -> None:
    for row, cell in _cells(of, rows):
        data = of.protocol.data if of.protocol else ""
        key = Key(
            task=row.task,
            modality=row.modality,
            label=row.label,
            block=row.block,
            metric=row.metric,
            data=data,
            variant=of.variant,
        )
        if of.run in found.get(key, {}):
            key = replace(key, variant=", ".join(filter(None, (of.variant, of.name))))
        found.setdefault(key, {})[of.run] = _Found(cell=cell, row=row, of=of)


def _cells(of: Measured, rows: Sequence[Row]) -> Iterator[tuple[Row, Cell]]:
    """Every figure with its deviation and interval folded in, and the best of the blocks."""
    places = {_place(row) for row in rows}
    spread: dict[tuple[Any, ...], dict[str, float]] = {}
    plain = []
    for row in rows:
        base, _, what = row.metric.rpartition("_")
        place = (*_place(row)[:-1], base)
        if what in _SPREAD and place in places and base not in _APART:
            spread.setdefault(place, {})[what] = row.value
        else:
            plain.append(row)
    made = [(row, _cell(of, row, spread.get(_place(row), {}))) for row in plain]
    yield from made
    if of.protocol and of.protocol.data in CLASSES:
        yield from _best(made)


def _cell(of: Measured, row: Row, spread: Mapping[str, float]) -> Cell:
    return Cell(
        value=row.value,
        deviation=spread.get("deviation"),
        low=spread.get("low"),
        high=spread.get("high"),
        chance=row.chance,
        baseline=row.baseline,
        n=row.n,
        evaluation=of.name,
    )


def _place(row: Row) -> tuple[Any, ...]:
    return (row.task, row.modality, row.label, row.block, row.metric)


def _best(made: Sequence[tuple[Row, Cell]]) -> Iterator[tuple[Row, Cell]]:
    """The best numbered block of every probe, as the papers report it: chosen at test."""
    groups: dict[tuple[Any, ...], list[tuple[Row, Cell]]] = {}
    for row, cell in made:
        if row.task == "probe" and (row.block or "").isdigit():
            groups.setdefault((row.modality, row.label, row.metric), []).append((row, cell))
    for pairs in groups.values():
        row, cell = max(pairs, key=lambda pair: pair[1].value)
        # Nothing says that the random initialisation is best in the same block.
        yield replace(row, block=BEST, baseline=None), replace(cell, baseline=None)


def _line(key: Key, by_run: Mapping[str, _Found]) -> Line:
    first = next(iter(by_run.values()))
    cells = {
        run: replace(one.cell, differences=_differences(first, one)) for run, one in by_run.items()
    }
    return Line(key=key, cells=cells, published=tuple(_published(key, by_run)))


def _differences(first: _Found, other: _Found) -> tuple[str, ...]:
    if first is other:
        return ()
    pairs = between_runs(first.of, first.row, other.of, other.row)
    return tuple(f"{there}; {first.of.run}: {here}" for here, there in pairs)


def _published(key: Key, by_run: Mapping[str, _Found]) -> Iterator[Beside]:
    if not key.data or key.label != CLASS_LABEL:
        return
    for figure in read_published():
        if _same_measure(key, figure):
            differences = {
                run: from_published(figure, one.of, one.row) for run, one in by_run.items()
            }
            yield Beside(figure=figure, differences=differences)


def _same_measure(key: Key, figure: Figure) -> bool:
    """Whether a figure has a key's protocol, data set, modality, block and metric."""
    if (figure.data, figure.modality) != (key.data, key.modality):
        return False
    protocols = _UNSTATED if figure.protocol == "unstated" else (figure.protocol,)
    block = key.block if key.block == BEST or (key.block or "").isdigit() else ""
    # A probe of a block that its paper does not name is held against pooled features and the best.
    blocks = (block, "") if block == BEST else (block,)
    single = figure.metric == "Clip@1"
    wanted = ("Clip@1",) if single else ("Sample@1", "accuracy")
    return key.task in protocols and figure.block in blocks and key.metric in wanted


def _notes(every: Mapping[str, Mapping[str, Measured]]) -> Iterator[str]:
    without = [run for run, evaluations in every.items() if not evaluations]
    if without:
        yield f"no evaluation in {', '.join(without)}"
    old = [
        f"{run}/{name}"
        for run, evaluations in every.items()
        for name, of in evaluations.items()
        if of.protocol is None and name not in _OUR_OWN
    ]
    if old:
        yield (
            f"held against nothing published, as their protocol is not recorded: {', '.join(old)}; "
            "evaluate again"
        )
