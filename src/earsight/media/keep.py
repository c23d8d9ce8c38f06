"""A stretch of a file, decoded once and kept: it answers clip requests as the file would.

Pictures are kept as the codec gave them, in their own size and pixel format, and go through the
same conversion as those of a file; sound is kept at the rate at which it will be asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from earsight.media.decode import check_request
from earsight.media.frames import decode_window, tick_shown
from earsight.media.packets import Window
from earsight.media.picture import Converter, Orientation, orientation_of
from earsight.media.session import OpenFile, read_file
from earsight.media.sound import (
    Steps,
    Track,
    as_floats,
    audio_window,
    decode_audio,
    first_sample,
    native_span,
    sample_count,
)
from earsight.media.streams import seconds_per_tick
from earsight.media.types import (
    AudioRequest,
    Clip,
    ClipRequest,
    Limits,
    MediaError,
    VideoRequest,
)


@dataclass(frozen=True, kw_only=True)
class Span:
    """What is to be kept of a file; times are seconds from the file's zero.

    Attributes:
        path: the file.
        video: first and last time at which pictures are asked for; None for no pictures.
        audio: all the sound that is asked for, at its rate; None for no sound.
        video_stream: container index of the video stream; None for the default one.
        audio_stream: container index of the audio stream; None for the default one.
    """

    path: str
    video: tuple[float, float] | None = None
    audio: AudioRequest | None = None
    video_stream: int | None = None
    audio_stream: int | None = None


@dataclass(frozen=True, kw_only=True)
class FrameKind:
    """What frames of one kind share; with it, bytes become a frame again."""

    width: int
    height: int
    format: str
    colorspace: int
    color_range: int
    turn: Orientation


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Pictures and sound of a span.

    Attributes:
        zero: the file's zero on the streams' clock, in seconds.
        per_tick: seconds per tick of the pictures' clock.
        tick: ``(F,)`` int64, when each frame begins, ascending.
        kind: ``(F,)`` int64, which of ``kinds`` each frame is.
        kinds: the kinds of frames.
        pixels: per frame its planes one after the other, without padding, as bytes.
        first: place of the first sample on the grid of ``rate``.
        rate: samples per second.
        samples: ``(S,)`` int16.
    """

    zero: float
    per_tick: float
    tick: NDArray[np.int64]
    kind: NDArray[np.int64]
    kinds: Sequence[FrameKind]
    pixels: Sequence[NDArray[np.uint8]]
    first: int
    rate: int
    samples: Steps


def keep(span: Span, limits: Limits | None = None) -> Kept:
    """Decode a span of a file.

    Raises:
        MediaError: as :func:`earsight.media.decode.decode`.
    """
    limits = limits or Limits()
    return read_file(
        span.path,
        partial(_keep, span),
        video=span.video is not None,
        audio=span.audio is not None,
        video_stream=span.video_stream,
        audio_stream=span.audio_stream,
        limits=limits,
    )


def _keep(span: Span, file: OpenFile) -> Kept:
    video, audio, zero = file.chosen.video, file.chosen.audio, file.chosen.zero
    seen = listened = track = None
    if span.video is not None and video is not None:
        per_tick = seconds_per_tick(video)
        begin, end = (VideoRequest(start=t, fps=1.0, frames=1) for t in span.video)
        seen = Window(tick_shown(begin, 0, per_tick, zero), tick_shown(end, 0, per_tick, zero))
    if span.audio is not None and audio is not None:
        first, last = native_span(span.audio, audio.codec_context.sample_rate, zero)
        track = Track(audio, first, last, probed=file.probing)
        listened = audio_window(track, audio)
    packets = file.reader.read(seen, listened)
    samples = np.empty(0, np.int16)
    if span.audio is not None and audio is not None and track is not None:
        decode_audio(audio, packets.audio, track, file.deadline)
        samples = track.cut(span.audio, zero)
    ticks: list[int] = []
    kinds: dict[FrameKind, int] = {}
    kind: list[int] = []
    pixels: list[NDArray[np.uint8]] = []
    if seen is not None and video is not None:
        shown = decode_window(video, packets.video, seen, file.deadline, probed=file.probing)
        for tick, frame in shown:
            ticks.append(tick)
            kind.append(kinds.setdefault(kind_of(frame), len(kinds)))
            pixels.append(frame_bytes(frame))
    return Kept(
        zero=zero,
        per_tick=seconds_per_tick(video) if video is not None else 0.0,
        tick=np.array(ticks, np.int64),
        kind=np.array(kind, np.int64),
        kinds=tuple(kinds),
        pixels=pixels,
        first=first_sample(span.audio, zero) if span.audio is not None else 0,
        rate=span.audio.rate if span.audio is not None else 0,
        samples=samples,
    )


