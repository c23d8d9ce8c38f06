"""Labels from a CSV or TSV file, matched to the files of a corpus."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from earsight.corpus.discover import EXTENSIONS
from earsight.corpus.keys import normal_path, parse_keys
from earsight.corpus.manifest import SPLIT

PATH_NAMES = ("path", "file", "filename")
KEY_NAME = "key"

_REMEDY = (
    "the first line must name the columns, such as 'path,label': first the path as in the corpus, "
    "then one column per label, and 'split' if there are splits"
)


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A file of labels, as read.

    Attributes:
        source: the file.
        by_key: names are keys of instances, else paths of files.
        names: one per line: paths as in the corpus, with or without extension, or keys.
        columns: label name to one text per line, None where the cell is empty; ``split`` is among
            them where the file has such a column.
    """

    source: str
    by_key: bool
    names: list[str]
    columns: dict[str, NDArray[np.object_]]


@dataclass(frozen=True, kw_only=True)
class Match:
    """Which line of the labels an instance takes.

    Attributes:
        line: ``(R,)`` index into the labels' lines; -1 where none matches.
        unmatched: names of lines that match nothing.
    """

    line: NDArray[np.int64]
    unmatched: list[str]


def read_labels(path: Path) -> Labels:
    """Read labels.

    The column of files is the one named ``path``, ``file`` or ``filename``, or ``key``, or else
    the first; all others are labels. A cell may hold several labels, joined by ``;``.

    Raises:
        ValueError: the file cannot be read, has no header or no labels, names a file twice, or has
            two columns of splits.
    """
    header, rows, lines = _read_rows(path)
    _check_header(header, path)
    lower = [name.lower() for name in header]
    named = [lower.index(name) for name in (*PATH_NAMES, KEY_NAME) if name in lower]
    at = named[0] if named else 0
    by_key = lower[at] == KEY_NAME
    names = [row[at].lower() if by_key else path_of(row[at]) for row in rows]
    _check_names(names, lines, path)
    columns = {}
    for number, name in enumerate(header):
        if number != at:
            texts = np.array([row[number] or None for row in rows], dtype=object)
            columns[SPLIT if name.lower() == SPLIT else name] = texts
    return Labels(source=str(path), by_key=by_key, names=names, columns=columns)


def _read_rows(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows, and the line on which each row ends; cells without the space around them."""
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            tabs = path.suffix.lower() in {".tsv", ".tab"} or ("\t" in first and "," not in first)
            file.seek(0)
            reader = csv.reader(file, delimiter="\t" if tabs else ",", strict=True)
            for row in reader:
                if row:
                    rows.append([cell.strip() for cell in row])
                    lines.append(reader.line_num)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {(error.strerror or '').lower()}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no UTF-8 text; save the labels as CSV in UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"{path}: line {len(lines) + 1}: {error}; save it as CSV again") from error
    if not rows:
        raise ValueError(f"{path}: is empty; {_REMEDY}")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"{path}: line {line} has {len(row)} cells and the header {len(rows[0])}; "
                "put cells that hold commas in double quotes"
            )
    return rows[0], rows[1:], lines[1:]


def _check_header(header: Sequence[str], path: Path) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: two columns are named {twice[0]!r}; give each its own name")
    splits = [name for name in header if name.lower() == SPLIT]
    if len(splits) > 1:
        both = " and ".join(map(repr, splits[:2]))
        raise ValueError(f"{path}: the columns {both} would both be the split; rename one")
    if "" in header:
        raise ValueError(f"{path}: column {header.index('') + 1} has no name; {_REMEDY}")
    looks = [name for name in header if PurePosixPath(name).suffix.lower()[1:] in EXTENSIONS]
    if looks:
        raise ValueError(f"{path}: the header holds the file {looks[0]!r}; {_REMEDY}")
    if len(header) < 2:
        raise ValueError(f"{path}: the header {header[0]!r} names no label; {_REMEDY}")


def _check_names(names: Sequence[str], lines: Sequence[int], path: Path) -> None:
    seen: dict[str, int] = {}
    for name, line in zip(names, lines, strict=True):
        if name in {"", "."}:
            raise ValueError(f"{path}: line {line} names no file")
        if name in seen:
            raise ValueError(
                f"{path}: lines {seen[name]} and {line} both name {name!r}; keep one, with "
                "several labels in one cell joined by ';'"
            )
        seen[name] = line


def path_of(path: str) -> str:
    """A path as labels and files are compared by: normal, with ``/`` for each backslash."""
    return normal_path(path.replace("\\", "/"))


def match_files(labels: Labels, paths: Sequence[str], *, some: bool = True) -> Match:
    """Match labels that name paths to files: by the whole path, else by the path less extension.

    Args:
        labels: with ``by_key`` false.
        paths: ``(F,)`` of the files, as in the corpus.
        some: whether there must be some that match.

    Raises:
        ValueError: nothing matches at all, and some must.
    """
    assert not labels.by_key
    where = {name: number for number, name in enumerate(labels.names)}
    full = [path_of(path) for path in paths]
    line = [where.get(path, where.get(_stem(path), -1)) for path in full]
    match = _matched(labels, line)
    if some and paths and len(match.unmatched) == len(labels.names):
        raise ValueError(
            f"{labels.source}: no label matches a file; labels name {labels.names[0]!r}, the "
            f"corpus {full[0]!r}; give paths relative to the scanned folder"
            if labels.names
            else f"{labels.source}: holds a header but no labels"
        )
    return match


def match_keys(labels: Labels, keys: NDArray[np.uint64]) -> Match:
    """Match labels that name keys to instances.

    Raises:
        ValueError: a name is no key, or nothing matches at all.
    """
    assert labels.by_key
    where = {key: number for number, key in enumerate(parse_keys(labels.names))}
    match = _matched(labels, [where.get(int(key), -1) for key in keys])
    if len(keys) and len(match.unmatched) == len(labels.names):
        raise ValueError(f"{labels.source}: no key matches an instance; was the scan cut alike?")
    return match


def _matched(labels: Labels, line: list[int]) -> Match:
    lines = np.asarray(line, np.int64)
    used = np.zeros(len(labels.names), bool)
    used[lines[lines >= 0]] = True
    unmatched = [labels.names[number] for number in np.flatnonzero(~used)]
    return Match(line=lines, unmatched=unmatched)


def _stem(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    stem = name.rpartition(".")[0]
    return folder + slash + (stem or name)


def labelled_columns(labels: Labels, line: NDArray[np.int64]) -> dict[str, pa.Array]:
    """One text per instance and column, null where it has none."""
    take = pa.array(line, mask=line < 0)
    return {
        name: pa.array(texts, type=pa.string()).take(take) for name, texts in labels.columns.items()
    }
