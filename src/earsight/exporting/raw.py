"""Inputs as part of a graph: what turns pixels and samples into network inputs, traceable.

The transforms of training work clip by clip and cut each at its own length, which no graph can
hold. These do the same for clips of the fixed length; the Fourier transform is a product with its
matrix in float64, which every runtime has.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from earsight.config import AudioConfig
from earsight.errors import RunError
from earsight.transforms.audio import FLOOR, Normalise, Spectrogram
from earsight.transforms.mel import mel_filters
from earsight.transforms.video_fused import IMAGENET_MEAN, IMAGENET_STD

LARGEST_ERROR = 1e-3
"""Decibel by which a spectrogram may differ from the exact one."""


class Pixels(nn.Module):
    """Pictures ``(B, 3, T, H, W)`` uint8 to float32, of zero mean and unit deviation."""

    scale: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float64)
        std = torch.tensor(IMAGENET_STD, dtype=torch.float64)
        self.register_buffer("scale", (1 / (255 * std)).float().view(3, 1, 1, 1))
        self.register_buffer("offset", (-mean / std).float().view(3, 1, 1, 1))

    def forward(self, video: Tensor) -> Tensor:
        """Scale to [0, 1], then by ImageNet's mean and deviation."""
        return video.float() * self.scale + self.offset


class Waveform(nn.Module):
    """Sound ``(B, samples)`` to spectrograms ``(B, 1, frames, bands)`` in decibel.

    Equal to :class:`earsight.transforms.audio.Spectrogram` in its precision ``float64``, for clips
    of ``config.duration`` seconds.

    Args:
        config: of the spectrogram.
    """

    transform: Tensor
    filters: Tensor | None

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config
        self.samples = round(config.duration * config.rate)
        self.register_buffer("transform", _transform(config))
        mel = config.spectrogram == "mel"
        filters = mel_filters(config.rate, config.bands, config.n_fft) if mel else None
        self.register_buffer("filters", filters)

    def forward(self, wave: Tensor) -> Tensor:
        """The spectrogram of the whole clip."""
        levels = self._levels(wave)
        config = self.config
        if config.top_db is not None:
            levels = levels.maximum(levels.amax((1, 2), keepdim=True) - config.top_db)
        return levels[:, None, : config.frames].float()

    def _levels(self, wave: Tensor) -> Tensor:
        """All frames that the samples have, ``(B, samples // hop + 1, bands)``, float64."""
        config = self.config
        half = config.n_fft // 2
        mode = "reflect" if config.padding == "reflect" else "constant"
        padded = F.pad(wave[:, None], (half, half), mode=mode)[:, 0]
        clips = padded.unfold(1, config.n_fft, config.hop_samples).double()
        real, imaginary = (clips @ self.transform).chunk(2, dim=2)
        power = self._bands(real.square() + imaginary.square())
        return 10 * power.clamp(min=FLOOR).log() / math.log(10)

    def _bands(self, power: Tensor) -> Tensor:
        """From every bin to the bands wanted."""
        if self.filters is not None:
            return power @ self.filters
        if self.config.bands == power.shape[2]:
            return power
        pairs = (power[..., 1::2] + power[..., 2::2]) * 0.5
        return torch.cat([power[..., :1], pairs], 2)


def _transform(config: AudioConfig) -> Tensor:
    """``(n_fft, 2·bins)`` float64: cosines and sines under the window, of every bin."""
    time = torch.arange(config.n_fft, dtype=torch.int64)[:, None]
    bins = torch.arange(config.n_fft // 2 + 1, dtype=torch.int64)
    # Whole turns are taken out as integers, so that the angle loses no digits.
    angle = (time * bins % config.n_fft).double() * (2 * math.pi / config.n_fft)
    window = torch.zeros(config.n_fft, dtype=torch.float64)
    first = (config.n_fft - config.window) // 2
    hann = torch.hann_window(config.window, dtype=torch.float64)
    window[first : first + config.window] = hann
    return torch.cat([angle.cos(), angle.sin()], 1) * window[:, None]


class RawSound(nn.Module):
    """Sound ``(B, samples)`` to network inputs ``(B, 1, frames, bands)``."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: AudioConfig, normalise: Normalise) -> None:
        super().__init__()
        self.waveform = Waveform(config)
        self.register_buffer("mean", normalise.mean.detach().cpu().clone())
        self.register_buffer("std", normalise.std.detach().cpu().clone())

    def forward(self, wave: Tensor) -> Tensor:
        """Levels in decibel, less their mean, over their deviation."""
        levels: Tensor = self.waveform(wave)
        return (levels - self.mean) / self.std


@torch.no_grad()
def check_waveform(sound: Waveform) -> None:
    """Compare with the run's spectrogram at its exact setting; in float32, that itself errs more.

    Raises:
        RunError: they differ.
    """
    generator = torch.Generator().manual_seed(0)
    wave = 0.1 * torch.randn(2, sound.samples, generator=generator)
    exact = Spectrogram(replace(sound.config, precision="float64"))(wave)
    error = float((sound(wave) - exact).abs().max())
    if not error <= LARGEST_ERROR:
        raise RunError(f"the spectrogram differs by {error:.1e} dB as a graph; leave --raw out")
