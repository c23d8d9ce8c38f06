"""The 9-layer audio encoder of AVID (avid-cma table 9), on spectrograms.

Modules carry the names of the released code (:mod:`earsight.encoders.released`).
"""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from earsight.config import AUDIO_ENCODERS, section
from earsight.encoders.convolution import channels_last, initialise

Strides = tuple[int, int, int, int]


@section
class Conv2DAudioConfig:
    """AVID's Conv2D-9.

    Attributes:
        width: channels of the first stage; each further stage doubles them.
        strides: of the four stages: (1, 2, 2, 1) for 100×129 spectrograms, (2, 2, 2, 1) for
            200×257.
    """

    name: str = "conv2d-audio"
    width: int = 64
    strides: Strides = (1, 2, 2, 1)

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        if self.width < 1:
            yield "width: must be at least 1"
        if any(stride not in (1, 2) for stride in self.strides):
            yield "strides: each must be 1 or 2"


class Block(nn.Module):
    """Two 3×3 convolutions, each with batch norm and ReLU; no residual."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C', ⌈H/s⌉, ⌈W/s⌉)``."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)), inplace=True)


class Conv2DAudio(nn.Module):
    """AVID's Conv2D-9: a 7×7/2 convolution, then four stages of two 3×3 convolutions.

    Args:
        width: channels of stem and first stage; stages have ``w, 2w, 4w, 8w``.
        strides: of the four stages.

    Attributes:
        dim: size of the pooled feature, ``8 · width``.
    """

    def __init__(self, width: int = 64, strides: Strides = (1, 2, 2, 1)) -> None:
        super().__init__()
        self.dim = 8 * width
        self.conv1 = nn.Sequential(
            nn.Conv2d(1, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.block1 = Block(width, width, strides[0])
        self.block2 = Block(width, 2 * width, strides[1])
        self.block3 = Block(2 * width, 4 * width, strides[2])
        self.block4 = Block(4 * width, 8 * width, strides[3])
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Spectrograms ``(B, 1, frames, bands)`` to max-pooled features ``(B, dim)``."""
        return self.pool(self.forward_features(x)[-1])

    def pool(self, activation: Tensor) -> Tensor:
        """The last block's activation ``(B, dim, frames, bands)`` to features ``(B, dim)``."""
        return activation.amax(dim=(2, 3))

    def forward_features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Activations of the four blocks; block ``n`` is the output of stage ``n + 1``.

        Strides (1, 2, 2, 1) on 1×100×129: 64×50×65, 128×25×33, 256×13×17, 512×13×17. Strides
        (2, 2, 2, 1) on 1×200×257: the same.
        """
        block1: Tensor = self.block1(self.stem(x))
        block2: Tensor = self.block2(block1)
        block3: Tensor = self.block3(block2)
        block4: Tensor = self.block4(block3)
        return block1, block2, block3, block4

    def stem(self, x: Tensor) -> Tensor:
        """The first convolution, ``(B, width, ⌈frames/2⌉, ⌈bands/2⌉)``."""
        y: Tensor = self.conv1(channels_last(x))
        return y


@AUDIO_ENCODERS.register("conv2d-audio", Conv2DAudioConfig)
def build_conv2d_audio(settings: Conv2DAudioConfig) -> Conv2DAudio:
    """The encoder that ``settings`` describe."""
    return Conv2DAudio(width=settings.width, strides=settings.strides)
