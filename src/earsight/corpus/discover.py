"""Which media files lie under the sources of a scan, and by which relative paths they go."""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from earsight.corpus.keys import normal_path

_VIDEO = (
    "3g2 3gp asf avi divx f4v flv m2ts m2v m4v mkv mov mp4 mpeg mpeg4 mpg mts mxf ogm ogv ts vob "
    "webm wmv"
)
_AUDIO = "aac aif aiff amr au caf flac m4a m4b mka mp2 mp3 oga ogg opus wav wma"

VIDEO_EXTENSIONS = frozenset(_VIDEO.split())
"""Extensions of files that hold pictures, in lower case."""

EXTENSIONS = VIDEO_EXTENSIONS | frozenset(_AUDIO.split())
"""Extensions of media files, in lower case."""

_NAME = re.compile(r"[\w-][\w.-]*")
_UNNAMED = "#"


class Found(NamedTuple):
    """A file: its path in the corpus (posix, with its root's prefix), root, size, and time."""

    path: str
    root: str
    size: int
    mtime_ns: int


class Skipped(NamedTuple):
    """A file or folder that was left out, and why."""

    path: str
    reason: str


class Source(NamedTuple):
    """A SOURCE taken apart: its name (empty where none was given) and its absolute path."""

    name: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """What lies under the sources.

    Attributes:
        files: sorted by path.
        roots: absolute folder of each root that the files name.
        skipped: what could not be looked at, sorted.
        other: files that are no media by their extension, by that extension (``.txt``, in lower
            case; empty for none).
    """

    files: list[Found]
    roots: dict[str, str]
    skipped: list[Skipped] = field(default_factory=list)
    other: Mapping[str, int] = field(default_factory=dict)


def prefix_of(root: str) -> str:
    """What a root puts before the paths of its files: ``name/``, or nothing where unnamed."""
    return "" if root.startswith(_UNNAMED) else f"{root}/"


def absolute_path(path: str, root: str, folder: str) -> str:
    """Where a file of the corpus lies, given its root's folder."""
    return os.path.join(folder, path.removeprefix(prefix_of(root)))  # noqa: PTH118 - hot path


