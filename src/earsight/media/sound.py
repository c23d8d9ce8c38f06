"""Decoded sound to samples: placed by timestamp, mixed to mono, resampled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet
from numpy.typing import NDArray

from earsight.media.open import Deadline, Unprobed
from earsight.media.packets import Window
from earsight.media.streams import seconds_per_tick
from earsight.media.types import AudioRequest, MediaError

Samples = NDArray[np.float32]
Steps = NDArray[np.int16]

_STEPS = np.float32(2**15)

_EDGE = 32
"""Samples, at the lower of the two rates, that the resampler sees on each side of a request: twice
the reach of its filter."""

_EXACT = ("pcm", "flac", "alac", "wavpack", "tta")
_TYPES = {
    "u8": ("u1", 2.0**-7),
    "s16": ("i2", 2.0**-15),
    "s32": ("i4", 2.0**-31),
    "s64": ("i8", 2.0**-63),
    "flt": ("f4", 1.0),
    "dbl": ("f8", 1.0),
}


def preroll(stream: AudioStream) -> float:
    """Seconds to decode before the first wanted sample, so that it is as from the beginning.

    Lossy codecs overlap their blocks and keep state. Two blocks settle AAC-LC; the others (MP3's
    bit reservoir, Opus, the upper band of HE-AAC) get more.
    """
    codec = stream.codec_context
    if codec.name.startswith(_EXACT):
        return 0.0
    if codec.name.startswith("aac") and "HE" not in (codec.profile or ""):
        return 2 * 1024 / max(codec.sample_rate, 8000)
    return 0.25


def first_sample(request: AudioRequest, zero: float) -> int:
    """Where a request begins: sample ``n`` at its rate is heard ``n / rate`` on the stream's clock.

    Samples lie on this grid whatever is asked for, so that requests may be cut from one another.
    """
    return round((request.start + zero) * request.rate)


def sample_count(request: AudioRequest) -> int:
    """How many samples a request asks for."""
    return round(request.duration * request.rate)


def native_span(request: AudioRequest, rate: int, zero: float) -> tuple[int, int]:
    """The stream's own samples ``[first, last)`` that a request needs, at the stream's rate.

    Where the rates differ, ``first`` also lies on the grid of the request's rate.
    """
    begin = first_sample(request, zero)
    end = begin + sample_count(request)
    if rate == request.rate:
        return begin, end
    edge = math.ceil(_EDGE * max(1.0, rate / request.rate))
    unit = rate // math.gcd(rate, request.rate)
    first = (begin * rate // request.rate - edge) // unit * unit
    return first, -(-end * rate // request.rate) + edge + 1


_ROUNDED = 2
"""Ticks by which packets may begin or end beside their stamps and durations: both are rounded."""


def audio_window(track: Track, stream: AudioStream) -> Window:
    """The window of a stream that has to be decoded to fill a track."""
    per_tick = seconds_per_tick(stream)
    start = track.first / track.rate - preroll(stream)
    end = track.last / track.rate
    return Window(math.floor(start / per_tick) - _ROUNDED, math.ceil(end / per_tick))


def as_floats(samples: Steps) -> Samples:
    """Samples of 16 bits as float32 in [-1, 1)."""
    floats: Samples = samples.astype(np.float32)
    floats *= np.float32(1 / _STEPS)
    return floats


@dataclass
class _Run:
    """Frames of one kind that follow one another without a gap; ``planes`` holds their parts."""

    kind: tuple[str, int, int]
    at: int
    planes: list[list[NDArray[Any]]]


def decode_audio(
    stream: AudioStream, packets: Sequence[Packet[Any]], track: Track, deadline: Deadline
) -> None:
    """Decode packets into a track.

    Raises:
        MediaError: nothing can be decoded, or not what follows the first frames.
        Unprobed: the sound is not what an unprobed header said.
    """
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


class Track:
    """Mono samples of a stream at its own rate; what no frame covers is silence.

    Sample ``n`` is heard ``n / rate`` seconds into the stream's own clock.
    """

    def __init__(self, stream: AudioStream, first: int, last: int, *, probed: bool = True) -> None:
        self._codec = stream.codec_context
        self._probed = probed
        self.rate = self._codec.sample_rate
        self.first = first
        self.last = last
        self.frames = 0
        self._per_tick = seconds_per_tick(stream) * self.rate
        self._origin = (stream.start_time or 0) * self._per_tick
        self._block = self._codec.frame_size
        self._next: int | None = None
        self._runs: list[_Run] = []
        self._samples: Samples | None = None

    def add(self, frame: AudioFrame) -> None:
        """Put a frame's samples in their place."""
        kind = (frame.format.name, frame.layout.nb_channels, frame.sample_rate)
        if not self._probed:
            self._check_header(frame)
        at = self._position(frame.pts, frame.samples)
        if at != self._next or kind != self._runs[-1].kind:
            planes = kind[1] if kind[0].endswith("p") else 1
            self._runs.append(_Run(kind, at, [[] for _ in range(planes)]))
        run = self._runs[-1]
        dtype, _ = _kind_of(kind[0])
        samples = frame.samples
        values = samples * kind[1] // len(run.planes)
        planes_of: Sequence[Any] = frame.planes
        for parts, plane in zip(run.planes, planes_of, strict=False):
            parts.append(np.frombuffer(plane, dtype, values))
        self._next = at + round(samples * self.rate / kind[2])
        self.frames += 1

    def _check_header(self, frame: AudioFrame) -> None:
        """Headers may not tell of HE-AAC, which doubles the rate and needs a longer preroll."""
        if frame.sample_rate != self.rate or "HE" in (self._codec.profile or ""):
            raise Unprobed
        self._probed = True

    def samples(self) -> Samples:
        """All that was added, ``(last - first,)``; nothing can be added afterwards."""
        if self._samples is None:
            self._samples = np.zeros(self.last - self.first, np.float32)
            for run in self._runs:
                self._place(run)
            self._runs.clear()
        return self._samples

    def _place(self, run: _Run) -> None:
        name, channels, rate = run.kind
        mono = to_mono([np.concatenate(parts) for parts in run.planes], name, channels)
        if rate != self.rate:
            mono = resample(mono, rate, self.rate)
        low, high = max(run.at, self.first), min(run.at + len(mono), self.last)
        if low < high and self._samples is not None:
            self._samples[low - self.first : high - self.first] = mono[low - run.at : high - run.at]

    def _position(self, pts: int | None, samples: int) -> int:
        """Index of the first sample of a frame.

        Time stamps coarser than a sample (Matroska's milliseconds) jitter around the true places,
        which are whole blocks from the stream's start, or follow one another. Where blocks are
        whole ticks, the stamps do not jitter.
        """
        if pts is None:
            return self.first if self._next is None else self._next
        place = pts * self._per_tick
        block = self._block or samples
        if self._per_tick == 1 or not block or (block / self._per_tick).is_integer():
            return round(place)
        on_grid = round(self._origin + round((place - self._origin) / block) * block)
        near_grid = abs(place - on_grid) <= max(1.0, 0.75 * self._per_tick)
        follows = self._next is not None and abs(place - self._next) <= 1 + self._per_tick
        if near_grid and (self._block or not follows):
            return on_grid
        return self._next if follows and self._next is not None else round(place)

    def cut(self, request: AudioRequest, zero: float) -> Steps:
        """The samples of a request, ``(round(duration * rate),)`` int16."""
        first, last = native_span(request, self.rate, zero)
        found = self.samples()[first - self.first : last - self.first]
        if self.rate != request.rate:
            skip = first_sample(request, zero) - first * request.rate // self.rate
            found = resample(found, self.rate, request.rate)[skip : skip + sample_count(request)]
        assert len(found) == sample_count(request)
        levels = found * _STEPS
        np.rint(levels, out=levels)
        steps: Steps = np.clip(levels, -_STEPS, _STEPS - 1, out=levels).astype(np.int16)
        return steps


