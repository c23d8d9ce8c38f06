"""Files that lie within an archive: named by archive and place, read without unpacking.

A member is named by one text, ``ARCHIVE.tar/NAME#OFFSET+LENGTH+CHECKSUM``, that goes wherever the
path of a file goes. The archive is a local file, or a place that fsspec can read (``s3://…``).
"""

from __future__ import annotations

import io
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from earsight.media.nearby import NearbyError, nearby
from earsight.media.types import MediaError

_MEMBER = re.compile(r"(.*\.tar)/([^/]+)#(\d+)\+(\d+)\+([0-9a-f]{8})", re.DOTALL)
_REMOTE = re.compile(r"([a-z][a-z0-9+.\-]+):/+(?=[^/])")
_REMEMBERED = 2**18

_sound: set[int] = set()
"""Members whose checksum this process has found right."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file within an archive.

    Attributes:
        archive: path or address of the archive.
        name: of the file.
        offset: where its bytes begin in the archive.
        length: how many they are.
        checksum: their CRC-32.
    """

    archive: str
    name: str
    offset: int
    length: int
    checksum: int

    @property
    def text(self) -> str:
        """The text that names it, as :func:`parse_member` reads it."""
        place = f"{self.offset}+{self.length}+{self.checksum:08x}"
        return f"{self.archive}/{self.name}#{place}"


def parse_member(path: str) -> Member | None:
    """The member that a path names; None where it is a plain one."""
    if "#" not in path:
        return None
    found = _MEMBER.fullmatch(path)
    if found is None:
        return None
    archive, name, offset, length, checksum = found.groups()
    return Member(
        archive=archive,
        name=name,
        offset=int(offset),
        length=int(length),
        checksum=int(checksum, 16),
    )


def file_behind(path: str) -> str:
    """The file that must be there for ``path`` to be read: itself, or the archive it lies in."""
    member = parse_member(path)
    return path if member is None else member.archive


def suffix_of(path: str) -> str:
    """The ending that tells the kind of file, in small letters, such as ``.mp4``."""
    member = parse_member(path)
    return PurePosixPath(path if member is None else member.name).suffix.lower()


def address(path: str) -> str:
    """A path, or an address such as ``s3://…`` whose slashes a path has run together."""
    return _REMOTE.sub(r"\1://", path, count=1) if is_remote(path) else path


def is_remote(path: str) -> bool:
    """Whether a path is an address for fsspec."""
    return _REMOTE.match(path) is not None


def remote(path: str) -> tuple[Any, str]:
    """The file system of an address, and the path within it.

    Raises:
        ValueError: fsspec, or what it needs for this kind of address, is not installed.
    """
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ValueError(
            f"{path}: reading it needs fsspec; install earsight with its extra: "
            "pip install 'earsight[remote]'"
        ) from error
    try:
        system, inside = url_to_fs(address(path))
    except (ImportError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "unknown protocol"
        raise ValueError(f"{path}: cannot be reached ({reason})") from error
    return system, str(inside)


def told(error: BaseException) -> str:
    """The first line of what an error says, or its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def open_member(member: Member) -> BinaryIO:
    """The bytes of a member, checked the first time that a process reads them from this machine.

    Raises:
        MediaError: the archive is gone, cut short, cannot be reached, or does not hold what was
            written into it.
        NearbyError: the archive lies elsewhere, and its copy has no room here.
    """
    content = _read(member)
    if len(content) > member.length:
        raise MediaError("cannot be read: its server sends more than the part that was asked for")
    if len(content) < member.length:
        raise MediaError("is cut short: its archive ends before it does; copy the archive again")
    # From elsewhere, the bytes come anew each time, and may be broken on any of the ways.
    fleeting = is_remote(member.archive)
    mark = hash((member.archive, member.offset, member.length, member.checksum))
    if fleeting or mark not in _sound:
        if zlib.crc32(content) != member.checksum:
            raise MediaError(
                "is damaged: its bytes do not have the checksum they were written with"
            )
        if len(_sound) >= _REMEMBERED:
            _sound.clear()
        _sound.add(mark)
    return io.BytesIO(content)


def _read(member: Member) -> bytes:
    try:
        if not is_remote(member.archive):
            return _here(member, member.archive)
        if copy := nearby(member.archive, remote):
            return _here(member, copy)
        system, path = remote(member.archive)
        content: bytes = system.cat_file(
            path, start=member.offset, end=member.offset + member.length
        )
        return content
    except FileNotFoundError as error:
        raise MediaError("is gone: its archive does not exist", passing=True) from error
    except OSError as error:
        why = (error.strerror or str(error) or "unknown error").lower()
        raise MediaError(f"cannot be read from its archive: {why}", passing=True) from error
    except (ValueError, NearbyError):
        raise
    except Exception as error:
        # Clients of servers have errors of their own, such as aiohttp's.
        why = f"cannot be read from its archive: {told(error)}"
        raise MediaError(why, passing=True) from error


def _here(member: Member, archive: str) -> bytes:
    """A member's bytes from an archive on this machine."""
    with open(archive, "rb", buffering=0) as file:  # noqa: PTH123 - hot path
        file.seek(member.offset)
        # No more than there is: what a name promises is not to be trusted with memory.
        left = os.fstat(file.fileno()).st_size - member.offset
        return _all(file, max(0, min(member.length, left)))


def _all(file: io.FileIO, length: int) -> bytes:
    """``length`` bytes, or those there are: the system may give fewer at a time."""
    content = file.read(length)
    while len(content) < length:
        more = file.read(length - len(content))
        if not more:
            break
        content += more
    return content
