"""The facts of a file, from its packets and the first frame of each stream."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from earsight.media.ending import cut_short, seconds_told
from earsight.media.open import Deadline, check_duration, open_media
from earsight.media.packets import all_packets
from earsight.media.picture import orientation_of
from earsight.media.streams import Chosen, check_pixels, check_rate, choose, seconds_per_tick
from earsight.media.types import AudioInfo, Limits, MediaError, MediaInfo, VideoInfo

_LARGE = 64 * 2**20
"""Bytes above which the index stands in for the packets."""


def probe(path: str | os.PathLike[str], limits: Limits | None = None) -> MediaInfo:
    """Read what there is to know of a file, without decoding more than it takes.

    All packets of the chosen streams are read, and the first frame of each is decoded, so that a
    file without a usable decoder is found out here. Of a large file with an index of all packets
    (MP4), the index is read instead; keyframe times are then exact to within the reordering of
    frames. A file that ends well before the time in its header gets a note.

    Args:
        path: the file.
        limits: what the file may cost.

    Returns:
        The facts; times count from the file's zero, the earliest start of the chosen streams.

    Raises:
        MediaError: the file cannot be opened, holds neither pictures nor sound, or a chosen stream
            cannot be decoded.
    """
    limits = limits or Limits()
    deadline = Deadline(limits.seconds)
    with open_media(path, limits) as container:
        chosen = choose(container, limits)
        if chosen.video is None and chosen.audio is None:
            raise MediaError("holds neither pictures nor sound")
        check_rate(chosen)
        streams = [stream for stream in (chosen.video, chosen.audio) if stream is not None]
        for stream in streams:
            check_complete(stream, container.size)
        indexed = container.size > _LARGE and all(_is_indexed(stream) for stream in streams)
        told = seconds_told(container, path)
        # What other streams hold matters to the end that a header tells, and to nothing else.
        read = list(container.streams) if told else streams
        tallies, reached = _read(container, streams, read, deadline, head_only=indexed)
        if indexed:
            for stream in streams:
                _count_index(tallies[stream.index], stream)
        video = audio = None
        if chosen.video is not None:
            video = _video_info(chosen.video, tallies[chosen.video.index], chosen.zero, limits)
        if chosen.audio is not None:
            audio = _audio_info(chosen.audio, tallies[chosen.audio.index], chosen.zero)
        seconds = max(info.start + info.duration for info in (video, audio) if info is not None)
        # The header may have told less, or nothing.
        check_duration(seconds, limits)
        return MediaInfo(
            duration=seconds,
            video=video,
            audio=audio,
            video_streams=chosen.videos,
            audio_streams=chosen.audios,
            notes=(*_notes(chosen), *([] if indexed else cut_short(told, reached))),
        )


def check_complete(stream: Any, size: int) -> None:
    """Raise MediaError where a stream's index points past the end of the file.

    Only MP4 and its kin have an index from the start (and PyAV shows it from version 17 on).
    """
    entries = getattr(stream, "index_entries", ())
    end = max((entry.pos + entry.size for entry in entries), default=0)
    if end > size:
        raise MediaError(
            f"is cut short: it has {size} bytes, but its index reaches to {end}; copy it again"
        )


@dataclass
class _Tally:
    """What the packets of a stream tell; times in ticks."""

    times: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    end: int | None = None
    packets: int = 0
    frame: Any = None


def _read(
    container: InputContainer,
    streams: Sequence[VideoStream | AudioStream],
    read: Sequence[Stream],
    deadline: Deadline,
    *,
    head_only: bool,
) -> tuple[dict[int, _Tally], float]:
    """Read all packets of the streams ``read``, or those up to each stream's first frame.

    Returns:
        What each of ``streams`` tells, and the seconds on the file's clock at which the last
        packet that was read ends.
    """
    tallies = {stream.index: _Tally() for stream in streams}
    reached = 0.0
    for packet in all_packets(container, read, deadline):
        reached = max(reached, _end_of(packet))
        tally = tallies.get(packet.stream_index)
        if tally is None or not packet.size:
            continue
        if tally.frame is None:
            tally.frame = _first_frame(container.streams[packet.stream_index], packet)
        _count(tally, packet)
        if head_only and all(tally.frame is not None for tally in tallies.values()):
            break
    for stream in streams:
        tally = tallies[stream.index]
        if tally.frame is None and tally.packets:
            tally.frame = next(iter(stream.codec_context.decode(None)), None)
    return tallies, reached


def _end_of(packet: Packet[Any]) -> float:
    """Seconds on the file's clock at which a packet ends; 0 where it does not tell."""
    time = packet.pts if packet.pts is not None else packet.dts
    if time is None or not packet.time_base:
        return 0.0
    return float((time + (packet.duration or 0)) * packet.time_base)