def parse_source(text: str) -> Source:
    """``DIR``, ``FILE``, ``name=DIR`` or ``name=FILE``.

    Raises:
        ValueError: there is no such file or folder, or the name has characters other than
            letters, digits, ``.``, ``_`` and ``-``.
    """
    name, equals, rest = text.partition("=")
    if equals and _why_missing(text):
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot name a source; use letters, digits, '.', '_' and '-', "
                "as in train=DIR"
            )
    else:
        name, rest = "", text
    path = Path(rest).expanduser()
    if why := _why_missing(path):
        raise ValueError(f"{_shown(rest)}: {why}; give a folder with videos, or a file")
    return Source(name, os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def discover(sources: Sequence[str]) -> Discovery:
    """Find media files, of which there must be some; see :func:`find_media`.

    Raises:
        ValueError: as there, or no media file was found.
    """
    discovery = find_media(sources)
    if not discovery.files:
        raise ValueError(_nothing([parse_source(text) for text in sources], discovery))
    return discovery


def find_media(sources: Sequence[str]) -> Discovery:
    """Find media files by extension, recursively; perhaps none.

    Links are followed, but no folder is entered twice; hidden files and folders are passed over,
    and files of other extensions are counted.
    A source that is a file is taken whatever its extension.

    Args:
        sources: each ``DIR``, ``FILE`` or ``name=DIR``.

    Raises:
        ValueError: a source does not exist, or two files have the same path relative to the roots
            of their sources.
    """
    # Each once, or what it passes over would be counted twice.
    parsed = dict.fromkeys(parse_source(text) for text in sources)
    roots: dict[str, str] = {}
    found: dict[str, tuple[Found, str]] = {}
    skipped: list[Skipped] = []
    other: Counter[str] = Counter()
    for source in parsed:
        is_file = Path(source.path).is_file()
        folder = str(Path(source.path).parent) if is_file else source.path
        root = _root(source.name, folder, roots)
        entries = _one_file(source.path, skipped) if is_file else _walk(folder, skipped, other)
        for relative, size, mtime_ns in entries:
            path = prefix_of(root) + relative
            _add(found, Found(path, root, size, mtime_ns), absolute_path(path, root, folder))
    files = [found[path][0] for path in sorted(found)]
    used = {file.root for file in files}
    return Discovery(
        files=files,
        roots={root: folder for root, folder in roots.items() if root in used},
        skipped=sorted(skipped),
        other=dict(sorted(other.items(), key=lambda kind: (-kind[1], kind[0]))),
    )


def _root(name: str, folder: str, roots: dict[str, str]) -> str:
    """The root for a source, entered into ``roots``; unnamed ones are numbered."""
    if not name:
        for known, place in roots.items():
            if known.startswith(_UNNAMED) and place == folder:
                return known
        name = f"{_UNNAMED}{sum(known.startswith(_UNNAMED) for known in roots) + 1}"
    if roots.get(name, folder) != folder:
        raise ValueError(
            f"two sources are named {name!r}: {roots[name]} and {folder}; give each its own name"
        )
    roots[name] = folder
    return name


def _add(found: dict[str, tuple[Found, str]], file: Found, absolute: str) -> None:
    key = normal_path(file.path)
    known = found.get(key)
    if known is not None and known[1] != absolute:
        raise ValueError(
            f"{known[1]} and {absolute} would both be {file.path!r} in the corpus; "
            "name the sources (a=DIR b=DIR), or rename one of the files"
        )
    found[key] = (file, absolute)


def _one_file(path: str, skipped: list[Skipped]) -> Iterator[tuple[str, int, int]]:
    name = Path(path).name
    if _is_unicode(name, path, skipped):
        info = Path(path).stat()
        yield name, info.st_size, info.st_mtime_ns


def _walk(top: str, skipped: list[Skipped], other: Counter[str]) -> Iterator[tuple[str, int, int]]:
    """Files below ``top`` as relative path, size and time of change.

    Linked folders come after all others, so that a link never takes a file's own path from it.
    """
    entered: set[tuple[int, int]] = set()
    todo, links = [""], list[str]()
    while todo or links:
        is_link = not todo
        relative = links.pop(0) if is_link else todo.pop()
        folder = os.path.join(top, relative)  # noqa: PTH118 - hot path
        try:
            info = Path(folder).stat()
            if (info.st_dev, info.st_ino) in entered:
                skipped.append(Skipped(folder, "leads to a folder that is scanned already"))
                continue
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            skipped.append(Skipped(_shown(folder), _why(error)))
            continue
        entered.add((info.st_dev, info.st_ino))
        folders: list[str] = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            below = f"{relative}/{entry.name}" if relative else entry.name
            is_folder = _is_folder(entry, skipped)
            if is_folder:
                (links if entry.is_symlink() else folders).append(below)
            elif is_folder is not None:
                yield from _entry(entry, below, skipped, other)
        todo.extend(reversed(folders))


def _is_folder(entry: os.DirEntry[str], skipped: list[Skipped]) -> bool | None:
    """Whether an entry leads to a folder; None where it leads nowhere (a link in a circle)."""
    try:
        return entry.is_dir()
    except OSError as error:
        skipped.append(Skipped(_shown(entry.path), _why(error)))
        return None


def _entry(
    entry: os.DirEntry[str], relative: str, skipped: list[Skipped], other: Counter[str]
) -> Iterator[tuple[str, int, int]]:
    stem, dot, end = entry.name.rpartition(".")
    if end.lower() not in EXTENSIONS:
        other[_shown(dot + end).lower() if stem else ""] += 1
        return
    if not _is_unicode(relative, entry.path, skipped):
        return
    try:
        info = entry.stat()
    except OSError as error:
        skipped.append(Skipped(entry.path, _why(error)))
        return
    if stat.S_ISREG(info.st_mode):
        yield relative, info.st_size, info.st_mtime_ns
    else:
        skipped.append(Skipped(entry.path, "is no regular file"))


def _is_unicode(name: str, path: str, skipped: list[Skipped]) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        skipped.append(Skipped(_shown(path), "has a name that is no valid Unicode; rename it"))
        return False
    return True


def _shown(path: str) -> str:
    """A path that can be printed and stored, whatever bytes it has."""
    return path.encode(errors="backslashreplace").decode()


def _why_missing(path: str | Path) -> str:
    """Why there is nothing at a path; empty where there is."""
    try:
        Path(path).stat()
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def _why(error: OSError) -> str:
    return f"cannot be read: {(error.strerror or str(error)).lower()}"


def _nothing(sources: Sequence[Source], discovery: Discovery) -> str:
    places = ", ".join(_shown(source.path) for source in sources)
    skipped, others = discovery.skipped, sum(discovery.other.values())
    also = f" ({len(skipped)} left out: {skipped[0].path} {skipped[0].reason})" if skipped else ""
    also += f" ({others} files of other kinds)" if others else ""
    return (
        f"no media files found in {places}{also}; give a folder that holds videos or sounds, "
        "such as .mp4, .mkv, .webm or .wav"
    )
