"""Sound to network inputs: loudness and duration changes, log spectrogram, normalisation."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from earsight.config import AudioConfig
from earsight.config.mel import all_bands_heard
from earsight.transforms.draws import Index, between, check_count, to_device
from earsight.transforms.mel import mel_filters

FLOOR = 1e-10
"""Least power; silence is 10·log10(FLOOR) = −100 dB."""


def augment_audio(
    wave: Tensor, config: AudioConfig, *, seed: int, index: Index, view: int
) -> Tensor:
    """Multiply each clip's loudness by a draw from ``U(volume)``.

    Args:
        wave: ``(B, samples)`` float.
        config: the range of the factor; equal ends of 1 change nothing.
        seed: the run's seed.
        index: ``(B,)`` global sample indices.
        view: number of the view.

    Returns:
        ``(B, samples)``, not clipped.

    Raises:
        ValueError: ``index`` is not one per clip.
    """
    check_count(index, len(wave))
    low, high = config.volume
    if low == high == 1:
        return wave
    factor = between(low, high, "volume", seed=seed, index=index, view=view)
    return wave * to_device(factor, wave.device, wave.dtype)[:, None]


def stretch_seconds(
    config: AudioConfig, *, seed: int, index: Index, view: int
) -> NDArray[np.float64]:
    """Seconds of sound that become one training clip, drawn from ``U(stretch)``.

    The loader decodes as much; :class:`Spectrogram` rescales it to the fixed number of frames.

    Args:
        config: the range; equal ends mean no stretching, so ``duration``.
        seed: the run's seed.
        index: ``(B,)`` global sample indices.
        view: number of the view.

    Returns:
        ``(B,)`` float64.
    """
    low, high = config.stretch
    if low == high:
        return np.full(len(index), config.duration)
    return between(low, high, "stretch", seed=seed, index=index, view=view)


class Spectrogram(nn.Module):
    """Log power spectrogram of a clip, of a fixed number of frames.

    Periodic Hann windows of ``window`` samples stand in the middle of ``n_fft``, centred on
    multiples of the hop, with the ends reflected or followed by silence (``padding``). Of the
    ``n_fft/2 + 1`` bins of power, all are kept, or the first, and the rest averaged in adjacent
    pairs; for ``mel``, they are summed by :func:`~earsight.transforms.mel.mel_filters`. Then
    10·log10(max(p, 1e-10)); with ``top_db``, no level is more than that below the highest of all
    frames of its own clip, those past the fixed number too.
    """

    window: Tensor
    filters: Tensor | None

    def __init__(self, config: AudioConfig) -> None:
        """Make the window, and the mel filters.

        Raises:
            ValueError: the settings do not give ``config.frames`` frames or ``config.bands``
                bands.
        """
        super().__init__()
        self.config = config
        self.samples = round(config.duration * config.rate)
        _check_settings(config, self.samples)
        self.register_buffer("window", torch.hann_window(config.window), persistent=False)
        filters = _filters(config)
        filters = None if filters is None else filters.float()
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, wave: Tensor, seconds: Tensor | None = None) -> Tensor:
        """Compute the spectrogram of the first seconds of each clip.

        With ``seconds``, the log spectrogram of a clip's own first ``seconds`` (padded at
        their own end; what follows in ``wave`` has no influence) is rescaled along time to the
        fixed frames: frame ``j`` is read at ``j·seconds/duration``, linearly between the two
        neighbours, and past the last frame the last is taken. Where ``seconds`` equals the
        duration, this is the plain spectrogram.

        Args:
            wave: ``(B, samples)`` float, at ``config.rate``.
            seconds: ``(B,)`` float, on the CPU; None for ``config.duration``.

        Returns:
            ``(B, 1, frames, bands)`` float32, in decibel, on the device of ``wave``.

        Raises:
            ValueError: ``wave`` is shorter than what is asked for, or a clip too short to
                reflect.
        """
        lengths = self._lengths(wave, seconds)
        config = self.config
        shape = (len(wave), config.frames, config.bands)
        result = torch.empty(shape, device=wave.device)
        exact = config.precision == "float64"
        # MPS has no float64.
        source = wave.cpu() if exact and wave.device.type == "mps" else wave
        step = 1 if source.device.type == "cpu" else max(1, len(wave))
        for first in range(0, len(wave), step):
            clips = slice(first, first + step)
            result[clips] = self._clips(source[clips], lengths[clips])
        return result[:, None]

    def _lengths(self, wave: Tensor, seconds: Tensor | None) -> NDArray[np.int64]:
        """Samples used of each clip."""
        if wave.dim() != 2 or not wave.is_floating_point():
            raise ValueError(
                f"audio: is {wave.dtype} of shape {tuple(wave.shape)}; "
                "give floating-point samples as (B, samples)"
            )
        if seconds is None:
            lengths = np.full(len(wave), self.samples)
        else:
            check_count(seconds, len(wave))
            rate = self.config.rate
            lengths = np.rint(seconds.double().cpu().numpy() * rate).astype(np.int64)
        longest, shortest = lengths.max(initial=0), lengths.min(initial=self.samples)
        if longest > wave.shape[1]:
            raise ValueError(
                f"audio: has {wave.shape[1]} samples, but {longest} are needed "
                f"({longest / self.config.rate:g} s at {self.config.rate} Hz); "
                "read more, or fill up with silence"
            )
        if self.config.padding == "reflect" and shortest <= self.config.n_fft // 2:
            raise ValueError(
                f"audio: a clip of {shortest} samples is too short for "
                f"n_fft={self.config.n_fft}; take longer clips or a smaller n_fft"
            )
        return lengths

    def _clips(self, wave: Tensor, lengths: NDArray[np.int64]) -> Tensor:
        """``(b, frames, bands)`` of clips ``(b, samples)`` of which ``lengths`` are used."""
        config = self.config
        hop, frames = config.hop_samples, config.frames
        at = np.arange(frames) * (lengths[:, None] / self.samples)
        low = np.minimum(np.floor(at).astype(np.int64), lengths[:, None] // hop)
        high = np.minimum(low + 1, lengths[:, None] // hop)
        weight = at - low
        plain = not weight.any()
        count = frames if plain else int(high.max()) + 1
        levels = self._levels(wave, lengths, count)
        if plain:
            return levels
        start = np.arange(len(lengths))[:, None] * count
        device, rows = wave.device, levels.flatten(0, 1)
        below = rows[to_device((start + low).ravel(), device, torch.int64)]
        above = rows[to_device((start + high).ravel(), device, torch.int64)]
        share = to_device(weight.ravel(), device, torch.float32)[:, None]
        return below.lerp_(above, share).view(len(lengths), frames, -1)

    def _levels(self, wave: Tensor, lengths: NDArray[np.int64], count: int) -> Tensor:
        """The first ``count`` frames, ``(b, count, bands)``, before any rescaling."""
        config = self.config
        pad = _reflected if config.padding == "reflect" else _silent
        padded = pad(wave, lengths, config.n_fft // 2)
        if config.top_db is None:
            return self._decibel(padded, count)
        own = lengths // config.hop_samples + 1
        levels = self._decibel(padded, int(own.max()))
        beyond = np.arange(levels.shape[1]) >= own[:, None]
        heard = levels
        if beyond.any():
            mask = to_device(beyond, wave.device, torch.bool)
            heard = levels.masked_fill(mask[:, :, None], -torch.inf)
        least = heard.amax((1, 2), keepdim=True) - config.top_db
        return levels[:, :count].maximum(least)

    def _decibel(self, padded: Tensor, count: int) -> Tensor:
        """The first ``count`` frames, ``(b, count, bands)``, of padded clips."""
        config = self.config
        padded = padded[:, : (count - 1) * config.hop_samples + config.n_fft]
        window, filters = self.window, self.filters
        if config.precision == "float64":
            padded = padded.double()
            exact = _filters(config)
            filters = None if exact is None else exact.to(padded.device)
            window = torch.hann_window(config.window, dtype=padded.dtype, device=padded.device)
        spectrum = torch.stft(
            padded,
            config.n_fft,
            config.hop_samples,
            config.window,
            window,
            center=False,
            return_complex=True,
        ).transpose(1, 2)
        power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
        if filters is not None:
            power = power @ filters
        elif config.bands != power.shape[2]:
            pairs = torch.add(power[..., 1::2], power[..., 2::2]).mul_(0.5)
            power = torch.cat([power[..., :1], pairs], 2)
        return power.clamp_(min=FLOOR).log10_().mul_(10).float()


def _filters(config: AudioConfig) -> Tensor | None:
    """The mel filters that the settings ask for, float64."""
    if config.spectrogram != "mel":
        return None
    return mel_filters(config.rate, config.bands, config.n_fft)


def _check_settings(config: AudioConfig, samples: int) -> None:
    if config.frames < 1 or (config.frames - 1) * config.hop_samples > samples:
        raise ValueError(
            f"audio.hop: {config.hop:g} s at {config.rate} Hz does not give {config.frames} "
            f"frames in {config.duration:g} s; take a hop of whole samples"
        )
    if config.spectrogram == "mel":
        if not all_bands_heard(config.rate, config.bands, config.n_fft):
            raise ValueError(
                f"audio.bands: some of {config.bands} mel bands lie between the bins of "
                f"n_fft={config.n_fft}; take fewer, or a longer n_fft"
            )
        return
    bins = config.n_fft // 2 + 1
    paired = config.n_fft // 4 + 1
    if config.n_fft % 4 or config.bands not in (bins, paired):
        raise ValueError(
            f"audio.bands: {config.bands} bands cannot be made of n_fft={config.n_fft}; take an "
            f"n_fft that 4 divides, and {bins} bands (every bin) or {paired} (pairs averaged)"
        )


def _silent(wave: Tensor, lengths: NDArray[np.int64], margin: int) -> Tensor:
    """Clips with ``margin`` zeros before the first and after each one's own last sample."""
    longest = int(lengths.max())
    padded = torch.zeros((len(wave), longest + 2 * margin), device=wave.device)
    padded[:, margin : margin + longest] = wave[:, :longest]
    beyond = np.arange(longest) >= lengths[:, None]
    if beyond.any():
        mask = to_device(beyond, wave.device, torch.bool)
        padded[:, margin : margin + longest].masked_fill_(mask, 0)
    return padded


