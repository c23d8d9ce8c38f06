"""A clip of a large or an unusual file as a small one that any browser plays."""

import io
import tempfile
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.clip_file import Encoding, write_clip
from earsight.media.decode import decode
from earsight.media.probe import probe
from earsight.media.types import AudioRequest, ClipRequest, Limits, MediaInfo, VideoRequest

SECONDS = 5.0
"""Longest preview."""

_SHORT_SIDE = 160
_FPS = 12
_RATE = 16_000
_ENCODING = Encoding(
    fps=_FPS,
    rate=_RATE,
    keyframe_every=_FPS,
    preset="veryfast",
    crf=28,
    audio_bits=48_000,
    audio_coder="fast",
    audio_noise=True,
)
_LIMITS = Limits(seconds=15.0)


def make_preview(path: Path, span: tuple[float, float] | None) -> tuple[bytes, str]:
    """The first seconds of a clip, small: MP4 with H.264 and AAC, or WAV of a sound alone.

    Args:
        path: the file.
        span: seconds into it at which the clip starts and ends; None for the whole file.

    Returns:
        The content and its media type.

    Raises:
        MediaError: the file cannot be read; the message goes on from its name.
    """
    info = probe(path, _LIMITS)
    start, end = span if span is not None else (0.0, info.duration)
    seconds = min(end - start, SECONDS)
    request = ClipRequest(
        path=str(path), video=_pictures(info, start, seconds), audio=_sound(info, start, seconds)
    )
    clip = decode(request, _LIMITS)
    silence = np.zeros(round(seconds * _RATE), np.float32)
    sound = clip.audio[0] if clip.audio else silence
    if not clip.video:
        return _wav(sound), "audio/wav"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "preview.mp4"
        write_clip(file, clip.video[0].transpose(0, 3, 1, 2), sound, _ENCODING)
        return file.read_bytes(), "video/mp4"


def _pictures(info: MediaInfo, start: float, seconds: float) -> tuple[VideoRequest, ...]:
    video = info.video
    if video is None:
        return ()
    scale = min(1.0, _SHORT_SIDE / min(video.width, video.height))
    # H.264 has colour for every second pixel each way.
    height, width = (max(2, 2 * round(scale * x / 2)) for x in (video.height, video.width))
    frames = max(1, round(seconds * _FPS))
    return (VideoRequest(start=start, fps=_FPS, frames=frames, size=(height, width)),)


def _sound(info: MediaInfo, start: float, seconds: float) -> tuple[AudioRequest, ...]:
    if info.audio is None:
        return ()
    return (AudioRequest(start=start, duration=seconds, rate=_RATE),)


def _wav(sound: NDArray[np.float32]) -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return content.getvalue()
