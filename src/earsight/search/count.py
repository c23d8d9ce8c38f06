"""Counting what an index holds, whole or in part."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from earsight.corpus.batch import Failure
from earsight.search.index import part_path


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What some blocks of an index hold.

    Attributes:
        files: that have windows.
        windows: in all.
        embeddings: name to how many windows have it.
        failures: instances that could not be read.
    """

    files: int
    windows: int
    embeddings: dict[str, int]
    failures: tuple[Failure, ...]


def count(folder: Path, numbers: Iterable[int]) -> Counted:
    """Count what blocks hold, without their vectors, one after another."""
    files: set[str] = set()
    windows = 0
    embeddings: Counter[str] = Counter()
    failures: list[Failure] = []
    for number in numbers:
        with pq.ParquetFile(part_path(folder, number)) as file:
            table = file.read(columns=["key", "path", "start", "modality"])
            about = file.schema_arrow.metadata or {}
        files.update(table.column("path").unique().to_pylist())
        windows += table.group_by(["key", "start"]).aggregate([]).num_rows
        names = table.column("modality").value_counts().to_pylist()
        embeddings.update({one["values"]: one["counts"] for one in names})
        failures += [Failure(**one) for one in json.loads(about.get(b"failures", b"[]"))]
    return Counted(
        files=len(files),
        windows=windows,
        embeddings=dict(embeddings),
        failures=tuple(failures),
    )
