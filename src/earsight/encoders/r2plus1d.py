"""R(2+1)D video encoders of AVID (avid-cma tables 9 and 10).

Modules carry the names of the released code, so that its weights load by prefix
(:mod:`earsight.encoders.released`). The inner width of a block is the block's width (Tran et al.
take a mid-width instead), and the residual is added before the last batch norm.
"""

from collections.abc import Iterator
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from earsight.config import VIDEO_ENCODERS, section
from earsight.encoders.convolution import (
    PointConv,
    SpatialConv,
    StemConv,
    TemporalConv,
    channels_last,
    fold_time,
    initialise,
    unfold_time,
)

Depth = Literal[9, 10, 18, 34]

_BLOCKS: dict[int, tuple[int, int, int, int]] = {
    9: (1, 1, 1, 1),
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
}


@section
class R2Plus1DConfig:
    """AVID's R(2+1)D.

    Attributes:
        depth: 9 (without pooling in the stem), 10 (the same with it, as the published code has
            it), 18 or 34.
        width: channels of the first stage; each further stage doubles them.
    """

    name: str = "r2plus1d"
    depth: Depth = 9
    width: int = 64

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        if self.width < 1:
            yield "width: must be at least 1"


class Block(nn.Module):
    """Two pairs of a convolution in space and one in time, around which the input is added.

    The order is that of the published code: the residual is added before the last batch norm.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.spt_conv1 = SpatialConv(in_channels, channels, 3, (1, stride, stride))
        self.spt_bn1 = nn.BatchNorm3d(channels)
        self.tmp_conv1 = TemporalConv(channels, channels, stride)
        self.tmp_bn1 = nn.BatchNorm3d(channels)
        self.spt_conv2 = SpatialConv(channels, channels, 3, (1, 1, 1))
        self.spt_bn2 = nn.BatchNorm3d(channels)
        self.tmp_conv2 = TemporalConv(channels, channels, 1)
        self.out_bn = nn.BatchNorm3d(channels)
        changes_shape = stride != 1 or in_channels != channels
        self.res_conv = PointConv(in_channels, channels, stride) if changes_shape else None

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T, H, W)`` to ``(B, C', T/s, H/s, W/s)``, rounded up."""
        residual = x if self.res_conv is None else self.res_conv(x)
        y = F.relu(self.spt_bn1(self.spt_conv1(x)), inplace=True)
        y = F.relu(self.tmp_bn1(self.tmp_conv1(y)), inplace=True)
        y = F.relu(self.spt_bn2(self.spt_conv2(y)), inplace=True)
        return F.relu(self.out_bn(self.tmp_conv2(y) + residual), inplace=True)


class R2Plus1D(nn.Module):
    """AVID's R(2+1)D-9, -10, -18 or -34.

    Args:
        depth: 9, 10, 18 or 34.
        width: channels of stem and first stage; stages have ``w, 2w, 4w, 8w``.

    Attributes:
        dim: size of the pooled feature, ``8 · width``.
    """

    def __init__(self, depth: Depth = 9, width: int = 64) -> None:
        super().__init__()
        self.dim = 8 * width
        self.pools_stem = depth != 9
        self.conv1 = nn.Sequential(StemConv(3, width), nn.BatchNorm3d(width), nn.ReLU(inplace=True))
        counts = _BLOCKS[depth]
        self.conv2x = _stage(width, width, counts[0], stride=1)
        self.conv3x = _stage(width, 2 * width, counts[1], stride=2)
        self.conv4x = _stage(2 * width, 4 * width, counts[2], stride=2)
        self.conv5x = _stage(4 * width, 8 * width, counts[3], stride=2)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Clips ``(B, 3, T, H, W)`` to features ``(B, dim)``, max-pooled over space and time."""
        return self.pool(self.forward_features(x)[-1])

    def pool(self, activation: Tensor) -> Tensor:
        """The last block's activation ``(B, dim, T, H, W)`` to features ``(B, dim)``."""
        return activation.amax(dim=(2, 3, 4))

    def forward_features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Activations of the four blocks; block ``n`` is the output of stage ``n + 1``.

        For 3×16×112² and depth 9: 64×16×56², 128×8×28², 256×4×14², 512×2×7²; for 3×8×224² and
        depths 18 and 34: 64×8×56², 128×4×28², 256×2×14², 512×1×7².
        """
        x = self.stem(x)
        block1: Tensor = self.conv2x(x)
        block2: Tensor = self.conv3x(block1)
        block3: Tensor = self.conv4x(block2)
        block4: Tensor = self.conv5x(block3)
        return block1, block2, block3, block4

    def stem(self, x: Tensor) -> Tensor:
        """What enters the first stage: the first convolution, pooled for all depths but 9."""
        y: Tensor = self.conv1(channels_last(x))
        if not self.pools_stem:
            return y
        pooled = F.max_pool2d(fold_time(y), kernel_size=3, stride=2, padding=1)
        return unfold_time(pooled, y.shape[2])


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = Block(in_channels, channels, stride)
    return nn.Sequential(first, *(Block(channels, channels, 1) for _ in range(blocks - 1)))


@VIDEO_ENCODERS.register("r2plus1d", R2Plus1DConfig)
def build_r2plus1d(settings: R2Plus1DConfig) -> R2Plus1D:
    """The encoder that ``settings`` describe."""
    return R2Plus1D(depth=settings.depth, width=settings.width)
