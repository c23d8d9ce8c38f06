"""Files that are replaced as a whole or not at all."""

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from earsight.corpus.keys import key_of, key_text
from earsight.errors import FullDiskError

_BESIDE = re.compile(r"\.[0-9a-f]{16}-[0-9a-f]{8}\.tmp")
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write beside ``path``, which it replaces, synced, once it is whole.

    Raises:
        FullDiskError: the disk is full; what was at ``path`` is untouched.
        OSError: the folder is closed; likewise.
    """
    # Not the name itself, which may be as long as names can be; jobs on different machines that
    # write the same file may have one process number.
    beside = path.with_name(f".{key_text(key_of(path.name))}-{secrets.token_hex(4)}.tmp")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise FullDiskError(
            f"{path}: could not be written ({(error.strerror or 'the disk is full').lower()}); "
            "what was whole before is kept, and nothing half-written: make room on the disk and "
            "give the same command again"
        ) from error
    finally:
        beside.unlink(missing_ok=True)
    sync(path.parent)


def is_beside(name: str) -> bool:
    """Whether a file's name is one that :func:`replacing` writes to."""
    return _BESIDE.fullmatch(name) is not None


def sync(path: Path) -> None:
    """Wait until a file or a folder's names are on the disk."""
    if os.name != "posix":  # elsewhere folders cannot be opened, and renames are durable
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
