"""Pictures to network inputs: photometric changes, one draw per clip, and normalisation.

The changes are those of the usual colour jitter, with four decisions of ours:

- The order is fixed: brightness, contrast, saturation, hue. (Published code draws the order.)
- The first three are affine in RGB and are composed into one map per clip; values are clamped to
  [0, 1] once, after it, so that what a brighter clip pushes over the edge a weaker contrast can
  bring back. (Published code clamps after each.)
- Contrast is taken about the mean gray of the whole clip. (Published code: of each frame.)
- A gray clip is one whose saturation factor is 0; hue then changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight import random
from earsight.config import VideoConfig
from earsight.transforms.draws import Index, as_array, between, check_count, to_device
from earsight.transforms.video_fused import IMAGENET_MEAN, IMAGENET_STD, LUMA, PEAKS, compiled

_CPU_PIXELS = 2**18
"""Pixels worked on at a time: their planes stay in a core's cache."""
_DEVICE_PIXELS = 2**25
"""The same elsewhere, where large kernels pay and only memory limits."""


@dataclass(frozen=True, kw_only=True)
class _Change:
    """What becomes of each clip, ``(B,)`` each: ``scale·x + blend·gray(x) + offset·gray(mean)``."""

    scale: Tensor
    blend: Tensor
    offset: Tensor
    turn: Tensor


def normalise(
    video: Tensor, *, memory_format: torch.memory_format = torch.preserve_format
) -> Tensor:
    """Scale to [0, 1], then to zero mean and unit deviation over ImageNet.

    Args:
        video: ``(B, 3, T, H, W)`` uint8, in any memory format.
        memory_format: of the result; by default the input's.

    Returns:
        ``(B, 3, T, H, W)`` float32, on the input's device.

    Raises:
        ValueError: the input is not uint8 of that shape.
    """
    _check(video)
    result = torch.empty_like(video, dtype=torch.float32, memory_format=memory_format)
    for clips, frames in _pieces(video):
        source, out = video[clips, :, frames], result[clips, :, frames]
        out.copy_(source)
        rows, scale, offset = _rows(out)
        rows.mul_(scale).add_(offset)
    return result


def augment(
    video: Tensor,
    config: VideoConfig,
    *,
    seed: int,
    index: Index,
    view: int,
    memory_format: torch.memory_format = torch.preserve_format,
    fused: bool = False,
) -> Tensor:
    """Change the colours of each clip, the same for all its frames, and normalise.

    Brightness multiplies by ``b``, contrast moves away from the clip's mean gray by ``c``,
    saturation away from each pixel's gray by ``s`` (factors from ``1 − x`` to ``1 + x``); hue
    turns by up to ``±hue`` of the circle, in HSV exactly. What has strength 0 costs nothing. A
    clip's result depends on its own pixels and index only.

    Args:
        video: ``(B, 3, T, H, W)`` uint8, in any memory format.
        config: strengths; its geometric settings are the loader's.
        seed: the run's seed.
        index: ``(B,)`` global sample indices.
        view: number of the view.
        memory_format: of the result; by default the input's.
        fused: by compiled code, equal but for rounding; needs a compiler.

    Returns:
        ``(B, 3, T, H, W)`` float32, normalised as by :func:`normalise`.

    Raises:
        ValueError: the input is not uint8 of that shape, or ``index`` not one per clip.
    """
    _check(video)
    check_count(index, len(video))
    if not config.recoloured:
        return normalise(video, memory_format=memory_format)
    change = _draw(config, seed, as_array(index), view, video.device)
    if fused:
        return _fused(video, change, config, memory_format)
    result = torch.empty_like(video, dtype=torch.float32, memory_format=memory_format)
    colours = bool(config.saturation or config.grayscale)
    gray = torch.zeros(len(video), device=video.device)
    for clips, frames in _pieces(video):
        if config.contrast and frames.start == 0:
            gray[clips] = _mean_gray(video[clips])
        x = _planes(video[clips, :, frames])
        _mix(x, change, gray, clips, colours=colours)
        if config.hue:
            _rotate(x, change.turn[clips, None])
        _store(x, result[clips, :, frames])
    return result


@torch.no_grad()
def _fused(
    video: Tensor, change: _Change, config: VideoConfig, memory_format: torch.memory_format
) -> Tensor:
    """The same by compiled code. (With or without gradients is one code: there are none.)"""
    if memory_format == torch.preserve_format:
        planar = torch.contiguous_format
        memory_format = torch.channels_last_3d if video.stride(1) == 1 else planar
    return compiled()(
        video,
        **vars(change),
        contrast=bool(config.contrast),
        hue=bool(config.hue),
        words=_in_words(video),
        memory_format=memory_format,
    )


def _in_words(video: Tensor) -> bool:
    """Whether each picture's bytes can be taken for words of 32 bits."""
    height, width = video.shape[3:]
    whole = height * width % 4 == 0 and video.storage_offset() % 4 == 0
    return whole and video.is_contiguous()


def _check(video: Tensor) -> None:
    if video.dtype != torch.uint8 or video.dim() != 5 or video.shape[1] != 3:
        raise ValueError(
            f"video: is {video.dtype} of shape {tuple(video.shape)}; "
            "give uint8 pictures as (B, 3, T, H, W)"
        )


