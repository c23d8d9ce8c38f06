"""Which streams of a file are used, and where its time begins."""

from dataclasses import dataclass
from typing import TypeVar

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from earsight.media.open import Unprobed, max_pixels
from earsight.media.types import Limits, MediaError

AnyStream = TypeVar("AnyStream", VideoStream, AudioStream)


_HIGHEST_RATE = 768_000


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The streams of a file that are used.

    Attributes:
        video: None where there is none.
        audio: None where there is none.
        zero: the file's zero on its own clock, in seconds: the earliest start of the two streams.
        videos: how many video streams there are (attached pictures not counted).
        audios: how many audio streams there are.
    """

    video: VideoStream | None
    audio: AudioStream | None
    zero: float
    videos: int
    audios: int


def choose(
    container: InputContainer,
    limits: Limits,
    video_stream: int | None = None,
    audio_stream: int | None = None,
) -> Chosen:
    """Choose the streams: those asked for by container index, else the file's default ones.

    The default is the one stream marked so, else FFmpeg's best (the largest or fullest), else the
    first. Decoders are set to one thread: workers give the parallelism.

    Raises:
        MediaError: an index names no such stream, there is no decoder, or pictures are too large.
    """
    attached = Disposition.attached_pic | Disposition.timed_thumbnails
    videos = [s for s in container.streams.video if not s.disposition & attached]
    audios = list(container.streams.audio)
    video = _pick(container, videos, video_stream)
    audio = _pick(container, audios, audio_stream)
    for stream in (video, audio):
        if stream is None:
            continue
        if stream.codec_context is None:
            raise MediaError(f"has a stream of {stream.type} for which there is no decoder")
        stream.codec_context.thread_count = 1
    if video is not None:
        check_pixels(video.codec_context.width, video.codec_context.height, limits)
        video.codec_context.options = {"max_pixels": max_pixels(limits)}
    return Chosen(
        video=video, audio=audio, zero=_zero(video, audio), videos=len(videos), audios=len(audios)
    )


def check_pixels(width: int, height: int, limits: Limits) -> None:
    """Raise MediaError where a picture is larger than the limit."""
    if width * height > limits.pixels:
        raise MediaError(
            f"has pictures of {width} × {height} pixels, more than the limit of {limits.pixels}"
        )


def check_rate(chosen: Chosen) -> None:
    """Raise MediaError where the sound has a rate that no recording has."""
    if chosen.audio is not None:
        rate = chosen.audio.codec_context.sample_rate
        if not 0 < rate <= _HIGHEST_RATE:
            raise MediaError(f"has sound of {rate} samples per second, which cannot be")


def seconds_per_tick(stream: VideoStream | AudioStream) -> float:
    """The unit of a stream's time stamps, in seconds."""
    if not stream.time_base:
        raise MediaError(f"is damaged: stream {stream.index} has no unit of time")
    return float(stream.time_base)


def check_header(chosen: Chosen) -> None:
    """Raise Unprobed where streams need probing to tell their start, rate and sample grid."""
    for stream in (chosen.video, chosen.audio):
        if stream is not None and stream.start_time is None:
            raise Unprobed
    audio = chosen.audio
    if audio is not None and seconds_per_tick(audio) * audio.codec_context.sample_rate != 1:
        raise Unprobed


def _zero(video: VideoStream | None, audio: AudioStream | None) -> float:
    starts = [
        stream.start_time * seconds_per_tick(stream)
        for stream in (video, audio)
        if stream is not None and stream.start_time is not None
    ]
    return min(starts, default=0.0)


def _pick(
    container: InputContainer, streams: list[AnyStream], wanted: int | None
) -> AnyStream | None:
    if wanted is not None:
        found = [stream for stream in streams if stream.index == wanted]
        if not found:
            have = ", ".join(f"{stream.index} ({stream.type})" for stream in container.streams)
            raise MediaError(f"has no such stream {wanted}; its streams are {have}")
        return found[0]
    if len(streams) > 1:
        streams = [s for s in streams if s.disposition & Disposition.default] or streams
    if len(streams) > 1:
        best = container.streams.best(streams[0].type)
        streams = [stream for stream in streams if stream is best] or streams
    return streams[0] if streams else None
