"""Files as a whole: replaced so that nothing leaves a part of one, and told by their content."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is either the old one or the new one, never a part.

    What UTF-8 cannot hold (the bytes of an ill-encoded file name) becomes ``?``.

    Raises:
        OSError: it cannot be written; nothing is left beside it.
    """
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file beside ``path``, which it replaces once it is finished and on the disk.

    Raises:
        OSError: it does not get there; what was at ``path`` is untouched, and nothing is left.
    """
    temporary = path.with_name(f".{path.name[:32]}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def content_digest(path: Path) -> str:
    """SHA-256 of what a file holds, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