def _first_frame(stream: Any, packet: Packet[Any]) -> VideoFrame | AudioFrame | None:
    try:
        return next(iter(stream.codec_context.decode(packet)), None)
    except av.error.InvalidDataError:
        # A recording may begin amid data that refers to what came before it.
        return None


def _count(tally: _Tally, packet: Packet[Any]) -> None:
    tally.packets += 1
    time = packet.pts if packet.pts is not None else packet.dts
    if packet.is_discard or time is None:
        return
    tally.times.append(time)
    if packet.is_keyframe:
        tally.keys.append(time)
    end = time + (packet.duration or 0)
    tally.end = end if tally.end is None else max(tally.end, end)


def _is_indexed(stream: VideoStream | AudioStream) -> bool:
    """Whether the index holds every packet, and the times that make up for reading them."""
    entries = getattr(stream, "index_entries", ())
    return len(entries) >= stream.frames > 0 and bool(stream.duration)


def _count_index(tally: _Tally, stream: VideoStream | AudioStream) -> None:
    """Count from the index, whose times are those of decoding, instead of from packets."""
    shown = [entry for entry in stream.index_entries if not entry.is_discard]
    keys = [entry.timestamp for entry in shown if entry.is_keyframe]
    start = stream.start_time or 0
    shift = tally.keys[0] - keys[0] if tally.keys and keys else 0
    tally.times = [entry.timestamp + shift for entry in shown]
    tally.keys = [key + shift for key in keys]
    tally.end = start + (stream.duration or 0)


def _video_info(stream: VideoStream, tally: _Tally, zero: float, limits: Limits) -> VideoInfo:
    frame = tally.frame
    if frame is None:
        raise MediaError("has a video stream of which no frame can be decoded")
    check_pixels(frame.width, frame.height, limits)
    tick = seconds_per_tick(stream)
    first = frame.pts if frame.pts is not None else min(tally.times, default=0)
    times = sorted(time for time in tally.times if time >= first)
    frames = max(len(times), 1)
    seconds = _seconds_shown(stream, tally, first, times, tick)
    turned = orientation_of(frame).transpose
    return VideoInfo(
        stream=stream.index,
        codec=stream.codec_context.name,
        width=frame.height if turned else frame.width,
        height=frame.width if turned else frame.height,
        rotation=orientation_of(frame).rotation,
        fps=_rate(stream, frames, seconds),
        frames=frames,
        start=first * tick - zero,
        duration=seconds,
        pixel_format=frame.format.name,
        keyframes=tuple(sorted(key * tick - zero for key in tally.keys if key >= first)),
    )


def _seconds_shown(
    stream: VideoStream, tally: _Tally, first: int, times: list[int], tick: float
) -> float:
    """From the first frame to the end of the last; a last frame of no length gets the usual one."""
    if not times or tally.end is None:
        return 0.0
    if tally.end > times[-1]:
        return (tally.end - first) * tick
    usual = float(1 / stream.average_rate) if stream.average_rate else 0.0
    return (times[-1] - first) * tick + usual


def _rate(stream: VideoStream, frames: int, seconds: float) -> float:
    """Average frames per second: as declared where the frames bear that out, else as counted."""
    declared = float(stream.average_rate or 0)
    counted = frames / seconds if seconds > 0 else 0.0
    if frames > 1 and counted and not 0.98 < declared / counted < 1.02:
        return counted
    return declared or counted


def _audio_info(stream: AudioStream, tally: _Tally, zero: float) -> AudioInfo:
    frame = tally.frame
    if frame is None:
        raise MediaError("has an audio stream of which nothing can be decoded")
    tick = seconds_per_tick(stream)
    first = frame.pts if frame.pts is not None else min(tally.times, default=0)
    end = first if tally.end is None else max(tally.end, first)
    return AudioInfo(
        stream=stream.index,
        codec=stream.codec_context.name,
        rate=frame.sample_rate,
        channels=frame.layout.nb_channels,
        start=first * tick - zero,
        duration=max((end - first) * tick, frame.samples / frame.sample_rate),
    )


def _notes(chosen: Chosen) -> tuple[str, ...]:
    notes = []
    if chosen.video is not None and chosen.videos > 1:
        notes.append(f"stream {chosen.video.index} chosen of {chosen.videos} video streams")
    if chosen.audio is not None and chosen.audios > 1:
        notes.append(f"stream {chosen.audio.index} chosen of {chosen.audios} audio streams")
    return tuple(notes)
