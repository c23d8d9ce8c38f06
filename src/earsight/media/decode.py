"""A clip request to frames and samples: the hot path of the loader.

A request is read in groups of overlapping or neighbouring spans. For each group there is one seek
and one pass over the packets of both streams; then the pictures' times are known, so those that
no one wants to see and no other picture needs are not decoded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from earsight.media.frames import Target, decode_video
from earsight.media.open import Deadline, open_media
from earsight.media.packets import PacketReader, Unsearchable, Window
from earsight.media.picture import Converter
from earsight.media.sound import Samples, Track, decode_audio, native_span, preroll
from earsight.media.streams import Unprobed, check_header, check_rate, choose, seconds_per_tick
from earsight.media.types import Clip, ClipRequest, Limits, MediaError

_GAP = 1.0
"""Seconds between two spans above which a seek is cheaper than reading on."""

_TOLERANCE = 1e-3
"""Largest tolerance, in seconds, when a frame's time is compared with a wanted time."""

_ROUNDING = 1e-6
"""How far a box may reach over the picture's edge."""

_TOLD_BY_HEADER = frozenset({".mp4", ".m4v", ".m4a", ".mov"})
"""Files whose header tells all that is needed, as a rule."""


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
    probing = Path(request.path).suffix.lower() not in _TOLD_BY_HEADER
    searching = True
    while True:
        try:
            return _decode(request, limits, deadline, probing=probing, searching=searching)
        except Unprobed:
            assert not probing
            probing = True
        except Unsearchable:
            assert searching
            searching = False


def _decode(
    request: ClipRequest, limits: Limits, deadline: Deadline, *, probing: bool, searching: bool
) -> Clip:
    converters = [Converter(wanted, limits) for wanted in request.video]
    sounds: dict[int, Samples] = {}
    with open_media(request.path, limits, probing=probing) as container:
        chosen = choose(container, limits, request.video_stream, request.audio_stream)
        if request.video and chosen.video is None:
            raise MediaError("has no picture: it holds no video stream")
        if request.audio and chosen.audio is None:
            raise MediaError("has no sound: it holds no audio stream")
        if not probing:
            check_header(chosen)
        check_rate(chosen)
        reader = PacketReader(container, chosen, deadline, searching=searching)
        for group in _groups(request, _GAP if searching else math.inf):
            targets: list[Target] = []
            track: Track | None = None
            seen = heard = None
            if group.video and chosen.video is not None:
                targets = _targets(request, group, converters, chosen.video, chosen.zero)
                seen = Window(targets[0].tick, targets[-1].tick)
            if group.audio and chosen.audio is not None:
                track = _track(request, group, chosen.audio, chosen.zero, probing)
                heard = _heard(track, chosen.audio)
            packets = reader.read(seen, heard)
            if chosen.audio is not None and track is not None:
                decode_audio(chosen.audio, packets.audio, track, deadline)
                for i in group.audio:
                    sounds[i] = track.cut(request.audio[i], chosen.zero)
            if chosen.video is not None and targets:
                decode_video(chosen.video, packets.video, targets, deadline, probed=probing)
    return Clip(
        video=tuple(converter.pixels for converter in converters),
        audio=tuple(sounds[i] for i in range(len(request.audio))),
    )


def _check(request: ClipRequest) -> None:
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
    shift = zero + min(per_tick / 2, _TOLERANCE)
    targets = []
    for i in group.video:
        wanted = request.video[i]
        for slot in range(wanted.frames):
            time = wanted.start + slot / wanted.fps + shift
            targets.append(Target(math.floor(time / per_tick), converters[i], slot))
    return sorted(targets, key=lambda target: target.tick)


def _track(
    request: ClipRequest, group: _Group, stream: AudioStream, zero: float, probed: bool
) -> Track:
    rate = stream.codec_context.sample_rate
    spans = [native_span(request.audio[i], rate, zero) for i in group.audio]
    first, last = min(first for first, _ in spans), max(last for _, last in spans)
    return Track(stream, first, last, probed=probed)


def _heard(track: Track, stream: AudioStream) -> Window:
    per_tick = seconds_per_tick(stream)
    start = track.first / track.rate - preroll(stream)
    end = track.last / track.rate
    return Window(math.floor(start / per_tick), math.ceil(end / per_tick))
