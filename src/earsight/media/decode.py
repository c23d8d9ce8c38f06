"""A clip request to frames and samples: the hot path of the loader.

A request is read in groups of overlapping or neighbouring spans. For each group there is one seek
and one pass over the packets of both streams; then the pictures' times are known, so those that
no one wants to see and no other picture needs are not decoded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from av.video.stream import VideoStream

from earsight.media.frames import Target, decode_video, tick_shown
from earsight.media.packets import Window
from earsight.media.picture import Converter
from earsight.media.session import OpenFile, read_file
from earsight.media.sound import Samples, Track, as_floats, audio_window, decode_audio, native_span
from earsight.media.streams import seconds_per_tick
from earsight.media.types import Clip, ClipRequest, Limits

_GAP = 1.0
"""Seconds between two spans above which a seek is cheaper than reading on."""

_ROUNDING = 1e-6
"""How far a box may reach over the picture's edge."""


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


def decode(request: ClipRequest, limits: Limits | None = None) -> Clip:
    """Read the frames and samples that a request asks for.

    Frame ``i`` is the last one whose time is at most ``start + i / fps`` (within half a tick of the
    stream's clock, at most 1 ms); the first frame stands in before it, the last one after it.
    Results do not depend on where decoding began, but for the noise with which AAC and Opus fill
    bands (their decoders draw it as they go).

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
    check_request(request)
    return read_file(
        request.path,
        partial(_decode, request, limits),
        video=bool(request.video),
        audio=bool(request.audio),
        video_stream=request.video_stream,
        audio_stream=request.audio_stream,
        limits=limits,
    )


def _decode(request: ClipRequest, limits: Limits, file: OpenFile) -> Clip:
    converters = [Converter(wanted, limits) for wanted in request.video]
    sounds: dict[int, Samples] = {}
    for group in _groups(request, _GAP if file.searching else math.inf):
        _decode_group(request, group, converters, sounds, file)
    return Clip(
        video=tuple(converter.pixels for converter in converters),
        audio=tuple(sounds[i] for i in range(len(request.audio))),
    )


def _decode_group(
    request: ClipRequest,
    group: _Group,
    converters: Sequence[Converter],
    sounds: dict[int, Samples],
    file: OpenFile,
) -> None:
    """One seek and one pass: pictures go into ``converters``, sound into ``sounds``."""
    video, audio, zero = file.chosen.video, file.chosen.audio, file.chosen.zero
    targets: list[Target] = []
    track: Track | None = None
    seen = listened = None
    if group.video and video is not None:
        targets = _targets(request, group, converters, video, zero)
        seen = Window(targets[0].tick, targets[-1].tick)
    if group.audio and audio is not None:
        rate = audio.codec_context.sample_rate
        spans = [native_span(request.audio[i], rate, zero) for i in group.audio]
        first, last = min(first for first, _ in spans), max(last for _, last in spans)
        track = Track(audio, first, last, probed=file.probing)
        listened = audio_window(track, audio)
    packets = file.reader.read(seen, listened)
    if audio is not None and track is not None:
        decode_audio(audio, packets.audio, track, file.deadline)
        for i in group.audio:
            sounds[i] = as_floats(track.cut(request.audio[i], zero))
    if video is not None and targets:
        decode_video(video, packets.video, targets, file.deadline, probed=file.probing)


def check_request(request: ClipRequest) -> None:
    """Raise ValueError where a request makes no sense."""
    for wanted in request.video:
        x0, y0, x1, y1 = wanted.box
        if wanted.frames < 1 or not 0 < wanted.fps < math.inf or min(wanted.size) < 1:
            raise ValueError("a video request needs frames, fps and a size above zero")
        low, high = -_ROUNDING, 1 + _ROUNDING
        if not (low <= x0 < x1 <= high and low <= y0 < y1 <= high):
            raise ValueError(f"box {wanted.box}: must be (x0, y0, x1, y1) within 0 and 1")
        if not math.isfinite(wanted.start):
            raise ValueError("a video request needs a finite start")
    for heard in request.audio:
        if heard.rate < 1 or not 0 < heard.duration < math.inf:
            raise ValueError("an audio request needs a rate and a duration above zero")
        if not math.isfinite(heard.start):
            raise ValueError("an audio request needs a finite start")


def _groups(request: ClipRequest, gap: float) -> list[_Group]:
    """The parts of a request in groups of spans no more than ``gap`` seconds apart, by time."""
    spans = [(v.start, v.start + (v.frames - 1) / v.fps, 0, i) for i, v in enumerate(request.video)]
    spans += [(a.start, a.start + a.duration, 1, i) for i, a in enumerate(request.audio)]
    groups: list[_Group] = []
    for start, end, is_audio, i in sorted(spans):
        if not groups or start > groups[-1].end + gap:
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
) -> list[Target]:
    per_tick = seconds_per_tick(stream)
    targets = [
        Target(tick_shown(request.video[i], slot, per_tick, zero), converters[i], slot)
        for i in group.video
        for slot in range(request.video[i].frames)
    ]
    return sorted(targets, key=lambda target: target.tick)
