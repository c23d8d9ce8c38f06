"""The activations of an encoder's four blocks, pooled to grids of cells (methods.md §8)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

GRIDS = {1: 12, 2: 8, 3: 6, 4: 4}
"""Block to the side of its square grid of cells."""

FLAT = 0
"""In place of a block's number: the last activation as it is, not pooled."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What one pass through an encoder gives.

    Attributes:
        pooled: ``(B, dim)``, the encoder's output.
        blocks: block to its flattened grid ``(B, channels · cells)``, or ``FLAT`` to the whole
            last activation.
    """

    pooled: Tensor
    blocks: dict[int, Tensor]


def has_blocks(encoder: nn.Module) -> bool:
    """Whether an encoder gives out its blocks, by a method ``forward_features``."""
    return callable(getattr(encoder, "forward_features", None))


def encode(encoder: nn.Module, x: Tensor, blocks: Collection[int] = ()) -> Encoded:
    """The pooled output of an encoder and, where it has them, the grids of its blocks.

    An encoder with ``forward_features(x)``, its four activations, and ``pool(activation)``, from
    the last of them to its output, is run once; without ``pool``, a second time for the output.

    Args:
        encoder: of clips or of spectrograms.
        x: its input.
        blocks: from 1 to 4, or ``FLAT``; for an encoder without blocks, none are given.
    """
    if not blocks or not has_blocks(encoder):
        return Encoded(pooled=encoder(x), blocks={})
    activations = encoder.forward_features(x)  # type: ignore[operator]
    pool = getattr(encoder, "pool", None)
    return Encoded(
        pooled=encoder(x) if pool is None else pool(activations[-1]),
        blocks={block: _flattened(activations, block) for block in blocks},
    )


def _flattened(activations: Sequence[Tensor], block: int) -> Tensor:
    if block == FLAT:
        return activations[-1].flatten(1)
    return pool_block(activations[block - 1], block)


def pool_block(activation: Tensor, block: int) -> Tensor:
    """An activation max-pooled adaptively to its block's grid, and flattened.

    The grids are 12 × 12, 8 × 8, 6 × 6 and 4 × 4 cells. For video they cover space, and all frames
    are one; for sound, frames and bands; sound without bands has as many cells along its frames.
    Where an activation is smaller than its grid, its own cells are taken: a finer grid would only
    repeat them. At full size (64 to 512 channels) these are 9,216, 8,192, 9,216 and 8,192 values.

    Args:
        activation: ``(B, C, T, H, W)``, ``(B, C, frames, bands)`` or ``(B, C, frames)``.
        block: from 1 to 4.

    Returns:
        ``(B, C · cells)``.
    """
    side = GRIDS[block]
    if activation.ndim == 3:
        line = F.adaptive_max_pool1d(activation, min(side**2, activation.shape[-1]))
        return line.flatten(1)
    flat = activation.amax(dim=2) if activation.ndim == 5 else activation
    height, width = (min(side, size) for size in flat.shape[-2:])
    return F.adaptive_max_pool2d(flat, (height, width)).flatten(1)
