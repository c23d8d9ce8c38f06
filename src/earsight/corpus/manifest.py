"""The manifest: a Parquet file with one row per instance, and the corpus it describes.

Columns that belong to a file repeat on each of its instances; Parquet stores them once.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from earsight.corpus.discover import absolute_path
from earsight.corpus.keys import key_of, key_text
from earsight.corpus.status import UNREADABLE, Content, content_of
from earsight.media.types import Limits

SCHEMA = 1
"""Version of the manifest's columns."""

LABEL_PREFIX = "label:"
LABEL_SEPARATOR = ";"
SPLIT = "split"

FILE_FIELDS = pa.schema(
    [
        ("path", pa.large_string()),  # relative, posix, with the prefix of a named root
        ("root", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("content", pa.string()),  # BLAKE2b of all bytes; null where no other file has the size
        ("verified", pa.bool_()),  # decoded in full by a deep scan
        ("retry", pa.bool_()),  # failed for a reason that may pass: read again by the next scan
        ("file_duration", pa.float64()),
        ("video_streams", pa.int16()),
        ("audio_streams", pa.int16()),
        ("notes", pa.string()),
        ("video_stream", pa.int16()),  # container index of the chosen stream; -1 where none
        ("video_codec", pa.string()),
        ("width", pa.int32()),  # upright
        ("height", pa.int32()),
        ("rotation", pa.int16()),
        ("video_fps", pa.float64()),
        ("video_frames", pa.int64()),
        ("video_start", pa.float64()),  # seconds from the file's zero
        ("video_duration", pa.float64()),
        ("pixel_format", pa.string()),
        ("audio_stream", pa.int16()),
        ("audio_codec", pa.string()),
        ("audio_rate", pa.int32()),
        ("audio_channels", pa.int16()),
        ("audio_start", pa.float64()),
        ("audio_duration", pa.float64()),
        ("keyframes", pa.large_list(pa.float32())),  # those within the instance
    ]
)
INSTANCE_FIELDS = pa.schema(
    [
        ("key", pa.uint64()),
        ("start", pa.float64()),  # seconds from the file's zero
        ("end", pa.float64()),
        ("group", pa.large_string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("duplicate_of", pa.uint64()),
    ]
)

_METADATA = b"earsight"
_ROW_GROUP = 131072


@dataclass(frozen=True, kw_only=True)
class ScanSettings:
    """What a scan was told.

    Attributes:
        segment: seconds that long files are cut into; None for whole files.
        min_duration: seconds of picture and sound under which an instance is ``too-short``.
        group_by: the label column that splits are made by; None for the file.
        layout: name of the known data set whose lists were read; empty for none.
        limits: what a file may cost.
    """

    segment: float | None = None
    min_duration: float = 1.0
    group_by: str | None = None
    layout: str = ""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Instances, and where their files are.

    Attributes:
        table: one row per instance, in the order of paths and starts: ``FILE_FIELDS``,
            ``INSTANCE_FIELDS``, a string column ``label:NAME`` per label, and perhaps ``split``.
        roots: absolute folder per root.
        settings: what the scan was told.
    """

    table: pa.Table
    roots: Mapping[str, str]
    settings: ScanSettings = field(default_factory=ScanSettings)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the label columns, without their prefix."""
        names = self.table.column_names
        return tuple(n.removeprefix(LABEL_PREFIX) for n in names if n.startswith(LABEL_PREFIX))

    @property
    def has_splits(self) -> bool:
        """Whether the labels named splits."""
        return SPLIT in self.table.column_names

    def column(self, name: str) -> NDArray[Any]:
        """A column ``(R,)`` as NumPy; strings as objects, with None where there is nothing."""
        column = self.table.column(name)
        assert not (pa.types.is_integer(column.type) and column.null_count), "would lose digits"
        return np.asarray(column.to_numpy())

    def labels(self, name: str) -> NDArray[np.object_]:
        """A label column ``(R,)``; None where an instance has none.

        Raises:
            ValueError: there is no such column; names those there are.
        """
        if name not in self.label_names:
            known = ", ".join(self.label_names) or "none; scan again with labels"
            raise ValueError(f"the corpus has no label column {name!r}; it has {known}")
        return self.column(LABEL_PREFIX + name)

    def is_duplicate(self) -> NDArray[np.bool_]:
        """``(R,)`` whether an instance is an exact copy of an earlier one."""
        return np.asarray(pc.is_valid(self.table.column("duplicate_of")).to_numpy(), np.bool_)

    def content(self) -> Content:
        """What the instances hold within their spans."""
        streams = ["stream", "start", "duration"]
        names = [f"{kind}_{fact}" for kind in ("video", "audio") for fact in streams]
        names += ["start", "end", "video_frames", "video_fps"]
        columns = {name: self.column(name) for name in names}
        return content_of({**columns, "readable": self.column("status") != UNREADABLE})

    def absolute(self, row: int) -> str:
        """Where the file of an instance lies."""
        path, root = (self.table.column(name)[row].as_py() for name in ("path", "root"))
        return absolute_path(path, root, self.roots[root])

    def absolutes(self) -> list[str]:
        """Where the files of all instances lie."""
        paths, roots = (self.table.column(name).to_pylist() for name in ("path", "root"))
        return [
            absolute_path(path, root, self.roots[root])
            for path, root in zip(paths, roots, strict=True)
        ]

    def select(self, mask: NDArray[np.bool_]) -> Self:
        """The corpus of the instances where ``mask`` is true."""
        return replace(self, table=self.table.filter(pa.array(mask)))


def write(corpus: Corpus, path: Path) -> None:
    """Write a manifest: beside its place, synced, then renamed, so that the old one stays whole.

    Raises:
        OSError: the disk is full or the folder closed; what was at ``path`` is untouched.
    """
    about = {"schema": SCHEMA, "roots": dict(corpus.roots), "settings": asdict(corpus.settings)}
    metadata = {_METADATA: json.dumps(about).encode()}
    table = corpus.table.replace_schema_metadata(metadata)
    # Not the name itself, which may be as long as names can be.
    beside = path.with_name(f".{key_text(key_of(path.name))}-{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            pq.write_table(table, file, compression="zstd", row_group_size=_ROW_GROUP)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere folders cannot be opened, and renames are durable
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path) -> Corpus:
    """Read a manifest.

    Raises:
        ValueError: there is none, it is damaged or no manifest, or it has another schema.
    """
    try:
        table = pq.read_table(path, memory_map=False)
    except FileNotFoundError as error:
        raise ValueError(
            f"{path}: no such corpus; make one with 'earsight scan SOURCE -o {path}'"
        ) from error
    except pa.ArrowInvalid as error:
        raise ValueError(_no_corpus(path)) from error
    except OSError as error:
        raise ValueError(f"{path}: the corpus cannot be read: {error}") from error
    about = _about(table, path)
    if about.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} has schema {about.get('schema')}, and this version reads schema {SCHEMA}; "
            "scan its sources again into a new file (keys stay the same)"
        )
    missing = {*FILE_FIELDS.names, *INSTANCE_FIELDS.names} - set(table.column_names)
    if missing:
        raise ValueError(
            f"{path} lacks the columns {', '.join(sorted(missing))}; scan its sources again"
        )
    settings = about["settings"]
    limits = Limits(**settings.pop("limits"))
    return Corpus(
        table=table.replace_schema_metadata(None),
        roots=about["roots"],
        settings=ScanSettings(**settings, limits=limits),
    )


def _about(table: pa.Table, path: Path) -> dict[str, Any]:
    text = (table.schema.metadata or {}).get(_METADATA)
    if text is None:
        raise ValueError(_no_corpus(path))
    about = json.loads(text)
    assert isinstance(about, dict)
    return about


def _no_corpus(path: Path) -> str:
    return (
        f"{path} is no corpus, or is damaged; make one with 'earsight scan SOURCE -o FILE', where "
        "FILE is new"
    )
