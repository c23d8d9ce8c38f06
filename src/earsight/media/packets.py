"""Packets of a time span, read with one seek and one pass over the file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from earsight.media.open import Deadline
from earsight.media.streams import Chosen, seconds_per_tick

_REORDERED = 3
"""Frames by which decoding may run ahead of showing; containers are searched by the former."""

_STEPS_BACK = (0.0, 1.0, 4.0, 16.0, math.inf)
"""Seconds by which to seek earlier than needed, tried in turn: some seeks arrive too late."""

_ENDED = 4.0
"""Seconds before a window: where nothing is heard from there on, the sound has ended."""

_BEFORE_ZERO = 10.0
"""Seconds before the zero at which a file surely has not begun."""

_FARTHEST = 2**62
"""Ticks that still fit into FFmpeg's integers."""

_UNKNOWN_DELAY = 1.0
"""Seconds to read on past the end where a packet does not tell its decoding time."""

_LAG = 10.0
"""Seconds by which one stream may be ahead of the other in a file; after that, it has ended."""

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


class Unsearchable(Exception):  # noqa: N818 - a signal, not an error
    """The container cannot be searched by time, and failing to has lost the place."""


def packets_of(
    container: InputContainer, streams: Sequence[VideoStream | AudioStream], deadline: Deadline
) -> Iterator[Packet[Any]]:
    """The packets of some streams, in the order of the file.

    Empty ones are left out: they end a stream, or stand for a frame that was not encoded.

    Raises:
        MediaError: the deadline is over.
    """
    return (packet for packet in all_packets(container, streams, deadline) if packet.size)


def all_packets(
    container: InputContainer, streams: Sequence[Stream], deadline: Deadline
) -> Iterator[Packet[Any]]:
    """The packets of some streams with the empty ones, in the order of the file.

    Raises:
        MediaError: the deadline is over.
    """
    try:
        for packet in container.demux(*streams):
            deadline.check()
            yield packet
    except IndexError:
        # So PyAV ends a file in which more streams turned up than it knew of when it was opened.
        return


class PacketReader:
    """Reads windows of the chosen streams of an open file."""

    def __init__(
        self,
        container: InputContainer,
        chosen: Chosen,
        deadline: Deadline,
        *,
        searching: bool = True,
    ) -> None:
        """Begin with a container of which nothing has been read.

        Args:
            container: the open file.
            chosen: its streams.
            deadline: asked about at every packet.
            searching: whether to seek; otherwise one read is made, from the beginning.
        """
        self._searching = searching
        self._container = container
        self._chosen = chosen
        self._deadline = deadline
        self._untouched = True

    def read(self, video: Window | None, audio: Window | None) -> Packets:
        """Read the packets needed to decode the windows; None for a stream that is not wanted.

        Raises:
            Unsearchable: no seek succeeds, and the file has to be opened anew.
        """
        for back in _STEPS_BACK:
            _ignore(self._chosen.video, video is None)
            _ignore(self._chosen.audio, audio is None)
            from_start = self._seek(video, audio, back)
            if from_start is None:
                continue
            found = self._collect(video, audio, from_start)
            if found is None or (video is not None and not found.video and not from_start):
                continue
            if audio is not None and not found.audio and not from_start and back < _ENDED:
                continue
            return found
        raise Unsearchable

    def _seek(self, video: Window | None, audio: Window | None, back: float) -> bool | None:
        """Go to where the windows begin, or earlier.

        Returns:
            Whether that is the file's beginning; None where the container fails to go there.
        """
        starts = []
        if audio is not None and self._chosen.audio is not None:
            starts.append(audio.first * seconds_per_tick(self._chosen.audio))
        if video is not None and self._chosen.video is not None:
            stream = self._chosen.video
            starts.append(video.first * seconds_per_tick(stream) - _delay(stream))
        target = min(starts) - back
        from_start = target <= self._chosen.zero
        if self._untouched and (from_start or not self._searching):
            return True
        self._untouched = False
        guide = self._guide(by_video=video is not None)
        per_tick = seconds_per_tick(guide)
        # Some containers are searched by decoding times, which may lie before the zero.
        early = self._chosen.zero - _BEFORE_ZERO
        for time in (early, self._chosen.zero) if from_start else (target,):
            try:
                tick = max(-_FARTHEST, min(math.floor(time / per_tick), _FARTHEST))
                self._container.seek(tick, stream=guide)
            except av.FFmpegError:
                continue
            return from_start
        return None

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
        sides: dict[int, _Pictures | _Sounds] = {}
        if video is not None and self._chosen.video is not None:
            sides[self._chosen.video.index] = _Pictures(self._chosen.video, video, from_start)
        if audio is not None and self._chosen.audio is not None:
            sides[self._chosen.audio.index] = _Sounds(self._chosen.audio, audio, from_start)
        streams = [side.stream for side in sides.values()]
        for packet in packets_of(self._container, streams, self._deadline):
            side = sides[packet.stream_index]
            if not side.done:
                side.take(packet)
            if side.late:
                return None
            if side.done and self._is_over(side, packet, sides):
                break
        read = Packets()
        for side in sides.values():
            if isinstance(side, _Pictures):
                read.video = side.kept
            else:
                read.audio = side.kept
        return read

    def _is_over(
        self, side: _Pictures | _Sounds, packet: Packet[Any], sides: dict[int, _Pictures | _Sounds]
    ) -> bool:
        """Whether to stop reading at a packet of a stream that is done.

        While the other stream is far behind, this one tells the time, for the other may have ended.
        """
        for other in sides.values():
            if other.done:
                continue
            if not other.is_near:
                return side.seconds(packet) > other.end + _LAG
            _ignore(side.stream, True)
            return False
        return True


