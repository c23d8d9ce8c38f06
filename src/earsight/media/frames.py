"""Packets to pictures: each target gets the frame that is shown at its time."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from earsight.media.open import Deadline, Unprobed
from earsight.media.packets import Window
from earsight.media.picture import Converter
from earsight.media.types import MediaError, VideoRequest

_NONREF_EXACT = frozenset({"h264", "hevc"})
"""Decoders known to leave out pictures that none refers to without a change to the others."""


_TOLERANCE = 1e-3
"""Largest tolerance, in seconds, when a frame's time is compared with a wanted time."""


class Target(NamedTuple):
    """A picture wanted: the last frame up to ``tick``, for ``slot`` of ``converter``."""

    tick: int
    converter: Converter
    slot: int


def tick_shown(wanted: VideoRequest, slot: int, per_tick: float, zero: float) -> int:
    """The last tick at which the frame for ``slot`` of a request may begin.

    Args:
        wanted: the request.
        slot: which of its frames.
        per_tick: seconds per tick of the stream's clock.
        zero: the file's zero on that clock, in seconds.
    """
    time = wanted.start + slot / wanted.fps + zero + min(per_tick / 2, _TOLERANCE)
    return math.floor(time / per_tick)


def decode_video(
    stream: VideoStream,
    packets: Sequence[Packet[Any]],
    targets: Sequence[Target],
    deadline: Deadline,
    *,
    probed: bool = True,
) -> None:
    """Decode the packets and hand each target its frame.

    A target's goal is the time stamp of the frame to show. Frames come in the order of showing; if
    that very frame does not come, the one before it stands in, as a player would keep it.

    Args:
        stream: what the packets are of.
        packets: from a keyframe on, in the order of the file.
        targets: by tick, ascending.
        deadline: asked about at every packet.
        probed: whether FFmpeg had a look at the stream when the file was opened.

    Raises:
        MediaError: no picture can be decoded, or not what follows the first ones.
        Unprobed: the order of showing cannot be told without probing.
    """
    if not probed:
        _check_order(stream, packets)
    goals, exact = _goals(packets, [target.tick for target in targets])
    wanted = None
    if exact:
        packets = _needed(packets, goals)
        if stream.codec_context.name in _NONREF_EXACT:
            wanted = frozenset(goals)
    shown = 0
    last: VideoFrame | None = None
    for frame in _frames(stream, packets, wanted, deadline):
        time = frame.pts if frame.pts is not None else frame.dts
        if time is None:
            continue
        while shown < len(targets) and time >= goals[shown]:
            show = frame if last is None or time == goals[shown] else last
            targets[shown].converter.convert(show, targets[shown].slot)
            shown += 1
        if shown == len(targets):
            break
        last = frame
    if shown < len(targets) and last is None:
        raise MediaError("shows no picture that can be decoded at the wanted time")
    for target in targets[shown:]:
        assert last is not None
        target.converter.convert(last, target.slot)
    stream.codec_context.skip_frame = "DEFAULT"
    stream.codec_context.flush_buffers()


def decode_window(
    stream: VideoStream,
    packets: Sequence[Packet[Any]],
    window: Window,
    deadline: Deadline,
    *,
    probed: bool = True,
) -> Iterator[tuple[int, VideoFrame]]:
    """Every frame that is shown at some tick of ``window``, with its time stamp, in that order.

    The first may begin before the window; where the stream begins later, its first frame stands in
    for what is missing.

    Raises:
        MediaError: as :func:`decode_video`.
        Unprobed: likewise.
    """
    if not probed:
        _check_order(stream, packets)
    before: tuple[int, VideoFrame] | None = None
    found = False
    for frame in _frames(stream, packets, None, deadline):
        time = frame.pts if frame.pts is not None else frame.dts
        if time is None:
            continue
        if time > window.first and before is not None:
            yield before
            before, found = None, True
        if time > window.last and found:
            break
        if time <= window.first:
            before = time, frame
        else:
            yield time, frame
            found = True
    if before is not None:
        yield before
    elif not found:
        raise MediaError("shows no picture that can be decoded at the wanted time")
    stream.codec_context.flush_buffers()


def _check_order(stream: VideoStream, packets: Sequence[Packet[Any]]) -> None:
    """H.264 need not say how far frames are reordered; FFmpeg then has to find out by probing."""
    codec = stream.codec_context
    if codec.name != "h264":
        return
    codec.open(strict=False)
    times = [packet.pts for packet in packets if packet.pts is not None]
    if not codec.has_b_frames and any(later < earlier for earlier, later in pairwise(times)):
        raise Unprobed


def _goals(packets: Sequence[Packet[Any]], ticks: Sequence[int]) -> tuple[list[int], bool]:
    """The time stamps of the frames shown at ``ticks``, and whether they are those of packets."""
    times = []
    for packet in packets:
        if packet.pts is None:
            return list(ticks), False
        if not packet.is_discard:
            times.append(packet.pts)
    if not times:
        return list(ticks), False
    times.sort()
    return [times[max(bisect.bisect_right(times, tick) - 1, 0)] for tick in ticks], True


def _needed(packets: Sequence[Packet[Any]], goals: Sequence[int]) -> Sequence[Packet[Any]]:
    """The packets up to the last, in decoding order, that brings one of ``goals``."""
    wanted = set(goals)
    last = max(at for at, packet in enumerate(packets) if packet.pts in wanted)
    return packets[: last + 1]


def _frames(
    stream: VideoStream,
    packets: Sequence[Packet[Any]],
    wanted: frozenset[int] | None,
    deadline: Deadline,
) -> Iterator[VideoFrame]:
    """Decode packets in turn; with ``wanted``, leave out other frames that none refers to."""
    codec = stream.codec_context
    begun = False
    for packet in packets:
        deadline.check()
        if wanted is not None:
            codec.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        try:
            frames = codec.decode(packet)
        except av.error.InvalidDataError:
            # A recording may begin amid pictures that refer to what came before it.
            if begun:
                raise
            continue
        begun = begun or bool(frames)
        yield from frames
    yield from codec.decode(None)
