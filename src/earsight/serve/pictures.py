"""A small picture of a moment: its middle frame, or the outline of its sound."""

from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from earsight.media.decode import decode
from earsight.media.types import AudioRequest, ClipRequest, Limits, MediaError, VideoRequest
from earsight.search.index import Index
from earsight.serve.library import File
from earsight.serve.limits import RefusedError

_WIDTH = 360
_LARGEST = 480
_BARS = 90
_RATE = 8000
_LONGEST = 30.0
_LIMITS = Limits(seconds=10.0)
_QUALITY = 4


def picture(index: Index, file: File, item: int) -> tuple[str, bytes]:
    """Type and bytes of a moment's picture.

    Raises:
        RefusedError: the file is gone, leads out of its root, or cannot be decoded.
    """
    path = str(file.locate())
    start, end = float(index.start[item]), float(index.end[item])
    try:
        if file.video_stream is not None and file.size[0]:
            return "image/jpeg", _frame(path, file, (start + end) / 2)
        return "image/svg+xml", _outline(path, file, start, end)
    except MediaError as error:
        raise RefusedError(404, f"The file {error}.") from error


def _frame(path: str, file: File, at: float) -> bytes:
    height, width = file.size
    scale = min(_WIDTH / width, _LARGEST / height, 1.0)
    size = max(2, round(height * scale / 2) * 2), max(2, round(width * scale / 2) * 2)
    request = VideoRequest(start=at, fps=1.0, frames=1, size=size)
    clip = decode(ClipRequest(path=path, video=(request,), video_stream=file.video_stream), _LIMITS)
    return _jpeg(clip.video[0][0])


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """``(H, W, 3)`` as a JPEG."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    coder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(coder, av.VideoCodecContext)
    coder.width, coder.height = frame.width, frame.height
    coder.pix_fmt, coder.time_base = "yuvj420p", Fraction(1, 25)
    coder.options = {"qmin": str(_QUALITY), "qmax": str(_QUALITY)}
    packets = [*coder.encode(frame.reformat(format="yuvj420p")), *coder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def _outline(path: str, file: File, start: float, end: float) -> bytes:
    """The largest level of each of some stretches, as bars."""
    seconds = min(max(end - start, 0.1), _LONGEST)
    request = AudioRequest(start=start, duration=seconds, rate=_RATE)
    clip = decode(ClipRequest(path=path, audio=(request,), audio_stream=file.audio_stream), _LIMITS)
    parts = np.array_split(np.abs(clip.audio[0]), _BARS)
    levels = np.array([part.max(initial=0.0) for part in parts])
    heights = np.maximum(1.0, 42 * np.sqrt(levels))
    bars = "".join(
        f'<rect x="{15 + 3.7 * at:.1f}" y="{51 - height:.1f}" width="2.2" '
        f'height="{2 * height:.1f}" rx="1.1"/>'
        for at, height in enumerate(heights.tolist())
    )
    text = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 360 102">'
        f'<rect width="360" height="102" fill="#0c3036"/><g fill="#6cc9d3">{bars}</g></svg>'
    )
    return text.encode()
