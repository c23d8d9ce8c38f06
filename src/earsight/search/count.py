"""Counting what an index holds, whole or in part."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from earsight.corpus.batch import Failure
from earsight.search.parts import part_path, passing, read_part


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What some blocks of an index hold.

    Attributes:
        files: that have windows.
        windows: in all.
        embeddings: name to how many windows have it.
        failures: instances that could not be read.
        passing: how many of them may be read later.
    """

    files: int
    windows: int
    embeddings: dict[str, int]
    failures: tuple[Failure, ...]
    passing: int


def count(folder: Path, numbers: Iterable[int]) -> Counted:
    """Count what blocks hold, without their vectors, one after another.

    Raises:
        ValueError: a block is damaged; the message names the file.
    """
    files: set[str] = set()
    windows = 0
    embeddings: Counter[str] = Counter()
    failures: list[Failure] = []
    for number in numbers:
        table, unread = read_part(part_path(folder, number), ["key", "path", "start", "modality"])
        files.update(table.column("path").unique().to_pylist())
        windows += table.group_by(["key", "start"]).aggregate([]).num_rows
        names = table.column("modality").value_counts().to_pylist()
        embeddings.update({one["values"]: one["counts"] for one in names})
        failures += unread
    return Counted(
        files=len(files),
        windows=windows,
        embeddings=dict(embeddings),
        failures=tuple(failures),
        passing=len(passing(failures)),
    )
