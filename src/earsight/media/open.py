"""Opening files that nobody vouches for."""

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import av
from av.container import InputContainer

from earsight.media.members import open_member, parse_member
from earsight.media.types import Limits, MediaError

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,ogg,wav,w64,aiff,flac,"
    "mp3,aac,ac3,eac3,asf,mxf,caf,amr,au,nut,dv,rm"
)
"""Containers that may be opened: FFmpeg's names, without playlists, devices and pictures."""

_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"[playlist]", b"<MPD", b"<ASX", b"<?wpl", b"RTSPtext")
_BOXES = (b"ftyp", b"mdat", b"free", b"wide", b"moov")
_HEAD = 4096
_DISK = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ETIMEDOUT)
"""Errors of the disk or the network behind it; the others mean damage."""


_DEMUXER = "mp4"
"""The demuxer of files that are opened without probing: FFmpeg then asks no other about them."""


class Unprobed(Exception):  # noqa: N818 - a signal, not an error
    """A file that was opened without probing is no MP4, or its header does not tell enough."""


class Deadline:
    """A wall-clock limit that is asked about now and then."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        """Raise MediaError once the time is over."""
        if time.monotonic() > self._end:
            raise _too_slow(self.seconds)


@contextmanager
def open_media(
    path: str | os.PathLike[str], limits: Limits | None = None, *, probing: bool = True
) -> Iterator[InputContainer]:
    """Open a file for reading, and close it whatever happens.

    Only regular files are opened, only by FFmpeg's ``file`` protocol and only in the containers of
    ``FORMATS``, so a playlist under another name reaches neither other files nor the network.
    A member of an archive is read by Python, and FFmpeg is given its bytes.
    FFmpeg writes nothing to the terminal: PyAV drops its messages unless told otherwise.

    Args:
        path: the file, or a member (:mod:`earsight.media.members`).
        limits: what the file may cost; streams, duration and seconds are checked here, pixels where
            a stream is chosen.
        probing: have FFmpeg find out what kind of file it is, and decode a little of each stream to
            complete what the header says. Where the header is enough (MP4), opening takes a fifth
            of the time without.

    Raises:
        MediaError: says in one sentence why the file cannot be opened, or why reading stopped.
        Unprobed: without probing, the file is no MP4, or a damaged one.
    """
    limits = limits or Limits()
    name = os.fspath(path)
    member = parse_member(name)
    content = None if member is None else open_member(member)
    if content is None:
        _check_regular(name)
    container_options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    if not probing:
        container_options |= {"codec_whitelist": "none", "probesize": "32"}
    try:
        container = av.open(
            # The prefix keeps a colon in a file's name from being read as a protocol.
            f"file:{name}" if content is None else content,
            mode="r",
            options=_probing_options(limits),
            container_options=container_options,
            format=None if probing else _DEMUXER,
            metadata_errors="replace",
            timeout=(limits.seconds, limits.seconds),
        )
    except (av.FFmpegError, OSError) as error:
        if not probing and isinstance(error, av.error.InvalidDataError):
            raise Unprobed from error
        raise _why_not_opened(content or Path(name), error, limits) from error
    try:
        _check_limits(container, limits)
        yield container
    except (av.FFmpegError, OSError) as error:
        raise _why_not_read(error, limits) from error
    finally:
        container.close()


def max_pixels(limits: Limits) -> str:
    """FFmpeg's own limit: twice ours, since codecs round sizes up; the exact one is checked too."""
    return str(min(2 * limits.pixels + 65536, 2**31 - 1))


def _probing_options(limits: Limits) -> dict[str, str] | None:
    """Options of the decoders that FFmpeg probes with.

    Before version 17, PyAV writes out of bounds when given any for a container that finds its
    streams while probing.
    """
    if int(av.__version__.split(".")[0]) < 17:
        return None
    # No one looks at those pictures.
    return {"max_pixels": max_pixels(limits), "skip_loop_filter": "all"}


def _check_regular(name: str) -> None:
    try:
        found = Path(name).stat()
    except OSError as error:
        raise _of_system(error) from error
    except ValueError as error:
        raise MediaError("has a name that no file can have") from error
    if stat.S_ISDIR(found.st_mode):
        raise MediaError("is a folder, not a file")
    if not stat.S_ISREG(found.st_mode):
        raise MediaError("is a pipe, socket or device, which are not opened")
    if found.st_size == 0:
        raise MediaError("is empty: it has no bytes")


def _check_limits(container: InputContainer, limits: Limits) -> None:
    if len(container.streams) > limits.streams:
        raise MediaError(
            f"has {len(container.streams)} streams, more than the limit of {limits.streams}"
        )
    check_duration((container.duration or 0) / av.time_base, limits)


def check_duration(seconds: float, limits: Limits) -> None:
    """Raise MediaError where a file lasts longer than the limit."""
    if seconds > limits.duration:
        raise MediaError(f"lasts {seconds:.0f} s, longer than the limit of {limits.duration:.0f} s")


def _too_slow(seconds: float) -> MediaError:
    return MediaError(f"takes longer to read than the limit of {seconds:g} s", passing=True)


def _of_system(error: OSError) -> MediaError:
    reason = f"cannot be opened: {(error.strerror or 'unknown error').lower()}"
    if isinstance(error, PermissionError):
        reason = "cannot be opened: permission denied"
    if isinstance(error, FileNotFoundError):
        reason = "does not exist; it may have been moved, or a link leads nowhere"
    return MediaError(reason, passing=True)


def _why_not_opened(media: Path | IO[bytes], error: Exception, limits: Limits) -> MediaError:
    if isinstance(error, FileNotFoundError | PermissionError):
        return _of_system(error)
    try:
        return _passing(error, limits) or MediaError(_why_not_media(_head(media)))
    except OSError as unread:
        return _of_system(unread)


def _head(media: Path | IO[bytes]) -> bytes:
    if isinstance(media, Path):
        with media.open("rb") as file:
            return file.read(_HEAD)
    media.seek(0)
    return media.read(_HEAD)


def _why_not_media(head: bytes) -> str:
    """What the first bytes of a file show it to be, where FFmpeg could not open it."""
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_PLAYLISTS):
        return "is a playlist, not a media file, and playlists are not followed"
    if head[4:8] in _BOXES:
        return "is cut short or damaged: its index (moov) cannot be read; copy it again"
    if not any(head):
        return "holds only zeros where media should begin; copy it again"
    return "is not a media file of a kind that can be read (such as MP4, MKV or WAV)"


def _why_not_read(error: Exception, limits: Limits) -> MediaError:
    return _passing(error, limits) or MediaError(
        "is damaged or cut short: its data cannot be decoded"
    )


def _passing(error: Exception, limits: Limits) -> MediaError | None:
    """What says nothing of the file: time, memory and the disk."""
    if isinstance(error, av.error.ExitError):
        return _too_slow(limits.seconds)
    if isinstance(error, MemoryError):
        return MediaError("needs more memory to be decoded than there is", passing=True)
    if getattr(error, "errno", None) in _DISK:
        reason = (getattr(error, "strerror", "") or "disk error").lower()
        return MediaError(f"cannot be read: {reason}", passing=True)
    return None
