"""Which codecs decode here: tried on a few frames, where they can be encoded, too."""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from earsight.doctor.check import Check

FRAMES = 5
SIZE = 64
RATE = 48_000


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A codec.

    Attributes:
        name: as people call it.
        decoder: FFmpeg's name of what is decoded.
        encoder: of what makes something to try it on; there may be none here.
        sound: whether it is of sound.
        needed: whether earsight is of little use without it.
    """

    name: str
    decoder: str
    encoder: str
    sound: bool = False
    needed: bool = False


CODECS = (
    Codec(name="H.264", decoder="h264", encoder="libx264", needed=True),
    Codec(name="HEVC", decoder="hevc", encoder="libx265"),
    Codec(name="VP8", decoder="vp8", encoder="libvpx"),
    Codec(name="VP9", decoder="vp9", encoder="libvpx-vp9"),
    Codec(name="AV1", decoder="av1", encoder="libsvtav1"),
    Codec(name="MPEG-4 part 2", decoder="mpeg4", encoder="mpeg4"),
    Codec(name="MPEG-2", decoder="mpeg2video", encoder="mpeg2video"),
    Codec(name="Motion JPEG", decoder="mjpeg", encoder="mjpeg"),
    Codec(name="AAC", decoder="aac", encoder="aac", sound=True, needed=True),
    Codec(name="Opus", decoder="opus", encoder="libopus", sound=True),
    Codec(name="MP3", decoder="mp3", encoder="libmp3lame", sound=True),
    Codec(name="Vorbis", decoder="vorbis", encoder="libvorbis", sound=True),
    Codec(name="FLAC", decoder="flac", encoder="flac", sound=True),
    Codec(name="AC-3", decoder="ac3", encoder="ac3", sound=True),
    Codec(name="PCM", decoder="pcm_s16le", encoder="pcm_s16le", sound=True, needed=True),
)

_SVT_LOG = "SVT_LOG"
_REMEDY = "install PyAV from its own wheel: pip install --force-reinstall --only-binary :all: av"


def codecs(wanted: Sequence[Codec] = CODECS) -> Iterator[Check]:
    """Each codec, whether it decodes."""
    for codec in wanted:
        yield _check(codec)


def _check(codec: Codec) -> Check:
    fault, tried = try_codec(codec)
    if not fault:
        text = "decodes" if tried else "has a decoder (not tried: nothing here encodes it)"
        return Check(
            group="codecs", name=codec.name, text=text, figures={"decodes": True, "tried": tried}
        )
    kind = "sound" if codec.sound else "pictures"
    return Check(
        group="codecs",
        name=codec.name,
        status="broken" if codec.needed else "lacking",
        text=f"{fault}: files with such {kind} cannot be used",
        remedy=_REMEDY,
        figures={"decodes": False, "tried": tried},
    )


def try_codec(codec: Codec) -> tuple[str, bool]:
    """What is wrong with a codec, or nothing; and whether it was tried on frames."""
    if not _has(codec.decoder, "r"):
        return "there is no decoder", False
    if not _has(codec.encoder, "w"):
        return "", False
    try:
        content = _encode(codec)
    except (av.FFmpegError, ValueError, OSError):
        # An encoder that does not work says nothing of the decoder.
        return "", False
    try:
        found = _decode(codec, content)
    except (av.FFmpegError, ValueError, OSError) as error:
        return f"does not decode ({error})", True
    return ("" if found else "decodes to nothing"), True


def _has(name: str, mode: Any) -> bool:
    try:
        av.Codec(name, mode)
    except ValueError:
        return False
    return True


def _encode(codec: Codec) -> io.BytesIO:
    content = io.BytesIO()
    with _quiet(), _priority_kept(), av.open(content, "w", format="matroska") as container:
        stream: Any
        frames: Iterator[Any]
        if codec.sound:
            stream = container.add_stream(codec.encoder, rate=RATE, layout="mono")
            frames = _tones()
        else:
            options = {"x265-params": "log-level=none"} if codec.encoder == "libx265" else {}
            stream = container.add_stream(codec.encoder, rate=25, options=options)
            stream.width = stream.height = SIZE
            stream.pix_fmt = "yuvj420p" if codec.encoder == "mjpeg" else "yuv420p"
            frames = _pictures()
        for frame in [*frames, None]:
            container.mux(stream.encode(frame))
    content.seek(0)
    return content


@contextmanager
def _priority_kept() -> Iterator[None]:
    """SVT-AV1, where it may, has the whole process go before all others, for good: undo that."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    process = os.getpid()
    policy, priority = os.sched_getscheduler(process), os.sched_getparam(process)
    try:
        yield
    finally:
        os.sched_setscheduler(process, policy, priority)


@contextmanager
def _quiet() -> Iterator[None]:
    """Have SVT-AV1, which writes to the terminal by itself, keep to its errors."""
    before = os.environ.get(_SVT_LOG)
    os.environ[_SVT_LOG] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SVT_LOG]
        else:
            os.environ[_SVT_LOG] = before


def _pictures() -> Iterator[av.VideoFrame]:
    ramp = np.add.outer(np.arange(SIZE), np.arange(SIZE)).astype(np.uint8)
    for number in range(FRAMES):
        frame = av.VideoFrame.from_ndarray(np.stack([ramp + 9 * number] * 3, axis=2))
        frame.pts, frame.time_base = number, Fraction(1, 25)
        yield frame


def _tones() -> Iterator[av.AudioFrame]:
    seconds = np.arange(RATE // 5) / RATE
    wave = (0.3 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
    yield frame


def _decode(codec: Codec, content: io.BytesIO) -> int:
    """How many frames of the stream are decoded."""
    with av.open(content, "r", format="matroska") as container:
        streams: Any = container.streams.audio if codec.sound else container.streams.video
        return sum(1 for _ in container.decode(streams[0]))
