"""Figures that the two papers print: all of their tables 1 to 6, and avid-cma's figure 4b.

``figures.csv`` has a row per figure. Where cm-acc's tables disagree, each figure is kept with its
table. What a paper does not say is left empty.
"""

import csv
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

FILE = Path(__file__).with_name("figures.csv")

CLASSES: Mapping[str, int] = {
    "dcase-2014": 10,
    "esc-50": 50,
    "hmdb-51": 51,
    "kinetics-400": 400,
    "ucf-101": 101,
}
"""Data sets that the papers evaluate on, and how many classes they have."""

TRAINING: Mapping[str, int] = {
    "dcase-2014": 100,
    "esc-50": 1600,
    "hmdb-51": 3570,
    "kinetics-400": 240_000,
    "ucf-101": 9537,
}
"""Their training instances, of one split (the smallest, where splits differ)."""

_EMPTY_IS_NONE = ("clips", "deviation")


@checked(config=ConfigDict(extra="forbid"), kw_only=True, frozen=True)
class Figure:
    """A figure as printed; empty (or None) is what the paper does not say.

    Attributes:
        paper: ``avid-cma`` or ``cm-acc``.
        table: its number, with the letter of its part; or ``figure 4b``.
        method: as the paper names it; cm-acc's "Ours" is CM-ACC.
        objective: what it was pre-trained by, where the table says: ``supervised``, or the
            modalities and the choice of negatives.
        pretraining: the set that it was pre-trained on; ``none`` for a random initialisation.
        size: clips of that set, as printed.
        modality: of what is evaluated: ``video``, ``audio`` or ``both``.
        data: the set that it was evaluated on.
        protocol: ``probe``, ``finetune``, ``svm``, ``memory``, or ``unstated``.
        block: the number of the block that was probed, ``best`` of all; empty for no such choice.
        clips: averaged at test.
        splits: averaged over.
        input: frames and side of the picture (``8x224``), or frames and bands of the sound.
        metric: ``Clip@1``, ``Video@1`` or ``top-1`` (also over a sample's clips).
        value: per cent.
        deviation: per cent.
        architecture: of the evaluated encoder.
        source: the paper's ``own``, or ``quoted`` from another.
        note: anything that the other fields cannot say.
    """

    paper: Literal["avid-cma", "cm-acc"]
    table: Literal["1", "1a", "1b", "2", "3", "4", "5", "6", "figure 4b"]
    method: str
    objective: str
    pretraining: str
    size: str
    modality: Literal["video", "audio", "both"]
    data: Literal["dcase-2014", "esc-50", "hmdb-51", "kinetics-400", "ucf-101"]
    protocol: Literal["probe", "finetune", "svm", "memory", "unstated"]
    block: Literal["", "1", "2", "3", "4", "best"]
    clips: int | None
    splits: tuple[int, ...]
    input: str
    metric: Literal["Clip@1", "Video@1", "top-1"]
    value: float
    deviation: float | None
    architecture: str
    source: Literal["own", "quoted"]
    note: str

    @property
    def where(self) -> str:
        """Paper and table, such as ``avid-cma table 3``."""
        return f"{self.paper} {self.table if ' ' in self.table else f'table {self.table}'}"


@cache
def read_published() -> tuple[Figure, ...]:
    """Every figure of the package's file; read once.

    Raises:
        ValueError: as :func:`read_figures`.
    """
    return read_figures(FILE)


def read_figures(path: Path) -> tuple[Figure, ...]:
    """Figures of a CSV file with exactly the columns of :class:`Figure`.

    Raises:
        ValueError: a column is unknown or missing, a row is too long or too short, or a value is
            not one of those allowed; the message names file, line and field.
        OSError: it cannot be read.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        _check_columns(path, reader.fieldnames or ())
        return tuple(_figure(path, reader.line_num, line) for line in reader)


def _check_columns(path: Path, found: Any) -> None:
    known = [f.name for f in fields(Figure)]
    unknown = [repr(name) for name in found if name not in known]
    missing = [repr(name) for name in known if name not in found]
    if unknown or missing:
        faults = [
            f"{what} {', '.join(names)}"
            for what, names in (("unknown", unknown), ("missing", missing))
            if names
        ]
        raise ValueError(f"{path}: columns {' and '.join(faults)}; name those of Figure")
    if len(found) > len(known):
        raise ValueError(f"{path}: a column stands twice; leave one out")


def _figure(path: Path, number: int, line: Mapping[Any, Any]) -> Figure:
    if None in line or None in line.values():
        raise ValueError(f"{path}: line {number} has not as many fields as there are columns")
    tree: dict[str, Any] = dict(line)
    for name in _EMPTY_IS_NONE:
        tree[name] = tree[name] or None
    tree["splits"] = tree["splits"].split()
    try:
        figure: Figure = TypeAdapter(Figure).validate_python(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: line {number}: {where}: {first['msg']}") from error
    blank = [name for name in ("method", "pretraining") if not tree[name]]
    if blank:
        raise ValueError(f"{path}: line {number}: {blank[0]}: must not be empty")
    if not 0 <= figure.value <= 100:
        raise ValueError(f"{path}: line {number}: value: must be per cent, 0 to 100")
    return figure
