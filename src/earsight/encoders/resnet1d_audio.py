"""ResNet over time, the audio encoder of cm-acc: the bands of a spectrogram are its channels."""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from earsight.config import AUDIO_ENCODERS, section
from earsight.encoders.convolution import initialise
from earsight.encoders.residual import Depth, Kind, ResidualConfig, ResidualNetwork


@section
class ResNet1DAudioConfig(ResidualConfig):
    """ResNet over time, the audio encoder of CM-ACC.

    Attributes:
        bands: of the spectrograms, ``audio.bands``.
    """

    name: str = "resnet1d-audio"
    bands: int = 80

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from ResidualConfig.faults(self)
        if self.bands < 1:
            yield "bands: must be at least 1"


class ResNet1DAudio(ResidualNetwork):
    """The ResNet of pictures with convolutions along time alone.

    A convolution of 7 frames and a max pool of 3, each halving time, then four stages.

    For 80 bands and 160 frames (1.6 s), taken as 80×160, the stem gives 64×40, after 64×80 before
    its pool; the blocks give 64×40, 128×20, 256×10 and 512×5, which are averaged to 512.

    Args:
        bands: of the spectrograms.
        depth: 10, 18 or 34.
        width: channels of stem and first stage.

    Attributes:
        dim: size of the pooled feature, ``8 · width``.
    """

    def __init__(self, bands: int = 80, depth: Depth = 18, width: int = 64) -> None:
        super().__init__(Kind(pair=_pair, point=_point, norm=nn.BatchNorm1d), depth, width)
        self.conv1 = nn.Sequential(
            nn.Conv1d(bands, width, 7, 2, 3, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
        )
        initialise(self)

    def stem(self, x: Tensor) -> Tensor:
        """Spectrograms ``(B, 1, frames, bands)`` to ``(B, width, frames/4)``, rounded up."""
        y: Tensor = self.conv1(x.squeeze(1).transpose(1, 2))
        return F.max_pool1d(y, kernel_size=3, stride=2, padding=1)


def _pair(in_channels: int, channels: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return (
        nn.Conv1d(in_channels, channels, 3, stride, 1, bias=False),
        nn.Conv1d(channels, channels, 3, 1, 1, bias=False),
    )


def _point(in_channels: int, channels: int, stride: int) -> nn.Module:
    return nn.Conv1d(in_channels, channels, 1, stride, bias=False)


@AUDIO_ENCODERS.register("resnet1d-audio", ResNet1DAudioConfig)
def build_resnet1d_audio(settings: ResNet1DAudioConfig) -> ResNet1DAudio:
    """The encoder that ``settings`` describe."""
    return ResNet1DAudio(bands=settings.bands, depth=settings.depth, width=settings.width)
