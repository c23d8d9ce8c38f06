"""What is asked of a file, what comes back, and what is known of it."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CUT_SHORT = "is cut short: "
"""How the note of a file begins that holds less than its header says."""


class MediaError(ValueError):
    """A file that cannot be read; the message goes on from the file's name to say why.

    Attributes:
        passing: whether the system or the time is at fault, so that the file may be read later.
    """

    def __init__(self, reason: str, *, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a file may cost before it is refused.

    Attributes:
        pixels: largest width × height of a picture.
        duration: longest file, in seconds.
        streams: most streams in a container.
        seconds: wall-clock time for one open, probe or decode.
    """

    pixels: int = 8192 * 8192
    duration: float = 24 * 3600.0
    streams: int = 64
    seconds: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Coding:
    """How files made anew by :mod:`earsight.media.transcode` are written.

    Attributes:
        short_side: pixels of the short side at most; smaller pictures keep their size.
        fps: frames per second at most; slower films keep their frames.
        rate: samples per second of the sound.
        keyframe_every: frames from one keyframe to the next.
        crf: constant rate factor of libx264: the higher, the coarser.
        preset: of libx264, between quick and small.
    """

    short_side: int = 256
    fps: float = 16.0
    rate: int = 24_000
    keyframe_every: int = 4
    crf: int = 24
    preset: str = "medium"


@dataclass(frozen=True, kw_only=True)
class VideoRequest:
    """Frames wanted of a file.

    Attributes:
        start: seconds from the file's zero (the earliest start of its streams).
        fps: frames per second wanted; frame ``i`` is the one shown at ``start + i / fps``.
        frames: how many.
        box: ``(x0, y0, x1, y1)`` as fractions of the upright picture.
        size: ``(height, width)`` of the result, in pixels.
        flip: mirror left and right.
    """

    start: float
    fps: float
    frames: int
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    size: tuple[int, int] = (112, 112)
    flip: bool = False


@dataclass(frozen=True, kw_only=True)
class AudioRequest:
    """Sound wanted of a file: ``round(duration * rate)`` mono samples from ``start`` seconds on.

    What lies before the first or after the last sample of the stream is silence. Samples are placed
    on the grid of the rate, counted from the stream's own zero, and rounded to 16 bits.
    """

    start: float
    duration: float
    rate: int


@dataclass(frozen=True, kw_only=True)
class ClipRequest:
    """Everything wanted of one file, read in one pass.

    Attributes:
        path: the file.
        video: pictures wanted (several where several views or clips are).
        audio: sound wanted.
        video_stream: container index of the video stream; None for the default one.
        audio_stream: container index of the audio stream; None for the default one.
    """

    path: str
    video: tuple[VideoRequest, ...] = ()
    audio: tuple[AudioRequest, ...] = ()
    video_stream: int | None = None
    audio_stream: int | None = None


@dataclass(frozen=True, kw_only=True)
class Clip:
    """What a request brought.

    Attributes:
        video: per request ``(T, H, W, 3)`` uint8, RGB; a view of memory laid out as
            ``(3, T, H, W)``, so that ``transpose(3, 0, 1, 2)`` is contiguous.
        audio: per request ``(samples,)`` float32 in [-1, 1), in steps of 16 bits.
    """

    video: tuple[NDArray[np.uint8], ...] = ()
    audio: tuple[NDArray[np.float32], ...] = ()


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Facts of the chosen video stream.

    Attributes:
        stream: container index of the stream.
        codec: its name, such as ``h264``.
        width: upright width in pixels (after rotation).
        height: upright height in pixels (after rotation).
        rotation: degrees, counter-clockwise, by which coded pictures are turned to be upright:
            0, 90, 180 or 270.
        fps: average frames per second.
        frames: number of frames that can be shown (counted from the packets).
        start: seconds from the file's zero to the first frame.
        duration: seconds from the first frame to the end of the last.
        pixel_format: such as ``yuv420p10le``.
        keyframes: times of the keyframes, seconds from the file's zero.
    """

    stream: int
    codec: str
    width: int
    height: int
    rotation: int
    fps: float
    frames: int
    start: float
    duration: float
    pixel_format: str
    keyframes: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """Facts of the chosen audio stream; times in seconds from the file's zero."""

    stream: int
    codec: str
    rate: int
    channels: int
    start: float
    duration: float


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """Facts of a file.

    Attributes:
        duration: seconds from the file's zero to the end of its longest chosen stream.
        video: the chosen video stream, None where there is none.
        audio: the chosen audio stream, None where there is none.
        video_streams: how many video streams there are (attached pictures not counted).
        audio_streams: how many audio streams there are.
        notes: what else is worth telling, such as which of several streams was chosen.
    """

    duration: float
    video: VideoInfo | None
    audio: AudioInfo | None
    video_streams: int = 0
    audio_streams: int = 0
    notes: tuple[str, ...] = field(default=())
