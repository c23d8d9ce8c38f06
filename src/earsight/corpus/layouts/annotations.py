"""Reading official lists: where they lie, and their lines, with faults told by file and line."""

import csv
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_VIDEO_ID = re.compile(r"[\w-]+", re.ASCII)


class Line(NamedTuple):
    """A line of a list, taken apart."""

    path: Path
    number: int
    cells: list[str]

    def fault(self, why: str) -> ValueError:
        """The error to raise where the line cannot be used."""
        return ValueError(f"{self.path}: line {self.number}: {why}")


def folders(root: Path) -> list[Path]:
    """Where lists are looked for: a root and the folders directly in it.

    Hidden ones are left out, and those that may not be read, such as a disk's ``lost+found``.
    """
    below = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return [root, *sorted(path for path in below if os.access(path, os.R_OK | os.X_OK))]


def find(root: Path, *names: str) -> Path:
    """The list with one of the names, in the root or in a folder directly below it.

    Raises:
        ValueError: there is none, or there are several.
    """
    path = find_optional(root, *names)
    if path is None:
        raise ValueError(
            f"{root}: has no {' or '.join(names)}, nor has a folder directly in it; put the "
            f"official list at {root / names[0]}"
        )
    return path


def find_optional(root: Path, *names: str) -> Path | None:
    """As :func:`find`, but None where there is no such list."""
    found = [folder / name for folder in folders(root) for name in names]
    found = [path for path in found if path.is_file()]
    here = [path for path in found if path.parent == root]
    found = here or found
    if len(found) > 1:
        raise ValueError(f"{found[0]} and {found[1]} are both there; keep one of the two lists")
    return found[0] if found else None


def text_lines(path: Path, *, comments: bool = True) -> Iterator[Line]:
    """The lines that hold something, each as one cell without the space around it.

    Args:
        path: a UTF-8 text.
        comments: lines that begin with ``#`` are comments, and left out.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                text = line.strip()
                if text and not (comments and text.startswith("#")):
                    yield Line(path, number, [text])
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {(error.strerror or '').lower()}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no UTF-8 text; download the list again") from error


def csv_lines(path: Path, cells: int | None = None) -> Iterator[Line]:
    """The lines of a CSV file, without comments; space around cells is taken off.

    Each line is read by itself, so that a quote left open spoils no other.

    Raises:
        ValueError: the file cannot be read, a line is no CSV, or has not so many ``cells``.
    """
    for line in text_lines(path):
        try:
            row = next(csv.reader(line.cells, skipinitialspace=True, strict=True))
        except csv.Error as error:
            raise line.fault(f"{error}; download the list again") from error
        if cells is not None and len(row) != cells:
            raise line.fault(f"has {len(row)} cells, not {cells}; download the list again")
        yield Line(path, line.number, [cell.strip() for cell in row])


def table_lines(path: Path, names: Sequence[str]) -> Iterator[tuple[Line, dict[str, str]]]:
    """The lines of a CSV file below its header, each also as cells by name of the column.

    Raises:
        ValueError: as :func:`csv_lines`, or the header lacks one of ``names``.
    """
    header: list[str] | None = None
    for line in csv_lines(path):
        if header is None:
            header = [name.lower() for name in line.cells]
            if missing := [name for name in names if name not in header]:
                raise line.fault(
                    f"the header has no {missing[0]!r}; it must name {', '.join(names)}"
                )
        elif len(line.cells) != len(header):
            raise line.fault(f"has {len(line.cells)} cells and the header {len(header)}")
        else:
            yield line, dict(zip(header, line.cells, strict=True))
    if header is None:
        raise ValueError(f"{path}: is empty; download the list again")


def list_once(seen: dict[str, str], line: Line, name: str, split: str) -> None:
    """Enter a name and its split into ``seen``.

    Raises:
        ValueError: it was there already.
    """
    if name in seen:
        raise line.fault(
            f"{name} is listed a second time, here for {split} and before for {seen[name]}; "
            "keep one of the two lines"
        )
    seen[name] = split


def seconds(line: Line, text: str) -> float:
    """A time.

    Raises:
        ValueError: it is no number, or below 0.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise line.fault(f"{text!r} is no time in seconds")
    return value


def video_id(line: Line, text: str) -> str:
    """The name of a YouTube video.

    Raises:
        ValueError: it has other characters than such names have.
    """
    if not _VIDEO_ID.fullmatch(text):
        raise line.fault(f"{text!r} is no YouTube id")
    return text
