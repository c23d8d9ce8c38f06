"""Residual networks of basic blocks (He et al., 2016), over time, space or both.

What tells them apart is their stem and how a block convolves; stages, shortcuts and average pool
are the same.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from earsight.config import section

Depth = Literal[10, 18, 34]

_BLOCKS: dict[int, tuple[int, int, int, int]] = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
}


@section
class ResidualConfig:
    """Size of a residual network.

    Attributes:
        depth: 10 (one block per stage), 18 (two) or 34 (3, 4, 6 and 3).
        width: channels of the first stage; each further stage doubles them.
    """

    name: str
    depth: Depth = 18
    width: int = 64

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        if self.width < 1:
            yield "width: must be at least 1"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The layers that blocks are made of, none with a bias; all take and give ``(B, C, …)``.

    Attributes:
        pair: from channels in, channels out and stride, the two convolutions of a block; the
            stride is the first one's.
        point: likewise, the pointwise convolution of a shortcut.
        norm: from channels, the batch norm.
    """

    pair: Callable[[int, int, int], tuple[nn.Module, nn.Module]]
    point: Callable[[int, int, int], nn.Module]
    norm: Callable[[int], nn.Module]


class BasicBlock(nn.Module):
    """Two convolutions, each with batch norm; the input is added before the last ReLU.

    Where the shape changes, the input passes a pointwise convolution with batch norm first.
    """

    def __init__(self, kind: Kind, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = kind.pair(in_channels, channels, stride)
        self.bn1, self.bn2 = kind.norm(channels), kind.norm(channels)
        self.shortcut = None
        if stride != 1 or in_channels != channels:
            point = kind.point(in_channels, channels, stride)
            self.shortcut = nn.Sequential(point, kind.norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, …)`` to ``(B, C', …)``, each size divided by the stride and rounded up."""
        residual = x if self.shortcut is None else self.shortcut(x)
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + residual, inplace=True)


class ResidualNetwork(nn.Module, ABC):
    """Four stages of basic blocks, the last three of which halve every size.

    Args:
        kind: layers of the blocks.
        depth: 10, 18 or 34.
        width: channels of the first stage; stages have ``w, 2w, 4w, 8w``.

    Attributes:
        dim: size of the pooled feature, ``8 · width``.
    """

    def __init__(self, kind: Kind, depth: Depth, width: int) -> None:
        super().__init__()
        self.dim = 8 * width
        counts = _BLOCKS[depth]
        self.block1 = _stage(kind, width, width, counts[0], stride=1)
        self.block2 = _stage(kind, width, 2 * width, counts[1], stride=2)
        self.block3 = _stage(kind, 2 * width, 4 * width, counts[2], stride=2)
        self.block4 = _stage(kind, 4 * width, 8 * width, counts[3], stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """The encoder's input to features ``(B, dim)``, averaged over time and space."""
        return self.pool(self.forward_features(x)[-1])

    def pool(self, activation: Tensor) -> Tensor:
        """The last block's activation ``(B, dim, …)`` to features ``(B, dim)``."""
        return activation.mean(dim=tuple(range(2, activation.dim())))

    def forward_features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Activations of the four blocks; block ``n`` is the output of stage ``n + 1``."""
        block1: Tensor = self.block1(self.stem(x))
        block2: Tensor = self.block2(block1)
        block3: Tensor = self.block3(block2)
        block4: Tensor = self.block4(block3)
        return block1, block2, block3, block4

    @abstractmethod
    def stem(self, x: Tensor) -> Tensor:
        """The encoder's input to what enters the first stage, ``(B, width, …)``."""


def _stage(kind: Kind, in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(kind, in_channels, channels, stride)
    return nn.Sequential(
        first, *(BasicBlock(kind, channels, channels, 1) for _ in range(blocks - 1))
    )
