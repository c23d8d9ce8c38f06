"""A frozen encoder read block by block, and linear layers that learn from it (methods.md §8)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from earsight.encoders.blocks import encode, has_blocks

POOLED = "pooled"

Block = str | int


class Probed(nn.Module):
    """An encoder that does not learn: its features are those of some of its blocks, side by side.

    Args:
        encoder: with ``forward_features`` where numbered blocks are wanted.
        blocks: ``pooled``, or numbers from 1 to 4.
        example: ``(1, …)`` an input of the size that it will be given.

    Raises:
        ValueError: blocks are wanted of an encoder that gives out none.
    """

    def __init__(self, encoder: nn.Module, blocks: Sequence[Block], example: Tensor) -> None:
        super().__init__()
        if not has_blocks(encoder) and set(blocks) != {POOLED}:
            raise ValueError(
                "method.blocks: this encoder gives out no blocks (it has no forward_features); "
                "name pooled alone"
            )
        self.encoder = encoder.requires_grad_(False)
        self.blocks = tuple(blocks)
        self.train(False)
        with torch.no_grad():
            self.dims = tuple(part.shape[1] for part in self._parts(example))

    def train(self, mode: bool = True) -> "Probed":
        """Batch norms keep the statistics that they have, also while linear layers learn."""
        super().train(mode)
        self.encoder.eval()
        return self

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """``(B, sum of dims)``."""
        return torch.cat(self._parts(x), dim=1)

    def _parts(self, x: Tensor) -> list[Tensor]:
        numbers = [int(block) for block in self.blocks if block != POOLED]
        encoded = encode(self.encoder, x, numbers)
        return [
            encoded.pooled if block == POOLED else encoded.blocks[int(block)]
            for block in self.blocks
        ]


class BlockClassifiers(nn.Module):
    """Batch norm and one linear layer for each block.

    Args:
        dims: sizes of the blocks' features.
        classes: outputs of each layer.
    """

    def __init__(self, dims: Sequence[int], classes: int) -> None:
        super().__init__()
        self.dims = list(dims)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(dim), nn.Linear(dim, classes)) for dim in dims
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(B, sum of dims)`` to logits ``(B, blocks · classes)``, block by block."""
        parts = torch.split(x, self.dims, dim=1)
        return torch.cat([layer(part) for layer, part in zip(self.layers, parts, strict=True)], 1)
