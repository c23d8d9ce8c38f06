"""A stretch of a file made anew as a small one that is quick to read.

Pictures become H.264 of few kinds of blocks, with a keyframe every so many frames; sound becomes
mono FLAC. Both lie in one MP4 file, whose header tells all that is needed to open it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from earsight.media.frames import decode_window, tick_shown
from earsight.media.packets import Packets, Window
from earsight.media.picture import Orientation, graph_ends, orientation_of
from earsight.media.session import OpenFile, read_file
from earsight.media.sound import Steps, Track, audio_window, decode_audio, native_span
from earsight.media.streams import check_pixels, seconds_per_tick
from earsight.media.types import AudioRequest, Coding, Limits, MediaError, VideoRequest

CLOCK = 90_000
"""Ticks per second of the pictures made."""

_BLOCK = 4608
_FLAC = {"frame_size": str(_BLOCK), "compression_level": "2"}
"""Few blocks of simple prediction: 17 % more bytes, decoded in two thirds of the time."""

_H264 = (
    "scenecut=0:bframes=2:force-cfr=1"
    # Several threads, and macroblock trees on small pictures, give other bytes by the run.
    ":threads=1:mbtree=0"
    # Whole blocks of one reference, and bits for likeness alone: a third less to decode.
    ":partitions=none:ref=1:b-adapt=0:b-pyramid=none:no-psy=1:aq-mode=0"
)

FASTER = 1.02
"""By how much a rate may exceed the wanted one before frames are left out."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """What is made anew of a file; times are seconds from the file's zero.

    Attributes:
        path: the file.
        video: first and last time of the pictures; None for no pictures.
        audio: first and last time of the sound; None for no sound.
        fps: average frames per second of the pictures.
        video_stream: container index of the video stream.
        audio_stream: container index of the audio stream.
    """

    path: str
    video: tuple[float, float] | None = None
    audio: tuple[float, float] | None = None
    fps: float = 0.0
    video_stream: int | None = None
    audio_stream: int | None = None

    @property
    def zero(self) -> float:
        """The time at which the new file begins."""
        return min(span[0] for span in (self.video, self.audio) if span is not None)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A file in memory, and the facts of its pictures.

    Attributes:
        content: the bytes of an MP4 file.
        width: of the pictures in pixels; 0 where there are none.
        height: likewise.
        fps: average frames per second.
        times: of the frames, in seconds from the new file's zero.
        keyframes: times of the keyframes.
    """

    content: bytes
    width: int = 0
    height: int = 0
    fps: float = 0.0
    times: tuple[float, ...] = field(default=())
    keyframes: tuple[float, ...] = field(default=())


def transcode(stretch: Stretch, coding: Coding, limits: Limits | None = None) -> Made:
    """Make a stretch of a file anew; equal input gives equal bytes.

    Frame ``k`` of pictures faster than ``coding.fps`` is the one shown ``k / fps`` seconds after
    the stretch begins; slower pictures keep their frames and times.

    Raises:
        MediaError: as :func:`earsight.media.decode.decode`, or the pictures cannot be coded.
    """
    limits = limits or Limits()
    return read_file(
        stretch.path,
        partial(_transcode, stretch, coding, limits),
        video=stretch.video is not None,
        audio=stretch.audio is not None,
        video_stream=stretch.video_stream,
        audio_stream=stretch.audio_stream,
        limits=limits,
    )


def _transcode(stretch: Stretch, coding: Coding, limits: Limits, file: OpenFile) -> Made:
    video, audio, zero = file.chosen.video, file.chosen.audio, file.chosen.zero
    seen = listened = track = heard = None
    if stretch.video is not None and video is not None:
        seen = _window(stretch.video, video, zero)
    if stretch.audio is not None and audio is not None:
        low, high = stretch.audio
        # Samples lie on a grid counted from the stream's own clock; the last one may be partial.
        seconds = max(1, math.ceil((high - low) * coding.rate - 1e-6)) / coding.rate
        heard = AudioRequest(start=low, duration=seconds, rate=coding.rate)
        first, last = native_span(heard, audio.codec_context.sample_rate, zero)
        track = Track(audio, first, last, probed=file.probing)
        listened = audio_window(track, audio)
    packets = file.reader.read(seen, listened)
    samples = np.empty(0, np.int16)
    if heard is not None and track is not None and audio is not None:
        decode_audio(audio, packets.audio, track, file.deadline)
        samples = track.cut(heard, zero)
    writer = _Writer(stretch, coding, limits, samples)
    if seen is not None and stretch.video is not None and video is not None:
        writer.pictures(_timed(stretch, coding, file, video, packets, seen))
    return writer.finish()