def kind_of(frame: VideoFrame) -> FrameKind:
    """What a frame shares with others."""
    return FrameKind(
        width=frame.width,
        height=frame.height,
        format=frame.format.name,
        colorspace=int(frame.colorspace),
        color_range=int(frame.color_range),
        turn=orientation_of(frame),
    )


def _rows(frame: VideoFrame) -> list[NDArray[np.uint8]]:
    """Per plane its rows ``(height, bytes)``, a view of the frame's memory without padding."""
    planes: Sequence[Any] = frame.planes
    if frame.format.has_palette:
        # Its second plane is the palette: one row, and no size of a line.
        pixels, palette = planes
        return [_rows_of(pixels, frame.width), np.frombuffer(palette, np.uint8)[None]]
    if len(planes) == 1:
        return [_rows_of(planes[0], _packed_bytes(frame.format, frame.width))]
    return [_rows_of(plane, _planar_bytes(frame.format, at)) for at, plane in enumerate(planes)]


def _rows_of(plane: Any, used: int) -> NDArray[np.uint8]:
    """The ``used`` bytes of each row that hold pixels."""
    assert used <= plane.line_size, f"rows of {plane.line_size} bytes, where {used} hold pixels"
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, :used]


def _packed_bytes(layout: VideoFormat, width: int) -> int:
    """Bytes of a row whose pixels have all components side by side, and perhaps unused bits."""
    # Pixels that share colours come in whole groups, even where the row ends amid one.
    group = 16 // layout.chroma_width(16)
    bits = layout.padded_bits_per_pixel * group * -(-width // group)
    return -(-bits // 8)


def _planar_bytes(layout: VideoFormat, plane: int) -> int:
    """Bytes of a row of one plane of several, whose components fill whole bytes."""
    return sum(-(-c.bits // 8) * c.width for c in layout.components if c.plane == plane)


def frame_bytes(frame: VideoFrame) -> NDArray[np.uint8]:
    """A frame's planes one after the other."""
    return np.concatenate([rows.ravel() for rows in _rows(frame)])


def frame_of(pixels: NDArray[np.uint8], kind: FrameKind) -> VideoFrame:
    """The frame whose bytes these are."""
    frame = VideoFrame(kind.width, kind.height, kind.format)
    at = 0
    for rows in _rows(frame):
        rows[:] = pixels[at : at + rows.size].reshape(rows.shape)
        at += rows.size
    frame.colorspace = kind.colorspace
    frame.color_range = kind.color_range
    return frame


def replay(kept: Kept, request: ClipRequest, limits: Limits | None = None) -> Clip:
    """Answer a request from what is kept, bit for bit as the file would.

    Raises:
        ValueError: the request makes no sense, or reaches beyond what is kept.
        MediaError: there is no picture, or too large a one.
    """
    check_request(request)
    video = tuple(_pictures(kept, wanted, limits or Limits()) for wanted in request.video)
    return Clip(video=video, audio=tuple(_sound(kept, wanted) for wanted in request.audio))


def _pictures(kept: Kept, wanted: VideoRequest, limits: Limits) -> NDArray[np.uint8]:
    if not len(kept.tick):
        raise MediaError("has no picture: none is kept")
    ticks = [tick_shown(wanted, slot, kept.per_tick, kept.zero) for slot in range(wanted.frames)]
    places = np.maximum(np.searchsorted(kept.tick, ticks, "right") - 1, 0)
    turns = {kept.kinds[kept.kind[place]].turn for place in places}
    assert len(turns) == 1, "a display matrix belongs to the stream"
    converter = Converter(wanted, limits, turns.pop())
    frames = {
        place: frame_of(kept.pixels[place], kept.kinds[kept.kind[place]])
        for place in np.unique(places).tolist()
    }
    for slot, place in enumerate(places.tolist()):
        converter.convert(frames[place], slot)
    return converter.pixels


def _sound(kept: Kept, wanted: AudioRequest) -> NDArray[np.float32]:
    begin = first_sample(wanted, kept.zero) - kept.first
    end = begin + sample_count(wanted)
    if wanted.rate != kept.rate or begin < 0 or end > len(kept.samples):
        raise ValueError(
            f"sound from {wanted.start:g} s for {wanted.duration:g} s at {wanted.rate} Hz lies "
            f"beyond what is kept ({len(kept.samples)} samples at {kept.rate} Hz)"
        )
    return as_floats(kept.samples[begin:end])
