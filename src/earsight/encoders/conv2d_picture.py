"""A small encoder of pictures of one channel."""

from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from earsight.config import AUDIO_ENCODERS, VIDEO_ENCODERS, section
from earsight.encoders.convolution import initialise


@section
class Conv2DPictureConfig:
    """Four convolutions, each of which halves the picture.

    Attributes:
        width: channels of the first; each further one doubles them.
    """

    pictures: ClassVar[bool] = True

    name: str = "conv2d-picture"
    width: int = 16

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        if self.width < 1:
            yield "width: must be at least 1"


class Conv2DPicture(nn.Module):
    """3×3 convolutions of stride 2, each with batch norm and ReLU, then the mean over places.

    What a feature has seen is at most 31 pixels wide, about a character of a grid of 32×32: the
    encoder is the same for any number of cells.

    Args:
        width: channels of the first; the others have ``2w, 4w, 8w``.

    Attributes:
        dim: size of the pooled feature, ``8 · width``.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.dim = 8 * width
        sizes = (1, width, 2 * width, 4 * width, 8 * width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, 2, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            )
            for before, after in pairwise(sizes)
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures ``(B, 1, H, W)`` to average-pooled features ``(B, dim)``."""
        return self.pool(self.forward_features(x)[-1])

    def pool(self, activation: Tensor) -> Tensor:
        """The last block's activation ``(B, dim, H/16, W/16)`` to features ``(B, dim)``."""
        return activation.mean(dim=(2, 3))

    def forward_features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Activations of the four blocks; of 1×32×32: w×16×16, 2w×8×8, 4w×4×4, 8w×2×2."""
        activations = []
        for block in self.blocks:
            x = block(x)
            activations.append(x)
        return tuple(activations)


@VIDEO_ENCODERS.register("conv2d-picture", Conv2DPictureConfig)
@AUDIO_ENCODERS.register("conv2d-picture", Conv2DPictureConfig)
def build_conv2d_picture(settings: Conv2DPictureConfig) -> Conv2DPicture:
    """The encoder that ``settings`` describe."""
    return Conv2DPicture(width=settings.width)
