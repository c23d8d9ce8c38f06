"""How long a file is by its own header, and whether it ends before that."""

import os
from pathlib import Path

import av
from av.container import InputContainer

from earsight.media.members import parse_member
from earsight.media.streams import seconds_per_tick
from earsight.media.types import CUT_SHORT

_TOLD = ("matroska", "flv")
"""Containers whose header tells a duration, and that FFmpeg reads though they end before it."""

_SHORT, _SHORT_SHARE = 1.0, 0.1
"""Seconds, and share of what the header tells, that may be missing from a whole file."""

_CHUNKS = 1024
"""Of a RIFF file are looked at: each holds up to a gigabyte, if it is honest."""


def cut_short(told: float, reached: float) -> list[str]:
    """A note where a file ends long before its header says.

    Args:
        told: seconds by the header; 0 where it says nothing.
        reached: seconds on the file's clock at which the last packet of any stream ends.
    """
    if told - reached <= max(_SHORT, _SHORT_SHARE * told):
        return []
    return [f"{CUT_SHORT}its header says {told:.1f} s, it holds {reached:.1f} s"]


def seconds_told(container: InputContainer, path: str | os.PathLike[str]) -> float:
    """Seconds at which a file ends by its header; 0 where that says nothing to be trusted.

    Args:
        container: the open file; only Matroska (WebM), FLV and AVI are asked.
        path: the file.
    """
    kind = container.format.name.partition(",")[0]
    if kind == "avi":
        return 0.0 if _is_whole_riff(os.fspath(path), container.size) else _by_frames(container)
    # Streams of these have durations only where FFmpeg estimates all of them by the rate of bits.
    told = kind in _TOLD and all(stream.duration is None for stream in container.streams)
    return (container.duration or 0) / av.time_base if told else 0.0


def _by_frames(container: InputContainer) -> float:
    """Seconds of pictures by the header's count: AVI's duration FFmpeg makes up of its size."""
    streams = container.streams.video
    return max((stream.frames * seconds_per_tick(stream) for stream in streams), default=0.0)


def _is_whole_riff(name: str, size: int) -> bool:
    """Whether a file has the bytes that its RIFF headers tell, one after the other.

    Frames alone do not show it: an AVI may end in frames that repeat the last and have no bytes.
    """
    if parse_member(name) is not None:
        return True
    at = 0
    with Path(name).open("rb") as file:
        for _ in range(_CHUNKS):
            file.seek(at)
            head = file.read(8)
            if not head.startswith(b"RIFF") or len(head) < 8:
                break
            at += 8 + int.from_bytes(head[4:], "little")
            at += at % 2
    # The last chunk may lack the byte that makes it even.
    return at <= size + 1
