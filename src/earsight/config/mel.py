"""Mel bands by Slaney's scale: where they lie, and whether a transform can tell them apart."""

import math

_LINEAR = 200 / 3
"""Hertz per mel, up to 1000 Hz."""
_CORNER = 1000.0
_STEP = math.log(6.4) / 27
"""Rise of a frequency's logarithm per mel, from 1000 Hz on."""


def mel_edges(rate: int, bands: int) -> list[float]:
    """Edges of ``bands`` mel bands from 0 to half the rate, in Hertz.

    They are evenly spaced in mel; band ``i`` is a triangle from edge ``i`` to edge ``i + 2`` with
    its peak at the one between.

    Returns:
        ``bands + 2`` rising frequencies.
    """
    last = _mel(rate / 2)
    return [_hertz(last * number / (bands + 1)) for number in range(bands + 2)]


def all_bands_heard(rate: int, bands: int, n_fft: int) -> bool:
    """Whether a bin of the transform lies inside each mel band."""
    places = [edge * n_fft / rate for edge in mel_edges(rate, bands)]
    return all(
        math.floor(low) + 1 < high for low, high in zip(places[:-2], places[2:], strict=True)
    )


def _mel(hertz: float) -> float:
    if hertz < _CORNER:
        return hertz / _LINEAR
    return _CORNER / _LINEAR + math.log(hertz / _CORNER) / _STEP


def _hertz(mel: float) -> float:
    corner = _CORNER / _LINEAR
    return mel * _LINEAR if mel < corner else _CORNER * math.exp(_STEP * (mel - corner))
