"""A small encoder of pictures of one channel."""

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from earsight.config import AUDIO_ENCODERS, VIDEO_ENCODERS, section
from earsight.encoders.convolution import channels_last, initialise

_GRID = (2, 4)


@section
class Conv2DPictureConfig:
    """Three convolutions and a linear layer, for pictures of one or several characters.

    Attributes:
        width: channels of the first; each further one doubles them.
        dim: size of the feature.
    """

    pictures: ClassVar[bool] = True

    name: str = "conv2d-picture"
    width: int = 32
    dim: int = 256

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        for name in ("width", "dim"):
            if getattr(self, name) < 1:
                yield f"{name}: must be at least 1"


class Conv2DPicture(nn.Module):
    """Convolutions 8×8/4, 3×3/2 and 3×3/2, each with batch norm and ReLU, and a linear layer.

    Before that layer, activations are averaged to a grid of 2×4 places: it knows where something
    stands, and has as many weights for pictures of any size.

    Args:
        width: channels of the first convolution; the others have ``2w, 4w``.
        dim: outputs of the linear layer, which has batch norm and ReLU too.

    Attributes:
        dim: size of the feature.
    """

    def __init__(self, width: int = 32, dim: int = 256) -> None:
        super().__init__()
        self.dim = dim
        self.convolutions = nn.Sequential(
            *_convolution(1, width, 8, 4, 2),
            *_convolution(width, 2 * width, 3, 2, 1),
            *_convolution(2 * width, 4 * width, 3, 2, 1),
        )
        places = _GRID[0] * _GRID[1]
        self.linear = nn.Linear(4 * width * places, dim, bias=False)
        self.norm = nn.BatchNorm1d(dim)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures ``(B, 1, H, W)`` to features ``(B, dim)``; of 32×32, activations are 2×2."""
        y = self.convolutions(channels_last(x))
        grid = F.adaptive_avg_pool2d(y, _GRID).flatten(1)
        return F.relu(self.norm(self.linear(grid)))


def _convolution(before: int, after: int, kernel: int, stride: int, pad: int) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, kernel, stride, pad, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    ]


@VIDEO_ENCODERS.register("conv2d-picture", Conv2DPictureConfig)
@AUDIO_ENCODERS.register("conv2d-picture", Conv2DPictureConfig)
def build_conv2d_picture(settings: Conv2DPictureConfig) -> Conv2DPicture:
    """The encoder that ``settings`` describe."""
    return Conv2DPicture(width=settings.width, dim=settings.dim)
