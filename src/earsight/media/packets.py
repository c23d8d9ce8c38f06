"""Packets of a time span, read with one seek and one pass over the file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from earsight.media.open import Deadline
from earsight.media.streams import Chosen, seconds_per_tick

_REORDERED = 3
"""Frames by which decoding may run ahead of showing; containers are searched by the former."""

_STEPS_BACK = (0.0, 1.0, 4.0, 16.0, math.inf)
"""Seconds by which to seek earlier than needed, tried in turn: some seeks arrive too late."""

_UNKNOWN_DELAY = 1.0
"""Seconds to read on past the end where a packet does not tell its decoding time."""


_DISCARD: Any = getattr(av.stream, "Discard", None)
"""PyAV has it from version 17 on."""


@dataclass(frozen=True)
class Window:
    """Ticks of a stream from the first to the last that matter, both included."""

    first: int
    last: int


@dataclass
class Packets:
    """What was read, in the order of the file.

    Video begins at the last keyframe that is not after the window's first tick, audio at the packet
    that holds its first tick.
    """

    video: list[Packet[Any]] = field(default_factory=list)
    audio: list[Packet[Any]] = field(default_factory=list)


class PacketReader:
    """Reads windows of the chosen streams of an open file."""

    def __init__(self, container: InputContainer, chosen: Chosen, deadline: Deadline) -> None:
        self._container = container
        self._chosen = chosen
        self._deadline = deadline
        self._untouched = True

    def read(self, video: Window | None, audio: Window | None) -> Packets:
        """Read the packets needed to decode the windows; None for a stream that is not wanted."""
        _ignore(self._chosen.video, video is None)
        _ignore(self._chosen.audio, audio is None)
        for back in _STEPS_BACK:
            from_start = self._seek(video, audio, back)
            found = self._collect(video, audio, from_start)
            if found is not None:
                return found
        raise AssertionError("reading from the beginning always succeeds")

    def _seek(self, video: Window | None, audio: Window | None, back: float) -> bool:
        """Go to where the windows begin, or earlier; True where that is the file's beginning."""
        starts = []
        if audio is not None and self._chosen.audio is not None:
            starts.append(audio.first * seconds_per_tick(self._chosen.audio))
        if video is not None and self._chosen.video is not None:
            stream = self._chosen.video
            starts.append(video.first * seconds_per_tick(stream) - _delay(stream))
        target = max(min(starts) - back, self._chosen.zero)
        from_start = target == self._chosen.zero
        if from_start and self._untouched:
            return True
        self._untouched = False
        guide = self._guide(by_video=video is not None)
        try:
            self._container.seek(math.floor(target / seconds_per_tick(guide)), stream=guide)
        except av.FFmpegError:
            # Not searchable by time: go on from here, which is the beginning or an earlier group.
            return True
        return from_start

    def _guide(self, *, by_video: bool) -> VideoStream | AudioStream:
        """The stream whose index is searched: Matroska has one for pictures only."""
        video, audio = self._chosen.video, self._chosen.audio
        if audio is None or (video is not None and by_video):
            assert video is not None
            return video
        if video is not None and "matroska" in self._container.format.name:
            return video
        return audio

    def _collect(
        self, video: Window | None, audio: Window | None, from_start: bool
    ) -> Packets | None:
        """Read until both windows are covered; None where reading began too late."""
        self._untouched = False
        pictures = _Pictures(self._chosen.video, video, from_start)
        sounds = _Sounds(self._chosen.audio, audio, from_start)
        sides: dict[int, _Pictures | _Sounds] = {}
        for side in (pictures, sounds):
            if not side.done:
                sides[side.index] = side
        for packet in self._container.demux(*(side.stream for side in sides.values())):
            self._deadline.check()
            # An empty packet ends the file, or stands for a frame that was left out.
            if packet.size == 0:
                continue
            side = sides[packet.stream_index]
            if side.done:
                continue
            finished = side.take(packet)
            if side.late:
                return None
            if finished:
                if pictures.done and sounds.done:
                    break
                _ignore(side.stream, True)
        return Packets(pictures.kept, sounds.kept)


def _ignore(stream: VideoStream | AudioStream | None, ignore: bool) -> None:
    """Have the demuxer pass over a stream's packets, where this PyAV can."""
    if stream is not None and _DISCARD is not None:
        stream.discard = _DISCARD.all if ignore else _DISCARD.default


class _Pictures:
    """Collects video packets from a keyframe on."""

    def __init__(self, stream: VideoStream | None, window: Window | None, from_start: bool) -> None:
        self.stream = stream
        self.index = -1 if stream is None else stream.index
        self.kept: list[Packet[Any]] = []
        self.done = stream is None or window is None
        self.late = False
        self._window = window or Window(0, 0)
        self._from_start = from_start
        self._unknown = 0
        if stream is not None:
            self._unknown = round(_UNKNOWN_DELAY / seconds_per_tick(stream))

    def take(self, packet: Packet[Any]) -> bool:
        """Keep a packet if it matters; True once no other will."""
        pts, dts = packet.pts, packet.dts
        if packet.is_keyframe and pts is not None:
            if pts <= self._window.first:
                self.kept.clear()
            elif not self.kept and not self._from_start:
                self.late = True
        elif not self.kept and not self._from_start:
            return False
        self.kept.append(packet)
        if dts is None and pts is not None:
            dts = pts - self._unknown
        # No later packet can be shown before its own decoding time.
        self.done = dts is not None and dts > self._window.last
        return self.done


class _Sounds:
    """Collects the audio packets that overlap a window."""

    def __init__(self, stream: AudioStream | None, window: Window | None, from_start: bool) -> None:
        self.stream = stream
        self.index = -1 if stream is None else stream.index
        self.kept: list[Packet[Any]] = []
        self.done = stream is None or window is None
        self.late = False
        self._window = window or Window(0, 0)
        self._begun = from_start
        start = None if stream is None else stream.start_time
        self._earliest = max(self._window.first, start if start is not None else 0)

    def take(self, packet: Packet[Any]) -> bool:
        """Keep a packet if it matters; True once no other will."""
        pts = packet.pts
        if pts is None:
            self.kept.append(packet)
            return False
        if not self._begun:
            self.late = pts > self._earliest
            self._begun = True
        if pts > self._window.last:
            self.done = True
        elif pts + (packet.duration or 1) > self._window.first:
            self.kept.append(packet)
        return self.done


def _delay(stream: VideoStream) -> float:
    """Seconds by which decoding may run ahead of showing."""
    return _REORDERED / float(stream.average_rate or 25)