def _reflected(wave: Tensor, lengths: NDArray[np.int64], margin: int) -> Tensor:
    """Clips with ``margin`` samples mirrored before the first and after each one's own last."""
    longest = int(lengths.max())
    padded = torch.zeros((len(wave), longest + 2 * margin), device=wave.device)
    padded[:, margin : margin + longest] = wave[:, :longest]
    padded[:, :margin] = wave[:, 1 : margin + 1].flip(1)
    beyond = lengths[:, None] + np.arange(margin)
    mirror = 2 * (lengths[:, None] - 1) - beyond
    source = to_device(margin + mirror, wave.device, torch.int64)
    target = to_device(margin + beyond, wave.device, torch.int64)
    return padded.scatter_(1, target, padded.gather(1, source))


class Normalise(nn.Module):
    """Zero mean and unit deviation per frequency, by the statistics of the training set."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        """Keep the statistics as buffers.

        Args:
            mean: ``(bands,)`` in decibel.
            std: ``(bands,)`` in decibel, positive.

        Raises:
            ValueError: the two do not fit, or a deviation is not positive.
        """
        super().__init__()
        if mean.dim() != 1 or mean.shape != std.shape:
            raise ValueError(
                f"audio statistics: mean {tuple(mean.shape)} and deviation {tuple(std.shape)} "
                "must both have one value per band"
            )
        if not bool((std > 0).all()) or not bool(mean.isfinite().all() & std.isfinite().all()):
            raise ValueError("audio statistics: must be finite, and the deviations positive")
        self.register_buffer("mean", mean.detach().to(torch.float32, copy=True))
        self.register_buffer("std", std.detach().to(torch.float32, copy=True))

    def forward(self, spectrogram: Tensor) -> Tensor:
        """``(…, bands)`` in decibel to ``(…, bands)`` in deviations from the mean."""
        return (spectrogram - self.mean).div_(self.std)
