"""The change of colours as one expression, for a compiler to make one pass over the pixels of.

What :mod:`earsight.transforms.video` does in steps whose intermediate planes stay in a core's
cache, the compiled form does in registers: a quarter of the time on a CPU. It has to be compiled
first: some seconds, for clips of one shape.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in gray (ITU-R BT.601)."""

_EVEN_BYTES = 0x00FF00FF

PEAKS = (0.0, 1 / 3, 2 / 3)
"""Hue, in turns, at which red, green and blue are strongest."""


@cache
def compiled() -> Callable[..., Tensor]:
    """:func:`change`, compiled for the first shape it meets.

    It is compiled anew where another size of the shape first changes, for single clips and single
    frames, and for each memory format and kind of change; eight times in all, or torch fails.
    """
    made: Any = torch.compile(change, fullgraph=True)
    return made  # type: ignore[no-any-return]


def change(
    source: Tensor,
    scale: Tensor,
    blend: Tensor,
    offset: Tensor,
    turn: Tensor,
    contrast: bool,
    hue: bool,
    words: bool,
    memory_format: torch.memory_format,
) -> Tensor:
    """Brightness, contrast, saturation and hue of clips, normalised.

    Args:
        source: ``(B, 3, T, H, W)`` uint8.
        scale: ``(B,)``, as ``blend`` and ``offset`` of
            ``scale·x + blend·gray(x) + offset·gray(mean)``, with ``x`` from 0 to 255.
        blend: ``(B,)``.
        offset: ``(B,)``.
        turn: ``(B,)`` of hue, in turns.
        contrast: whether the mean matters.
        hue: whether hue is turned.
        words: whether the bytes of each picture are whole words of 32 bits, one after the other.
        memory_format: of the result.

    Returns:
        The same shape, float32. (Were it to be written into a tensor that is given, the compiler
        would make it elsewhere first and then copy it.)
    """
    x = source.flatten(2)
    rows = scale[:, None], blend[:, None], offset[:, None], turn[:, None]
    scale, blend, offset, turn = rows
    offset = offset * _mean_gray(source, words)[:, None] if contrast else torch.zeros_like(offset)
    red, green, blue = x.to(torch.float32).unbind(1)
    level = (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]) * blend + offset
    r, g, b = ((channel * scale + level).clamp(0, 1) for channel in (red, green, blue))
    channels = _rotated(r, g, b, turn) if hue else (r, g, b)
    scaled = [
        (channel - mean) * (1 / std)
        for channel, mean, std in zip(channels, IMAGENET_MEAN, IMAGENET_STD, strict=True)
    ]
    return torch.stack(scaled, 1).view(source.shape).contiguous(memory_format=memory_format)


def _mean_gray(source: Tensor, words: bool) -> Tensor:
    """Mean gray ``(B,)`` in [0, 1] of ``(B, 3, T, H, W)`` bytes, from whole-number sums (exact)."""
    sums = _picture_sums(source, words).sum(2, dtype=torch.int64).to(torch.float32)
    r, g, b = sums.unbind(1)
    _, _, frames, height, width = source.shape
    return (r * LUMA[0] + g * LUMA[1] + b * LUMA[2]) / (255 * frames * height * width)


def _picture_sums(source: Tensor, words: bool) -> Tensor:
    """Sums ``(B, 3, T)`` of the bytes of each picture, which fit into 32 bits.

    A CPU adds up words of 32 bits ten times as fast as of 64, and four bytes of a word at once
    three times as fast as bytes, each of which would be widened first.
    """
    pictures = source.flatten(3)
    if not words:
        return pictures.sum(3, dtype=torch.int32)
    fours = pictures.view(torch.int32)
    pairs = (fours & _EVEN_BYTES) + ((fours >> 8) & _EVEN_BYTES)
    return ((pairs & 0xFFFF) + (pairs >> 16)).sum(3, dtype=torch.int32)


def _rotated(r: Tensor, g: Tensor, b: Tensor, turn: Tensor) -> list[Tensor]:
    """Red, green and blue with their hue turned, by the formula of ``video._rotate``."""
    value = torch.maximum(torch.maximum(r, g), b)
    low = torch.minimum(torch.minimum(r, g), b)
    chroma = value - low
    # six times the chroma; a gray pixel has none, and 0 / tiny for a hue that makes no difference
    six = chroma * 6 + 1e-12
    hue = (g + b - r - low) / six + 1 / 6
    hue = torch.where(g >= b, hue, -hue)
    turned = []
    for peak in PEAKS:
        away = hue - peak + turn
        away = (away - torch.round(away)).abs().clamp(1 / 6, 1 / 3)
        turned.append(value + chroma - away * six)
    return turned
