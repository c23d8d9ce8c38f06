"""Files as a whole: replaced so that nothing leaves a part of one, and told by their content."""

import hashlib
import os
import secrets
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is either the old one or the new one, never a part.

    What UTF-8 cannot hold (the bytes of an ill-encoded file name) becomes ``?``.

    Raises:
        OSError: it cannot be written; nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name[:32]}.{secrets.token_hex(4)}.part")
    try:
        temporary.write_text(text, encoding="utf-8", errors="replace")
        put_in_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a finished file to ``path``, which it replaces, once it is on the disk.

    Raises:
        OSError: it does not get there; what was at ``path`` is untouched.
    """
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def content_digest(path: Path) -> str:
    """SHA-256 of what a file holds, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