def to_mono(planes: Sequence[NDArray[Any]], name: str, channels: int) -> Samples:
    """The mean over channels, ``(samples,)`` float32 in [-1, 1].

    Args:
        planes: one array per channel where the sample format is planar, else one with all.
        name: of the sample format, such as ``s16p``.
        channels: how many.
    """
    _, scale = _kind_of(name)
    if len(planes) == 1 and channels > 1:
        planes = list(planes[0].reshape(-1, channels).T)
    mono = planes[0].astype(np.float32)
    for plane in planes[1:]:
        mono += plane
    if scale != channels:
        mono *= scale / channels
    if name.startswith("u8"):
        mono -= 1.0
    return mono


def _kind_of(name: str) -> tuple[str, float]:
    """Type of the samples of a format, and the factor that brings them to [-1, 1]."""
    found = _TYPES.get(name.removesuffix("p"))
    if found is None:
        raise MediaError(f"has sound in samples of an unknown kind ({name})")
    return found


def resample(mono: Samples, rate: int, new_rate: int) -> Samples:
    """Mono samples at another rate, by libswresample; the first stays where it was in time."""
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(mono)[None], "fltp", "mono")
    frame.sample_rate = rate
    resampler = AudioResampler("fltp", "mono", new_rate)
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    planes: list[Any] = [(part.planes[0], part.samples) for part in parts]
    return np.concatenate([np.frombuffer(plane, np.float32, count) for plane, count in planes])
