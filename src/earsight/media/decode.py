"""A clip request to frames and samples: the hot path of the loader.

A request is read in groups of overlapping or neighbouring spans. For each group there is one seek
and one pass over the packets of both streams; then the pictures' times are known, so those that
no one wants to see and no other picture needs are not decoded.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import av
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from earsight.media.open import Deadline, open_media
from earsight.media.packets import PacketReader, Window, needed
from earsight.media.picture import Converter
from earsight.media.sound import Samples, Track, native_span, preroll
from earsight.media.streams import choose, seconds_per_tick
from earsight.media.types import Clip, ClipRequest, Limits, MediaError

_GAP = 1.0
"""Seconds between two spans above which a seek is cheaper than reading on."""

_TOLERANCE = 1e-3
"""Largest tolerance, in seconds, when a frame's time is compared with a wanted time."""

_NONREF_EXACT = frozenset({"h264", "hevc"})
"""Decoders known to leave out pictures that none refers to without a change to the others."""


class Decoder(Protocol):
    """Anything that answers clip requests; :func:`decode` is the one by PyAV."""

    def __call__(self, request: ClipRequest, limits: Limits | None = None) -> Clip:
        """Read a clip, or raise MediaError."""
        ...


@dataclass
class _Group:
    """Requests, by their places in the clip request, that one pass serves."""

    end: float
    video: list[int] = field(default_factory=list)
    audio: list[int] = field(default_factory=list)


class _Target(NamedTuple):
    """A picture wanted: the last frame up to ``tick``, for ``slot`` of ``converter``."""

    tick: int
    converter: Converter
    slot: int


def decode(request: ClipRequest, limits: Limits | None = None) -> Clip:
    """Read the frames and samples that a request asks for.

    Frame ``i`` is the last one whose time is at most ``start + i / fps`` (within half a tick of the
    stream's clock, at most 1 ms); the first frame stands in before it, the last one after it.
    Results do not depend on where decoding began.

    Args:
        request: the file, the spans and boxes.
        limits: what the file may cost.

    Returns:
        Pictures, one array ``(T, H, W, 3)`` uint8 per video request (laid out in memory as
        ``(3, T, H, W)``), and sound, one array ``(samples,)`` float32 per audio request.

    Raises:
        ValueError: the request makes no sense.
        MediaError: the file cannot be read, lacks a wanted stream, or shows no picture.
    """
    limits = limits or Limits()
    _check(request)
    deadline = Deadline(limits.seconds)
    converters = [Converter(wanted, limits) for wanted in request.video]
    sounds: dict[int, Samples] = {}
    with open_media(request.path, limits) as container:
        chosen = choose(container, limits, request.video_stream, request.audio_stream)
        if request.video and chosen.video is None:
            raise MediaError("has no picture: it holds no video stream")
        if request.audio and chosen.audio is None:
            raise MediaError("has no sound: it holds no audio stream")
        reader = PacketReader(container, chosen, deadline)
        for group in _groups(request):
            targets: list[_Target] = []
            track: Track | None = None
            seen = heard = None
            if group.video and chosen.video is not None:
                targets = _targets(request, group, converters, chosen.video, chosen.zero)
                seen = Window(targets[0].tick, targets[-1].tick)
            if group.audio and chosen.audio is not None:
                track = _track(request, group, chosen.audio, chosen.zero)
                heard = _heard(track, chosen.audio)
            packets = reader.read(seen, heard)
            if chosen.video is not None and targets:
                _decode_video(chosen.video, packets.video, targets, deadline)
            if chosen.audio is not None and track is not None:
                _decode_audio(chosen.audio, packets.audio, track, deadline)
                for i in group.audio:
                    sounds[i] = track.cut(request.audio[i], chosen.zero)
    return Clip(
        video=tuple(converter.pixels for converter in converters),
        audio=tuple(sounds[i] for i in range(len(request.audio))),
    )


