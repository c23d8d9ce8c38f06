"""The manifest: a Parquet file with one row per instance, and the corpus it describes.

Columns that belong to a file repeat on each of its instances; Parquet stores them once. The
manifest of prepared shards has ``MEMBER_FIELDS`` besides: where each instance lies in them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from earsight.corpus.discover import absolute_path
from earsight.corpus.manifest_check import (
    METADATA,
    about_of,
    built,
    damaged,
    no_corpus,
    roots_of,
    typed,
)
from earsight.corpus.part import Part
from earsight.corpus.replacing import replacing
from earsight.corpus.status import UNREADABLE, Content, content_of
from earsight.media.members import Member, address, is_remote, remote, told
from earsight.media.types import Coding, Limits

SCHEMA = 1
"""Version of the manifest's columns."""

LABEL_PREFIX = "label:"
LABEL_SEPARATOR = ";"
NOTE_SEPARATOR = "; "
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
MEMBER_FIELDS = pa.schema(
    [
        ("offset", pa.int64()),  # in the shard that the path names; null where not prepared
        ("length", pa.int64()),
        ("checksum", pa.uint32()),  # CRC-32
        ("source", pa.large_string()),  # the path that the instance had before
        ("source_fps", pa.float64()),
        ("source_side", pa.int32()),  # pixels of the short side
    ]
)

NAME = "corpus.parquet"
"""The manifest within a folder of shards."""

HERE = "."
"""The root that stands for the folder in which the manifest lies."""

Built = TypeVar("Built")

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
        prepared: how shards were coded; None where the files are as they were found.
        cells: of pairs of pictures (:mod:`earsight.corpus.pairs`), the characters that a picture
            shows at most; 0 where instances are of films and sounds.
        part: which part of a corpus a scan was asked for; None for a whole one.
    """

    table: pa.Table
    roots: Mapping[str, str]
    settings: ScanSettings = field(default_factory=ScanSettings)
    prepared: Coding | None = None
    cells: int = 0
    part: Part | None = None

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
        """Where the file of an instance lies; of a prepared one, the name of the member."""
        return replace(self, table=self.table.slice(row, 1)).absolutes()[0]

    def absolutes(self) -> list[str]:
        """Where the files of all instances lie."""
        paths, roots = (self.table.column(name).to_pylist() for name in ("path", "root"))
        found = [
            absolute_path(path, root, self.roots[root])
            for path, root in zip(paths, roots, strict=True)
        ]
        if self.prepared is None:
            return found
        names = ("offset", "length", "checksum")
        places = zip(*(self.table.column(name).to_pylist() for name in names), strict=True)
        return [_member(path, *place) for path, place in zip(found, places, strict=True)]

    def select(self, mask: NDArray[np.bool_]) -> Self:
        """The corpus of the instances where ``mask`` is true."""
        return replace(self, table=self.table.filter(pa.array(mask)))


def write(corpus: Corpus, path: Path) -> None:
    """Write a manifest: beside its place, synced, then renamed, so that the old one stays whole.

    Raises:
        FullDiskError: the disk is full; what was at ``path`` is untouched.
        OSError: the folder is closed; likewise.
    """
    about = {"schema": SCHEMA, "roots": dict(corpus.roots), "settings": asdict(corpus.settings)}
    if corpus.prepared is not None:
        about["prepared"] = asdict(corpus.prepared)
    if corpus.cells:
        about["cells"] = corpus.cells
    if corpus.part is not None:
        about["part"] = asdict(corpus.part)
    metadata = {METADATA: json.dumps(about).encode()}
    table = corpus.table.replace_schema_metadata(metadata)
    with replacing(path) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=_ROW_GROUP)


def _member(path: str, offset: int | None, length: int, checksum: int) -> str:
    """The name of a member; a plain path, where nothing lies, of what could not be prepared."""
    if offset is None:
        return path
    archive, _, name = path.rpartition("/")
    return Member(archive=archive, name=name, offset=offset, length=length, checksum=checksum).text


def place_of(corpus: str | Path) -> str:
    """The manifest that a corpus is named by: itself, or the one in a folder of shards.

    Args:
        corpus: path of a manifest or of a folder of shards, or the address of either.
    """
    text = address(str(corpus))
    if is_remote(text):
        return text if text.endswith(".parquet") else f"{text.rstrip('/')}/{NAME}"
    return str(Path(text) / NAME) if Path(text).is_dir() else text


def resolved(corpus: str | Path) -> str:
    """A corpus' name that means the same in every folder: an absolute path, or an address."""
    text = address(str(corpus))
    return text if is_remote(text) else str(Path(text).resolve())