def _draw(
    config: VideoConfig, seed: int, index: NDArray[np.int64], view: int, device: torch.device
) -> _Change:
    """The composed change: with ``y = b·x``, ``y' = c·y + (1−c)·m``, ``s·y' + (1−s)·gray(y')``."""

    def around(centre: float, strength: float, purpose: str) -> NDArray[np.float64]:
        if strength == 0:
            return np.full(len(index), centre)
        low, high = centre - strength, centre + strength
        return between(low, high, purpose, seed=seed, index=index, view=view)

    b = around(1, config.brightness, "brightness")
    c = around(1, config.contrast, "contrast")
    s = around(1, config.saturation, "saturation")
    if config.grayscale:
        s[random.uniform(seed, "grayscale", index, view) < config.grayscale] = 0
    turn = around(0, config.hue, "hue")
    table = np.stack([b * c * s / 255, b * c * (1 - s) / 255, (1 - c) * b, turn])
    rows = to_device(table, device, torch.float32)
    return _Change(scale=rows[0], blend=rows[1], offset=rows[2], turn=rows[3])


def _pieces(video: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of clips and of frames to work on together; on the CPU, never of two clips.

    So a clip's arithmetic does not depend on which others share its batch.
    """
    batch, _, total, height, width = video.shape
    pixels = height * width
    if video.device.type == "cpu":
        clips, frames = 1, max(1, _CPU_PIXELS // pixels)
    else:
        clips, frames = max(1, _DEVICE_PIXELS // (pixels * total)), total
    for first in range(0, batch, clips):
        for start in range(0, total, frames):
            yield slice(first, first + clips), slice(start, start + frames)


def _rows(out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A view of a piece, with scale and offset that broadcast to it along long inner rows."""
    std = np.array(IMAGENET_STD)
    constants = np.stack([1 / (255 * std), -np.array(IMAGENET_MEAN) / std])
    scale, offset = to_device(constants, out.device, torch.float32)
    last = out.permute(0, 2, 3, 4, 1)
    if last.stride()[-2:] == (3, 1):
        # rows of three would not vectorise: take picture rows, with the constants repeated
        width = last.shape[3]
        return last.flatten(3), scale.repeat(width), offset.repeat(width)
    return out, scale.view(3, 1, 1, 1), offset.view(3, 1, 1, 1)


def _mean_gray(video: Tensor) -> Tensor:
    """Mean gray of each clip in [0, 1], ``(b,)``, from whole-number sums (so exact)."""
    pixels = video[0, 0].numel()
    last = video.permute(0, 2, 3, 4, 1)
    if last.stride()[-2:] == (3, 1):
        # picture rows first: sums over rows of three would not vectorise
        columns = last.flatten(3).sum((1, 2), dtype=torch.int64)
        sums = columns.view(len(video), -1, 3).sum(1)
    else:
        sums = video.sum((2, 3, 4), dtype=torch.int64)
    r, g, b = sums.to(torch.float32).unbind(1)
    return (r * LUMA[0] + g * LUMA[1] + b * LUMA[2]) / (255 * pixels)


def _planes(source: Tensor) -> Tensor:
    """Pixels of a piece as contiguous planes: ``(3, b, t·H·W)`` float32."""
    b, channels, t, height, width = source.shape
    planes = source.transpose(0, 1)
    if source.stride(1) == 1:
        # pixel by pixel: taken apart faster as bytes than as floats
        planes = torch.stack(planes.unbind())
    x = torch.empty((channels, b, t, height, width), device=source.device)
    return x.copy_(planes).flatten(2)


def _mix(x: Tensor, change: _Change, gray: Tensor, clips: slice, *, colours: bool) -> None:
    """Brightness, contrast and saturation at once, in place, then the clamp to [0, 1]."""
    offset = (change.offset[clips] * gray[clips])[:, None]
    if not colours:
        x.mul_(change.scale[clips, None]).add_(offset).clamp_(0, 1)
        return
    weights = [change.blend[clips, None] * part for part in LUMA]
    level = (x[0] * weights[0]).addcmul_(x[1], weights[1]).addcmul_(x[2], weights[2])
    torch.addcmul(level.add_(offset), x, change.scale[clips, None], out=x).clamp_(0, 1)


def _rotate(x: Tensor, turn: Tensor) -> None:
    """Turn the hue of planes ``(3, b, n)`` by ``turn (b, 1)``, in place: HSV without branches.

    With the sextant ``h ∈ [0, 6)``, ``value = max`` and ``chroma = max − min``, a channel of peak
    ``p`` is ``value − chroma·clamp(d − 1, 0, 1)``, ``d`` the distance from ``h`` to ``p`` round
    the circle. The other way, ``(g + b − r − min)/chroma + 1`` is ``h`` where ``g ≥ b`` and
    ``6 − h`` elsewhere, so it is ``±h`` modulo 6. Here hue is in turns, a sixth of that.
    """
    r, g, b = x
    value = torch.maximum(r, g)
    torch.maximum(value, b, out=value)
    low = torch.minimum(r, g)
    torch.minimum(low, b, out=low)
    chroma = value - low
    value.add_(chroma)
    # six times the chroma; a gray pixel has none, and 0 / tiny for a hue that makes no difference
    chroma.mul_(6).add_(1e-12)
    hue = (g + b).sub_(r).sub_(low).div_(chroma).add_(1 / 6)
    hue.copysign_(torch.sub(g, b, out=low))
    peaks = to_device(PEAKS, x.device, x.dtype)[:, None, None]
    away = torch.sub(hue, peaks - turn, out=x)
    away.sub_(torch.round(away)).abs_().clamp_(1 / 6, 1 / 3)
    torch.addcmul(value, away, chroma, value=-1, out=x)


def _store(x: Tensor, out: Tensor) -> None:
    """Normalise planes ``(3, b, t·H·W)`` into a piece ``(b, 3, t, H, W)`` of the result."""
    shape = (out.shape[0], *out.shape[2:])
    for channel in range(3):
        std = IMAGENET_STD[channel]
        # a scalar on the host goes with the kernel's arguments: no copy to the device
        offset = torch.tensor(-IMAGENET_MEAN[channel] / std)
        torch.add(offset, x[channel].view(shape), alpha=1 / std, out=out[:, channel])
