"""A part of an index: the windows of a block of instances in a Parquet file, and what was not read.

Pages carry checksums: what is damaged is found when it is read.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from earsight.corpus.batch import Failure
from earsight.corpus.instances import Instances
from earsight.corpus.replacing import replacing
from earsight.search.embed import Embedded

PARTS = "parts"

_FAILURES = b"failures"
_FIELDS = pa.schema(
    [
        ("key", pa.uint64()),
        ("path", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("modality", pa.string()),
        ("vector", pa.list_(pa.float32())),
        ("model", pa.string()),
    ]
)


def part_path(folder: Path, number: int) -> Path:
    """Where a part lies."""
    return folder / PARTS / f"{number:06d}.parquet"


def read_part(
    path: Path, columns: Sequence[str] | None = None
) -> tuple[pa.Table, tuple[Failure, ...]]:
    """The windows of a part (``columns`` of them; all where None), and what could not be read.

    Raises:
        ValueError: it is damaged or cannot be read; names the file.
    """
    wanted = _FIELDS.names if columns is None else columns
    try:
        # pq.read_table would import pandas, and make columns of folders that are named a=b.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table, unread = file.read(columns=wanted), _failures(file.schema_arrow.metadata)
        return table.replace_schema_metadata(None).select(wanted), unread
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(_why(path, error)) from error


def read_failures(path: Path) -> tuple[Failure, ...]:
    """What of a part could not be read, without its windows.

    Raises:
        ValueError: it is damaged or cannot be read; names the file.
    """
    return read_part(path, ())[1]


def passing(failures: Iterable[Failure]) -> set[str]:
    """Keys of instances that may be read later."""
    return {one.key for one in failures if one.passing}


def _why(path: Path, error: Exception) -> str:
    # Arrow's own faults have no number; those of the system say nothing of what the file holds.
    if isinstance(error, OSError) and error.errno is not None:
        return f"{path}: cannot be read: {os.strerror(error.errno).lower()}"
    return f"{path}: is damaged; delete it and give the same `earsight embed` again"


def _failures(metadata: Mapping[bytes, bytes] | None) -> tuple[Failure, ...]:
    found = json.loads((metadata or {}).get(_FAILURES, b"[]"))
    # Parts of earlier versions do not say which may pass: all are tried once more.
    return tuple(Failure(**{"passing": True, **one}) for one in found)


def write_part(
    folder: Path,
    number: int,
    found: Embedded,
    instances: Instances,
    paths: Sequence[str],
    model: str,
) -> None:
    """Write the windows of a block of instances, all or nothing.

    Args:
        folder: of the index.
        number: of the part.
        found: its windows.
        instances: all that are embedded.
        paths: ``(N,)`` theirs, as in the corpus.
        model: hash of the model.

    Raises:
        FullDiskError: the disk is full; nothing half-written is left.
    """
    tables = [_table(found, name, x, instances, paths, model) for name, x in found.vectors.items()]
    unread = {_FAILURES: json.dumps([asdict(one) for one in found.failures]).encode()}
    table = pa.concat_tables(tables) if tables else _FIELDS.empty_table()
    with replacing(part_path(folder, number)) as file:
        pq.write_table(
            table.replace_schema_metadata(unread),
            file,
            compression="zstd",
            write_page_checksum=True,
        )


def _table(
    found: Embedded,
    name: str,
    x: Tensor,
    instances: Instances,
    paths: Sequence[str],
    model: str,
) -> pa.Table:
    known = np.flatnonzero(~x.isnan().any(dim=1).numpy())
    row = found.row[known]
    flat = pa.array(x[torch.from_numpy(known)].numpy().ravel())
    offsets = pa.array(np.arange(len(known) + 1, dtype=np.int32) * x.shape[1])
    return pa.table(
        {
            "key": pa.array(instances.key[row]),
            "path": pa.array([paths[at] for at in row], pa.string()),
            "start": pa.array(found.start[known]),
            "end": pa.array(found.end[known]),
            "modality": pa.array([name] * len(known), pa.string()),
            "vector": pa.ListArray.from_arrays(offsets, flat),
            "model": pa.array([model] * len(known), pa.string()),
        },
        schema=_FIELDS,
    )