def _check(request: ClipRequest) -> None:
    for wanted in request.video:
        x0, y0, x1, y1 = wanted.box
        if wanted.frames < 1 or not 0 < wanted.fps < math.inf or min(wanted.size) < 1:
            raise ValueError("a video request needs frames, fps and a size above zero")
        if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
            raise ValueError(f"box {wanted.box}: must be (x0, y0, x1, y1) within 0 and 1")
        if not math.isfinite(wanted.start):
            raise ValueError("a video request needs a finite start")
    for heard in request.audio:
        if heard.rate < 1 or not 0 < heard.duration < math.inf:
            raise ValueError("an audio request needs a rate and a duration above zero")
        if not math.isfinite(heard.start):
            raise ValueError("an audio request needs a finite start")


def _groups(request: ClipRequest) -> list[_Group]:
    """The parts of a request in groups of spans that overlap or nearly do, by time."""
    spans = [(v.start, v.start + (v.frames - 1) / v.fps, 0, i) for i, v in enumerate(request.video)]
    spans += [(a.start, a.start + a.duration, 1, i) for i, a in enumerate(request.audio)]
    groups: list[_Group] = []
    for start, end, is_audio, i in sorted(spans):
        if not groups or start > groups[-1].end + _GAP:
            groups.append(_Group(end))
        group = groups[-1]
        group.end = max(group.end, end)
        (group.audio if is_audio else group.video).append(i)
    return groups


def _targets(
    request: ClipRequest,
    group: _Group,
    converters: Sequence[Converter],
    stream: VideoStream,
    zero: float,
) -> list[_Target]:
    per_tick = seconds_per_tick(stream)
    shift = zero + min(per_tick / 2, _TOLERANCE)
    targets = []
    for i in group.video:
        wanted = request.video[i]
        for slot in range(wanted.frames):
            time = wanted.start + slot / wanted.fps + shift
            targets.append(_Target(math.floor(time / per_tick), converters[i], slot))
    return sorted(targets, key=lambda target: target.tick)


def _track(request: ClipRequest, group: _Group, stream: AudioStream, zero: float) -> Track:
    rate = stream.codec_context.sample_rate
    spans = [native_span(request.audio[i], rate, zero) for i in group.audio]
    return Track(stream, min(first for first, _ in spans), max(last for _, last in spans))


def _heard(track: Track, stream: AudioStream) -> Window:
    per_tick = seconds_per_tick(stream)
    start = track.first / track.rate - preroll(stream)
    end = track.last / track.rate
    return Window(math.floor(start / per_tick), math.ceil(end / per_tick))


def _decode_video(
    stream: VideoStream,
    packets: Sequence[Packet[Any]],
    targets: Sequence[_Target],
    deadline: Deadline,
) -> None:
    """Decode the packets and hand each target its frame.

    A target's goal is the time stamp of the frame to show. Frames come in the order of showing; if
    that very frame does not come, the one before it stands in, as a player would keep it.
    """
    goals, exact = _goals(packets, [target.tick for target in targets])
    if exact:
        packets = needed(packets, goals)
    skip = frozenset(goals) if exact and stream.codec_context.name in _NONREF_EXACT else None
    shown = 0
    last: VideoFrame | None = None
    for frame in _frames(stream, packets, skip, deadline):
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
    stream.codec_context.flush_buffers()


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
    codec.skip_frame = "DEFAULT"
    yield from codec.decode(None)


def _decode_audio(
    stream: AudioStream, packets: Sequence[Packet[Any]], track: Track, deadline: Deadline
) -> None:
    codec = stream.codec_context
    for packet in packets:
        deadline.check()
        try:
            frames = codec.decode(packet)
        except av.error.InvalidDataError:
            # The first packets may refer to earlier ones that were not read.
            if track.frames:
                raise
            continue
        for frame in frames:
            track.add(frame)
    if packets:
        for frame in codec.decode(None):
            track.add(frame)
        codec.flush_buffers()
    if packets and not track.frames:
        raise MediaError("has no sound that can be decoded at the wanted time")
