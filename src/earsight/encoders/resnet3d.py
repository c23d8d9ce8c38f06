"""3D-ResNet video encoders (Hara et al., 2018), one of the two of cm-acc."""

from torch import Tensor, nn
from torch.nn import functional as F

from earsight.config import VIDEO_ENCODERS, section
from earsight.encoders.convolution import (
    PointConv,
    SpaceTimeConv,
    StemConv,
    channels_last,
    initialise,
)
from earsight.encoders.residual import Depth, Kind, ResidualConfig, ResidualNetwork


@section
class ResNet3DConfig(ResidualConfig):
    """3D-ResNet of Hara et al., the video encoder of CM-ACC."""

    name: str = "resnet3d"


class ResNet3D(ResidualNetwork):
    """3D-ResNet: convolutions over time and space at once.

    A 7×7×7 convolution that halves space, a max pool of 3×3×3 that halves everything, then four
    stages. Shortcuts that change the shape are convolutions with batch norm (type B).

    For 3×16×224² the stem gives 64×8×56², after 64×16×112² before its pool; the blocks give
    64×8×56², 128×4×28², 256×2×14² and 512×1×7², which are averaged to 512.

    Args:
        depth: 10, 18 or 34.
        width: channels of stem and first stage.

    Attributes:
        dim: size of the pooled feature, ``8 · width``.
    """

    def __init__(self, depth: Depth = 18, width: int = 64) -> None:
        super().__init__(Kind(pair=_pair, point=PointConv, norm=nn.BatchNorm3d), depth, width)
        self.conv1 = nn.Sequential(
            StemConv(3, width, frames=7), nn.BatchNorm3d(width), nn.ReLU(inplace=True)
        )
        initialise(self)

    def stem(self, x: Tensor) -> Tensor:
        """Clips ``(B, 3, T, H, W)`` to ``(B, width, T/2, H/4, W/4)``, rounded up."""
        return F.max_pool3d(self.conv1(channels_last(x)), kernel_size=3, stride=2, padding=1)


def _pair(in_channels: int, channels: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return (
        SpaceTimeConv(in_channels, channels, stride),
        SpaceTimeConv(channels, channels, 1),
    )


@VIDEO_ENCODERS.register("resnet3d", ResNet3DConfig)
def build_resnet3d(settings: ResNet3DConfig) -> ResNet3D:
    """The encoder that ``settings`` describe."""
    return ResNet3D(depth=settings.depth, width=settings.width)
