"""The standard R(2+1)D video encoders (Tran et al., 2018), one of the two of cm-acc.

They differ from AVID's (:mod:`earsight.encoders.r2plus1d`) in the widths between a convolution in
space and the one in time, in a stem of two convolutions without pool, in batch norm before the
residual is added and in its shortcut, and in the average pool.
"""

from torch import Tensor, nn

from earsight.config import VIDEO_ENCODERS, section
from earsight.encoders.convolution import (
    PointConv,
    SpatialConv,
    TemporalConv,
    channels_last,
    initialise,
)
from earsight.encoders.residual import Depth, Kind, ResidualConfig, ResidualNetwork

_STEM_MIDDLE = 45


@section
class R2Plus1DStandardConfig(ResidualConfig):
    """R(2+1)D of Tran et al., as commonly used; a video encoder of CM-ACC."""

    name: str = "r2plus1d-standard"


class R2Plus1DStandard(ResidualNetwork):
    """R(2+1)D: each convolution is one in space, batch norm, ReLU, and one in time.

    Between the two stand as many channels as make a block's first pair as large as a 3×3×3
    convolution, ``⌊27·C·C' / (9·C + 3·C')⌋``, and as many in its second pair, as in the widely
    used implementation; by the paper's formula the second would have more where ``C ≠ C'``. The
    stem is of 1×7×7 (45 channels at full width), halving space, and 3×1×1.

    For 3×16×224² the stem gives 64×16×112²; the blocks give 64×16×112², 128×8×56², 256×4×28² and
    512×2×14², which are averaged to 512.

    Args:
        depth: 10, 18 or 34.
        width: channels of stem and first stage.

    Attributes:
        dim: size of the pooled feature, ``8 · width``.
    """

    def __init__(self, depth: Depth = 18, width: int = 64) -> None:
        super().__init__(Kind(pair=_pair, point=PointConv, norm=nn.BatchNorm3d), depth, width)
        middle = max(1, _STEM_MIDDLE * width // 64)
        self.conv1 = nn.Sequential(
            SpatialConv(3, middle, 7, (1, 2, 2)),
            nn.BatchNorm3d(middle),
            nn.ReLU(inplace=True),
            TemporalConv(middle, width, 1),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
        initialise(self)

    def stem(self, x: Tensor) -> Tensor:
        """Clips ``(B, 3, T, H, W)`` to ``(B, width, T, H/2, W/2)``, rounded up."""
        y: Tensor = self.conv1(channels_last(x))
        return y


def _pair(in_channels: int, channels: int, stride: int) -> tuple[nn.Module, nn.Module]:
    middle = 27 * in_channels * channels // (9 * in_channels + 3 * channels)
    return (
        _space_then_time(in_channels, middle, channels, stride),
        _space_then_time(channels, middle, channels, 1),
    )


def _space_then_time(in_channels: int, middle: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        SpatialConv(in_channels, middle, 3, (1, stride, stride)),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        TemporalConv(middle, channels, stride),
    )


@VIDEO_ENCODERS.register("r2plus1d-standard", R2Plus1DStandardConfig)
def build_r2plus1d_standard(settings: R2Plus1DStandardConfig) -> R2Plus1DStandard:
    """The encoder that ``settings`` describe."""
    return R2Plus1DStandard(depth=settings.depth, width=settings.width)
