"""Copies of archives that lie elsewhere, on this machine's disk: each is fetched once.

All processes of a machine share them. An archive is copied whole, beside its place, and renamed;
who comes while another copies it waits. fsspec's own caches write in place: a second process would
read what the first has not finished, and one that is killed leaves half a file that passes for all.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from earsight.errors import RunError

FOLDER = "EARSIGHT_SHARD_CACHE"
"""The environment variable that names the folder; it may differ on every machine."""


_PIECE = 2**22


class NearbyError(RunError):
    """An archive that cannot be kept on this machine; the message says what to do."""


def nearby(archive: str, reach: Callable[[str], tuple[Any, str]]) -> str:
    """The path of a copy of an archive, made where there is none; without a folder for it, nothing.

    Args:
        archive: its address; copies go by it, so an archive that changes needs another one.
        reach: gives an address' file system (fsspec's) and the path within it.

    Returns:
        The path, or an empty text where the environment names no folder.

    Raises:
        NearbyError: the folder cannot be written to, or has no room.
        OSError: the archive cannot be read.
    """
    folder = os.environ.get(FOLDER, "")
    if not folder:
        return ""
    name = hashlib.blake2b(archive.encode(), digest_size=12).hexdigest()
    copy = Path(folder) / f"{name}.tar"
    if copy.exists():
        return str(copy)
    system, inside = reach(archive)
    with system.open(inside, "rb") as source, _kept(folder, archive):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with copy.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not copy.exists():
                _fetch(source, copy)
    return str(copy)


class _SourceError(Exception):
    """The archive could not be read where it lies."""

    def __init__(self, error: OSError) -> None:
        self.error = error
        super().__init__(str(error))


def _fetch(source: Any, copy: Path) -> None:
    temporary = copy.with_suffix(".part")
    try:
        # Without a buffer: a disk that is full says so where it is written to.
        with temporary.open("wb", buffering=0) as target:
            while piece := _next(source):
                target.write(piece)
            os.fsync(target.fileno())
        temporary.replace(copy)
    finally:
        temporary.unlink(missing_ok=True)


def _next(source: Any) -> bytes:
    try:
        piece: bytes = source.read(_PIECE)
    except OSError as error:
        raise _SourceError(error) from error
    return piece


@contextmanager
def _kept(folder: str, archive: str) -> Iterator[None]:
    """Explain what keeps a copy from being written, and leave errors of its source alone."""
    try:
        yield
    except _SourceError as failed:
        raise failed.error from None
    except OSError as error:
        free = shutil.disk_usage(folder).free if Path(folder).is_dir() else 0
        reason = (error.strerror or str(error) or "unknown error").lower()
        raise NearbyError(
            f"{folder}: no copy of {archive} can be kept there ({reason}; {free / 1e6:.1f} MB are "
            f"free); make room or name another folder in {FOLDER}, or unset it to read clips where "
            "they are, and go on with --resume"
        ) from error
