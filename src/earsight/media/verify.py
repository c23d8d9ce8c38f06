"""Decoding a file in full, to find damage before training does."""

from __future__ import annotations

import os
from typing import Any

import av
from av.packet import Packet
from av.video.frame import VideoFrame

from earsight.media.open import Deadline, open_media
from earsight.media.packets import packets_of
from earsight.media.probe import check_complete
from earsight.media.streams import check_pixels, check_rate, choose
from earsight.media.types import Limits, MediaError


def verify(path: str | os.PathLike[str], limits: Limits | None = None) -> None:
    """Decode all of the chosen streams, and refuse the file where FFmpeg finds damage.

    Args:
        path: the file.
        limits: what the file may cost; ``seconds`` is the time for the whole file.

    Raises:
        MediaError: says where the first damage is.
    """
    limits = limits or Limits()
    deadline = Deadline(limits.seconds)
    with open_media(path, limits) as container:
        chosen = choose(container, limits)
        check_rate(chosen)
        streams = [stream for stream in (chosen.video, chosen.audio) if stream is not None]
        if not streams:
            raise MediaError("holds neither pictures nor sound")
        for stream in streams:
            check_complete(stream, container.size)
            # Decoders then raise the errors that they would otherwise conceal.
            stream.codec_context.options = stream.codec_context.options | {"err_detect": "explode"}
        frames = dict.fromkeys((stream.index for stream in streams), 0)
        for packet in packets_of(container, streams, deadline):
            frames[packet.stream_index] += _decode(packet.stream, packet, chosen.zero, limits)
        for stream in streams:
            frames[stream.index] += _decode(stream, None, chosen.zero, limits)
            if not frames[stream.index]:
                raise MediaError(f"has a stream of {stream.type} of which nothing can be decoded")


def _decode(stream: Any, packet: Packet[Any] | None, zero: float, limits: Limits) -> int:
    """Decode a packet, or what the decoder still holds; the number of good frames."""
    try:
        frames = stream.codec_context.decode(packet)
    except av.FFmpegError as error:
        raise MediaError(_damaged(stream, packet, zero)) from error
    for frame in frames:
        if frame.is_corrupt:
            raise MediaError(_damaged(stream, packet, zero))
        if isinstance(frame, VideoFrame):
            check_pixels(frame.width, frame.height, limits)
    return len(frames)


def _damaged(stream: Any, packet: Packet[Any] | None, zero: float) -> str:
    time = None if packet is None else packet.pts if packet.pts is not None else packet.dts
    where = "its end" if time is None else f"{max(time * stream.time_base - zero, 0):.1f} s"
    return f"is damaged: its {stream.type} cannot be decoded at {where}"