def _ignore(stream: VideoStream | AudioStream | None, ignore: bool) -> None:
    """Have the demuxer pass over a stream's packets, where this PyAV can."""
    if stream is not None and _DISCARD is not None:
        stream.discard = _DISCARD.all if ignore else _DISCARD.default


class _Side:
    """One stream while it is read."""

    def __init__(self, stream: VideoStream | AudioStream, window: Window, from_start: bool) -> None:
        self.stream = stream
        self.kept: list[Packet[Any]] = []
        self.done = False
        self.late = False
        self._window = window
        self._from_start = from_start
        self._tick = seconds_per_tick(stream)
        self._latest: float = -math.inf

    @property
    def end(self) -> float:
        """Where the window ends, in seconds."""
        return self._window.last * self._tick

    @property
    def is_near(self) -> bool:
        """Whether packets have come from about the window on."""
        return self._latest >= self._window.first - _LAG / self._tick

    def seconds(self, packet: Packet[Any]) -> float:
        """The time of a packet, in seconds; −∞ where it does not tell."""
        return -math.inf if packet.pts is None else packet.pts * self._tick


class _Pictures(_Side):
    """Collects video packets from a keyframe on."""

    def take(self, packet: Packet[Any]) -> None:
        """Keep a packet if it matters."""
        pts, dts = packet.pts, packet.dts
        if pts is not None:
            self._latest = pts
        if packet.is_keyframe and pts is not None:
            if pts <= self._window.first:
                self.kept.clear()
            elif not self.kept and not self._from_start:
                self.late = True
        elif not self.kept and not self._from_start:
            return
        self.kept.append(packet)
        if dts is None and pts is not None:
            dts = pts - round(_UNKNOWN_DELAY / self._tick)
        # No later packet can be shown before its own decoding time.
        self.done = dts is not None and dts > self._window.last


class _Sounds(_Side):
    """Collects the audio packets that overlap a window."""

    def take(self, packet: Packet[Any]) -> None:
        """Keep a packet if it matters."""
        pts = packet.pts
        if pts is None:
            self.kept.append(packet)
            return
        if self._latest == -math.inf and not self._from_start:
            start = self.stream.start_time or 0
            self.late = pts > max(self._window.first, start)
        self._latest = pts
        if pts > self._window.last:
            self.done = True
        elif pts + (packet.duration or 1) > self._window.first:
            self.kept.append(packet)


def _delay(stream: VideoStream) -> float:
    """Seconds by which decoding may run ahead of showing."""
    return _REORDERED / float(stream.average_rate or 25)
