"""Pictures and sound that are in memory already, cut into the clips that encoders take."""

from fractions import Fraction

import av
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from earsight.config import AudioConfig, VideoConfig
from earsight.corpus.requests import EVALUATION_CROP

_RATES = (1000, 384_000)
_CHANNELS = 64


def as_pictures(pictures: ArrayLike | Tensor) -> Tensor:
    """Pictures ``(T, H, W, 3)`` uint8, RGB, of the same memory where that can be.

    Raises:
        ValueError: they are of another shape or type, or none.
    """
    frames = torch.as_tensor(np.asarray(pictures) if not isinstance(pictures, Tensor) else pictures)
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != torch.uint8 or not len(frames):
        raise ValueError(
            f"pictures must be (T, H, W, 3) uint8, at least one, not {tuple(frames.shape)} "
            f"{str(frames.dtype).removeprefix('torch.')}"
        )
    return frames


def as_sound(sound: ArrayLike | Tensor) -> NDArray[np.float32]:
    """Sound ``(samples,)`` float32: channels are averaged, signed integers become [-1, 1).

    Args:
        sound: ``(samples,)`` or ``(channels, samples)``, floats in [-1, 1] or signed integers of
            full scale, such as 16-bit PCM.

    Raises:
        ValueError: it is of another shape or type, not finite, or none.
    """
    found = np.asarray(sound.detach().cpu() if isinstance(sound, Tensor) else sound)
    if found.dtype.kind not in "fi":
        raise ValueError(
            f"sound must be floats in [-1, 1] or signed integers, not {found.dtype}; give floats"
        )
    if found.ndim == 2 and len(found) > min(found.shape[1], _CHANNELS):
        raise ValueError(
            f"sound of shape {found.shape} would have {len(found)} channels; give "
            "(channels, samples), transposed"
        )
    scale = np.iinfo(found.dtype).max + 1.0 if found.dtype.kind == "i" else 1.0
    wave = (found / scale).astype(np.float32)
    wave = wave.mean(axis=0) if wave.ndim == 2 else wave
    if wave.ndim != 1 or not len(wave) or not np.isfinite(wave).all():
        raise ValueError(
            "sound must be (samples,) or (channels, samples), finite numbers in [-1, 1]"
        )
    return wave


def video_clips(
    frames: Tensor,
    fps: float,
    starts: NDArray[np.float64],
    seconds: float,
    config: VideoConfig,
) -> Tensor:
    """A clip from the middle of each window: ``(W, 3, T, size, size)`` uint8.

    Args:
        frames: ``(T, H, W, 3)`` uint8, RGB, as of :func:`as_pictures`.
        fps: how many of them a second has.
        starts: ``(W,)`` seconds at which windows begin.
        seconds: their length.
        config: what a clip is.
    """
    first = _within(starts + seconds / 2 - config.duration / 2, len(frames) / fps, config.duration)
    at = first[:, None] + np.arange(config.frames) / config.fps
    places = np.clip(np.floor(at * fps + 1e-6).astype(np.int64), 0, len(frames) - 1)
    side = round(EVALUATION_CROP * min(frames.shape[1:3]))
    top, left = ((size - side) // 2 for size in frames.shape[1:3])
    cut = frames[:, top : top + side, left : left + side]
    return torch.stack([_resized(cut[torch.from_numpy(one)], config.size) for one in places])


def audio_clips(
    wave: NDArray[np.float32],
    rate: int,
    starts: NDArray[np.float64],
    seconds: float,
    config: AudioConfig,
) -> Tensor:
    """The sound from the middle of each window: ``(W, samples)`` float32, silence beyond the ends.

    Args:
        wave: ``(samples,)``, as of :func:`as_sound`.
        rate: samples per second.
        starts: ``(W,)`` seconds at which windows begin.
        seconds: their length.
        config: what a clip is.

    Raises:
        ValueError: no sound has such a rate.
    """
    if not _RATES[0] <= rate <= _RATES[1]:
        raise ValueError(f"rate: {rate} samples a second cannot be; give that of the sound")
    length = len(wave) / rate
    own = resampled(wave, rate, config.rate)
    count = round(config.duration * config.rate)
    first = _within(starts + seconds / 2 - config.duration / 2, length, config.duration)
    clips = np.zeros((len(starts), count), np.float32)
    for clip, start in zip(clips, np.round(first * config.rate).astype(np.int64), strict=True):
        part = own[start : start + count]
        clip[: len(part)] = part
    return torch.from_numpy(clips)


def resampled(wave: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    """Sound at another rate, by libswresample, as that of files is."""
    if rate == wanted:
        return wave
    resampler = av.AudioResampler(format="flt", layout="mono", rate=wanted)
    frame = av.AudioFrame.from_ndarray(wave[None], format="flt", layout="mono")
    frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([one.to_ndarray()[0] for one in frames]).astype(np.float32)


def _within(first: NDArray[np.float64], length: float, wanted: float) -> NDArray[np.float64]:
    """Starts moved as little as needed for clips to lie within the whole."""
    return np.clip(first, 0.0, max(0.0, length - wanted))


def _resized(frames: Tensor, size: int) -> Tensor:
    """``(T, H, W, 3)`` to ``(3, T, size, size)`` uint8."""
    small = F.interpolate(
        frames.permute(0, 3, 1, 2).float(), (size, size), mode="bilinear", antialias=True
    )
    return small.round().clamp(0, 255).to(torch.uint8).transpose(0, 1)
