"""The mel filters of a spectrogram."""

from functools import cache

import torch
from torch import Tensor

from earsight.config.mel import mel_edges


@cache
def mel_filters(rate: int, bands: int, n_fft: int) -> Tensor:
    """Triangles of Slaney's mel scale over the bins of a transform, each of area 1 Hz.

    From edge ``a`` over the peak ``b`` to edge ``c``, bin ``f`` has the weight
    ``2 / (c − a) · max(0, min((f − a) / (b − a), (c − f) / (c − b)))``.

    Args:
        rate: samples per second.
        bands: of the mel spectrogram.
        n_fft: length of the transform in samples.

    Returns:
        ``(n_fft/2 + 1, bands)`` float64, the same tensor each time: not to be changed.
    """
    edge = torch.tensor(mel_edges(rate, bands), dtype=torch.float64)
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None] * rate / n_fft
    low, peak, high = edge[:-2], edge[1:-1], edge[2:]
    triangles = torch.minimum((bins - low) / (peak - low), (high - bins) / (high - peak))
    return triangles.clamp(min=0) * 2 / (high - low)