def read(corpus: str | Path, *, parts: bool = False) -> Corpus:
    """Read a manifest.

    Args:
        corpus: see :func:`place_of`.
        parts: whether it may be a part of a corpus, which nothing else than merging is made for.

    Raises:
        ValueError: there is none, it is damaged or no manifest, it has another schema, tells what
            is not known here, or is a part where none was wanted.
    """
    path = place_of(corpus)
    try:
        table = _table(path)
    except FileNotFoundError as error:
        raise ValueError(
            f"{path}: no such corpus; make one with 'earsight scan SOURCE -o {path}'"
        ) from error
    except pa.ArrowInvalid as error:
        raise ValueError(no_corpus(path)) from error
    except OSError as error:
        raise ValueError(f"{path}: the corpus cannot be read: {error}") from error
    about = about_of(table, path)
    if about.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} has schema {about.get('schema')}, and this version reads schema {SCHEMA}; "
            "scan its sources again into a new file (keys stay the same)"
        )
    prepared = _or_none(Coding, about.get("prepared"), path)
    table = _checked(table, prepared is not None, path)
    part = _or_none(Part, about.get("part"), path)
    if part is not None and not parts:
        raise ValueError(
            f"{path} is part {part} of a corpus; join all parts by `earsight merge`, and give what "
            "that writes"
        )
    cells = about.get("cells", 0)
    if not isinstance(cells, int):
        raise damaged(path, f"it tells cells as {cells!r}")
    return Corpus(
        table=table,
        roots=_roots(path, roots_of(about.get("roots"), table.column("root"), path)),
        settings=_settings(about.get("settings"), path),
        prepared=prepared,
        cells=cells,
        part=part,
    )


def _or_none(kind: type[Built], values: object, path: str) -> Built | None:
    return None if values is None else built(kind, values, path)


def _settings(values: object, path: str) -> ScanSettings:
    if not isinstance(values, dict) or "limits" not in values:
        raise damaged(path, "it does not tell the settings of its scan")
    return built(ScanSettings, values | {"limits": built(Limits, values["limits"], path)}, path)


def _checked(table: pa.Table, prepared: bool, path: str) -> pa.Table:
    """The table, less its metadata, once it has all columns and each holds what it should."""
    wanted = [*FILE_FIELDS, *INSTANCE_FIELDS, *(MEMBER_FIELDS if prepared else ())]
    missing = {field.name for field in wanted} - set(table.column_names)
    if missing:
        raise ValueError(
            f"{path} lacks the columns {', '.join(sorted(missing))}; scan its sources again"
        )
    labels = [n for n in table.column_names if n == SPLIT or n.startswith(LABEL_PREFIX)]
    wanted += [pa.field(name, pa.string()) for name in labels]
    return typed(table.replace_schema_metadata(None), wanted, path)


def _table(path: str) -> pa.Table:
    # pq.read_table would import pandas, and make columns of folders that are named a=b.
    if not is_remote(path):
        return pq.ParquetFile(path).read()
    system, inside = remote(path)
    try:
        with system.open(inside, "rb") as file:
            return pq.ParquetFile(file).read()
    except ValueError:
        raise
    except Exception as error:
        # A server that is down looks to fsspec like a file that is not there; the cause tells.
        why = told(error.__cause__ or error)
        raise ValueError(f"{path}: cannot be reached, or holds no corpus ({why})") from error


def _roots(path: str, roots: Mapping[str, str]) -> dict[str, str]:
    """The folders of the roots, of which one may be where the manifest lies."""
    if not is_remote(path):
        elsewhere = [root for root in roots.values() if is_remote(root)]
        if elsewhere:
            # What a file says is not enough to reach out for: an address has to be asked for.
            raise ValueError(
                f"{path}: its media lie elsewhere ({elsewhere[0]}); give that address as the corpus"
            )
        here = str(Path(path).resolve().parent)
    else:
        here = path.rpartition("/")[0]
    return {name: here if root == HERE else root for name, root in roots.items()}