def _window(span: tuple[float, float], stream: VideoStream, zero: float) -> Window:
    per_tick = seconds_per_tick(stream)
    first, last = (
        tick_shown(VideoRequest(start=time, fps=1.0, frames=1), 0, per_tick, zero) for time in span
    )
    # What begins where the stretch ends belongs to the next one.
    return Window(first, max(first, last - 1))


def _timed(
    stretch: Stretch,
    coding: Coding,
    file: OpenFile,
    stream: VideoStream,
    packets: Packets,
    seen: Window,
) -> Iterator[tuple[float, VideoFrame]]:
    """Frames to be written with their times, in seconds from the beginning of the pictures."""
    assert stretch.video is not None
    low, high = stretch.video
    per_tick, zero = seconds_per_tick(stream), file.chosen.zero
    frames = decode_window(stream, packets.video, seen, file.deadline, probed=file.probing)
    own = ((max(0.0, tick * per_tick - zero - low), frame) for tick, frame in frames)
    if stretch.fps <= coding.fps * FASTER:
        return own
    count = max(1, math.ceil((high - low) * coding.fps - 1e-6))
    return _resampled(own, coding.fps, count, per_tick / 2)


def _resampled(
    frames: Iterator[tuple[float, VideoFrame]], fps: float, count: int, tolerance: float
) -> Iterator[tuple[float, VideoFrame]]:
    """``count`` frames at a fixed rate: each the last one that has begun by its time."""
    shown = 0
    before: VideoFrame | None = None
    for time, frame in frames:
        while before is not None and shown < count and shown / fps + tolerance < time:
            yield shown / fps, before
            shown += 1
        before = frame
    while before is not None and shown < count:
        yield shown / fps, before
        shown += 1


