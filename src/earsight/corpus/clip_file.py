"""Pictures and sound as an MP4 file with H.264 and AAC streams."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a clip becomes a file.

    Attributes:
        fps: pictures per second.
        rate: samples per second.
        keyframe_every: pictures from one keyframe to the next.
        preset: of libx264, between quick and small.
        tune: of libx264; empty for none.
        crf: constant rate factor of libx264: the higher, the coarser.
        audio_bits: of the sound, per second.
        audio_coder: of libav's AAC: ``fast`` takes a quarter of the time of ``twoloop``.
        audio_noise: let AAC fill bands with noise, which decoders draw as they go: what is heard
            then depends a little on where decoding began.
    """

    fps: int
    rate: int
    keyframe_every: int
    preset: str
    tune: str = ""
    crf: int
    audio_bits: int
    audio_coder: str
    audio_noise: bool


def write_clip(
    path: Path, pictures: NDArray[np.uint8], sound: NDArray[np.float32], encoding: Encoding
) -> None:
    """Write an MP4 file with H.264 pictures and AAC sound.

    The same input gives the same bytes.

    Args:
        path: of the file; its folder exists.
        pictures: ``(T, 3, H, W)`` RGB; height and width are even.
        sound: ``(samples,)`` mono, in [-1, 1].
        encoding: rates and codec settings.
    """
    height, width = pictures.shape[2:]
    keyframes, fps, rate = encoding.keyframe_every, encoding.fps, encoding.rate
    # With several threads, or with macroblock trees where pictures are small, bytes vary by run.
    settings = f"keyint={keyframes}:min-keyint={keyframes}:scenecut=0:threads=1:mbtree=0"
    options = {"preset": encoding.preset, "crf": str(encoding.crf), "x264-params": settings}
    if encoding.tune:
        options["tune"] = encoding.tune
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=fps, options=options)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.thread_count = 1
        coder = {"aac_coder": encoding.audio_coder, "aac_pns": str(int(encoding.audio_noise))}
        audio = container.add_stream("aac", rate=rate, layout="mono", options=coder)
        audio.bit_rate = encoding.audio_bits
        for number, planes in enumerate(to_yuv420(pictures)):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        samples.sample_rate, samples.pts, samples.time_base = rate, 0, Fraction(1, rate)
        container.mux(audio.encode(samples))
        container.mux(audio.encode(None))


def to_yuv420(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB to planar YUV with colour at half size (ITU-R BT.601, limited range).

    Args:
        pictures: ``(T, 3, H, W)``, height and width even.

    Returns:
        ``(T, 3·H/2, W)``: luma, then both colour planes, as libav lays them out.
    """
    count, _, height, width = pictures.shape
    rgb = pictures.astype(np.float32)
    luma = _LUMA @ rgb.reshape(count, 3, -1)
    halves = rgb.reshape(count, 3, height // 2, 2, width // 2, 2)
    small = (
        halves[..., 0, :, 0] + halves[..., 0, :, 1] + halves[..., 1, :, 0] + halves[..., 1, :, 1]
    ) / 4
    colour = _CHROMA @ small.reshape(count, 3, -1)
    planes = np.concatenate((luma.reshape(count, -1) + 16, colour.reshape(count, -1) + 128), axis=1)
    return np.round(planes).astype(np.uint8).reshape(count, height * 3 // 2, width)


_RED, _BLUE = 0.299, 0.114
_WEIGHTS = np.array([_RED, 1 - _RED - _BLUE, _BLUE])
_LUMA = (219 / 255 * _WEIGHTS[None]).astype(np.float32)
_CHROMA = (
    224
    / 255
    * np.array(
        [(np.eye(3)[2] - _WEIGHTS) / (2 - 2 * _BLUE), (np.eye(3)[0] - _WEIGHTS) / (2 - 2 * _RED)]
    )
).astype(np.float32)