class _Writer:
    """An MP4 file in memory, with sound written beside the pictures that it goes with."""

    def __init__(self, stretch: Stretch, coding: Coding, limits: Limits, samples: Steps) -> None:
        self._coding, self._limits, self._samples = coding, limits, samples
        self._content = io.BytesIO()
        self._file = av.open(self._content, "w", format="mp4", options={"fflags": "+bitexact"})
        self._video: Any = None
        self._audio: Any = None
        zero = stretch.zero
        self._video_at = 0.0 if stretch.video is None else stretch.video[0] - zero
        self._audio_at = 0.0 if stretch.audio is None else stretch.audio[0] - zero
        self._has_video = stretch.video is not None
        self._heard = 0
        self._ticks: list[int] = []
        self._keys: list[int] = []
        self._shape: _Shape | None = None
        self._fps = min(stretch.fps, coding.fps) or coding.fps

    def pictures(self, frames: Iterator[tuple[float, VideoFrame]]) -> None:
        """Write pictures at their times, and the sound up to them."""
        for seconds, frame in frames:
            if self._shape is None:
                self._shape = _Shape(frame, self._coding, self._limits)
            shaped = self._shape.apply(frame)
            if self._video is None:
                self._open_video(shaped)
                self._open_audio()
            tick = round((self._video_at + seconds) * CLOCK)
            if self._ticks and tick <= self._ticks[-1]:
                continue  # two frames of one time: the first is shown
            self._ticks.append(tick)
            shaped.pts, shaped.time_base = tick, Fraction(1, CLOCK)
            # The source's kinds of pictures would bind the encoder.
            shaped.pict_type = PictureType.NONE
            self._sound(self._video_at + seconds)
            self._mux(self._video.encode(shaped))

    def finish(self) -> Made:
        """Write what is left; the file."""
        if self._video is None:
            if self._has_video:
                raise MediaError("shows no picture that can be decoded at the wanted time")
            self._open_audio()
        self._sound(math.inf)
        for stream in (self._video, self._audio):
            if stream is not None:
                self._mux(stream.encode(None))
        self._file.close()
        content = self._content.getvalue()
        if self._shape is None:
            return Made(content=content)
        times = tuple(tick / CLOCK for tick in self._ticks)
        return Made(
            content=content,
            width=self._shape.width,
            height=self._shape.height,
            fps=self._fps,
            times=times,
            keyframes=tuple(sorted(key / CLOCK for key in self._keys)),
        )

    def _open_video(self, frame: VideoFrame) -> None:
        every = self._coding.keyframe_every
        settings = f"keyint={every}:min-keyint={every}:{_H264}"
        options = {
            "preset": self._coding.preset,
            "crf": str(self._coding.crf),
            "tune": "fastdecode",
            "x264-params": settings,
        }
        rate = Fraction(self._fps).limit_denominator(1001)
        stream: Any = self._file.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, CLOCK)
        stream.codec_context.thread_count = 1
        stream.codec_context.colorspace = int(frame.colorspace)
        stream.codec_context.color_range = int(frame.color_range)
        self._video = stream

    def _open_audio(self) -> None:
        if len(self._samples):
            self._audio = self._file.add_stream(
                "flac", rate=self._coding.rate, layout="mono", options=_FLAC
            )

    def _sound(self, until: float) -> None:
        """Write the blocks of sound that begin before a time."""
        rate = self._coding.rate
        first = round(self._audio_at * rate)
        while self._audio is not None and self._heard < len(self._samples):
            if (first + self._heard) / rate > until:
                return
            part = self._samples[self._heard : self._heard + _BLOCK]
            frame: Any = av.AudioFrame.from_ndarray(part[None], format="s16", layout="mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = first + self._heard
            self._mux(self._audio.encode(frame))
            self._heard += len(part)

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            if self._video is not None and packet.stream is self._video and packet.is_keyframe:
                self._keys.append(packet.pts)
            self._file.mux(packet)


class _Shape:
    """Scales pictures to their new size and turns them upright."""

    def __init__(self, frame: VideoFrame, coding: Coding, limits: Limits) -> None:
        self._limits = limits
        self._turn = orientation_of(frame)
        scale = min(1.0, coding.short_side / min(frame.width, frame.height))
        # H.264 has colour for every second pixel each way.
        wide, high = (_even(scale * side, scale < 1) for side in (frame.width, frame.height))
        self._size = wide, high
        self.width, self.height = (high, wide) if self._turn.transpose else (wide, high)
        self._key: tuple[Any, ...] | None = None
        self._graph: Graph | None = None

    def apply(self, frame: VideoFrame) -> VideoFrame:
        """A picture as it is written."""
        key = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if key != self._key:
            check_pixels(frame.width, frame.height, self._limits)
            self._build(frame)
            self._key = key
        self._source.push(frame)
        shaped = self._sink.pull()
        assert isinstance(shaped, VideoFrame)
        return shaped

    def _build(self, frame: VideoFrame) -> None:
        graph, self._source, self._sink = graph_ends(frame, "yuv420p")
        wide, high = self._size
        nodes = [self._source]
        same = (wide, high) == (frame.width, frame.height)
        if not same and 0 <= frame.width - wide <= 1 and 0 <= frame.height - high <= 1:
            # An odd size loses its last line: scaling by so little would only blur.
            nodes.append(graph.add("crop", f"{wide}:{high}:0:0"))
        nodes.append(graph.add("scale", f"{wide}:{high}:flags=bilinear+accurate_rnd:out_range=tv"))
        nodes += [graph.add(*part) for part in _turning(self._turn)]
        graph.link_nodes(*nodes, self._sink).configure()
        self._graph = graph


def _turning(turn: Orientation) -> list[tuple[str, ...]]:
    """The filters that turn a coded picture upright: transposed first, then mirrored."""
    filters: list[tuple[str, ...]] = [("transpose", "0")] if turn.transpose else []
    # The first kind of transposing mirrors at the diagonal alone: rows become columns.
    return filters + [("hflip",)] * turn.flip_x + [("vflip",)] * turn.flip_y


def _even(side: float, scaled: bool) -> int:
    """The nearest even number where pictures are scaled, else the one below; at least 2."""
    return max(2, 2 * (round(side / 2) if scaled else int(side) // 2))
