"""The sound of a demo clip: struck objects by modal synthesis, over noise and stray tones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.demo_scene import (
    DAMPING_SPREAD,
    DURATION,
    RATE,
    STRAY_DB,
    TILT_SPREAD,
    Scene,
    Strike,
)
from earsight.corpus.draws import Draws, white_noise
from earsight.random import uniform

SAMPLES = round(RATE * DURATION)
_BLOCK = 128
_HIGHEST = 0.45 * RATE
_LEVEL = 0.25

RATIOS = {
    "disc": (1.0, 1.59, 2.14, 2.3, 2.65, 2.92, 3.16, 3.5),
    "triangle": (1.0, 5.2, 5.9, 6.6, 7.3, 8.0),
    "bar": (1.0, 2.76, 5.4, 8.93, 13.3),
    "tube": (1.0, 3.0, 5.0, 7.0, 9.0, 11.0),
    "chimes": (1.0, 1.25, 4.0, 4.5, 8.0, 8.8),
    "ladder": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0),
}
"""Frequencies of a shape's partials over its fundamental: a circular membrane, a cluster far above
the fundamental, a free bar, a closed tube, doublets, a harmonic series."""


@dataclass(frozen=True, kw_only=True)
class Timbre:
    """How a material rings.

    Attributes:
        ringing: seconds in which the fundamental falls by 60 dB.
        damping: how much faster a partial dies per octave above the fundamental.
        tilt: decibel per octave by which partials above the fundamental are stronger.
        contact: seconds that the blow lasts, over which the sound rises.
        click: level of the noise of the blow.
    """

    ringing: float
    damping: float
    tilt: float
    contact: float
    click: float


TIMBRES = {
    "wood": Timbre(ringing=0.30, damping=0.5, tilt=-4.0, contact=0.002, click=0.3),
    "glass": Timbre(ringing=0.90, damping=0.1, tilt=1.0, contact=0.0005, click=0.1),
    "steel": Timbre(ringing=2.20, damping=0.2, tilt=-1.0, contact=0.0005, click=0.1),
    "rubber": Timbre(ringing=0.15, damping=0.3, tilt=-6.0, contact=0.004, click=0.05),
    "stone": Timbre(ringing=0.30, damping=0.1, tilt=0.0, contact=0.001, click=0.6),
}


def render_sound(scene: Scene) -> NDArray[np.float32]:
    """The clip's sound.

    Returns:
        ``(SAMPLES,)`` float32 mono in (-1, 1) at :data:`~earsight.corpus.demo_scene.RATE`.
    """
    draws = scene.draws("sound")
    sound = _object(scene, draws)
    sound += _stray(scene, draws)
    echo = round(RATE * draws.between(0.02, 0.08))
    sound[echo:] += draws.between(0.0, 0.4) * sound[:-echo]
    sound += _noise(scene, draws)
    return np.tanh(sound * draws.between(0.6, 1.0)).astype(np.float32)


def partials(
    frequency: NDArray[np.float64],
    decay: NDArray[np.float64],
    amplitude: NDArray[np.float64],
    samples: int,
) -> NDArray[np.float64]:
    """``Σ_k a_k exp(-d_k t) sin(2π f_k t)``, as a product of two small matrices of phasors.

    With ``z_k = exp((-d_k + 2πi f_k) / RATE)`` and ``n = i·L + j``, ``z_k^n`` is
    ``z_k^(iL) · z_k^j``, so that few exponentials are taken.

    Args:
        frequency: ``(K,)`` hertz.
        decay: ``(K,)`` per second.
        amplitude: ``(K,)``.
        samples: length of the result.

    Returns:
        ``(samples,)``.
    """
    rate = (-decay + 2j * np.pi * frequency) / RATE
    block = np.arange(-(-samples // _BLOCK)) * _BLOCK
    coarse = amplitude * np.exp(block[:, None] * rate)
    fine = np.exp(np.arange(_BLOCK)[:, None] * rate)
    sines = coarse.imag @ fine.real.T + coarse.real @ fine.imag.T
    return np.asarray(sines.reshape(-1)[:samples])


def _object(scene: Scene, draws: Draws) -> NDArray[np.float64]:
    """The struck object alone: each strike excites its partials anew."""
    timbre = TIMBRES[scene.material]
    ratios = np.array(RATIOS[scene.shape])
    ratios = ratios[ratios * scene.pitch < _HIGHEST]
    octaves = np.log2(ratios)
    ringing = timbre.ringing * DAMPING_SPREAD ** draws.between(-1, 1)
    decay = np.log(1000) / ringing * (1 + timbre.damping * octaves)
    tilt = timbre.tilt + draws.between(-TILT_SPREAD, TILT_SPREAD)
    envelope = 10 ** (tilt * octaves / 20)
    sound = np.zeros(SAMPLES)
    for number, strike in enumerate(scene.strikes):
        # Where an object is struck changes how strongly each partial sounds.
        amplitude = envelope * (0.6 + 0.4 * draws.unit(len(ratios)))
        amplitude *= _LEVEL * strike.strength / np.sqrt((amplitude**2).sum())
        start = round(strike.time * RATE)
        blow = partials(ratios * scene.pitch, decay, amplitude, SAMPLES - start)
        blow += _click(scene, timbre, strike, number, SAMPLES - start)
        rise = max(2, round(timbre.contact * RATE))
        blow[:rise] *= np.arange(rise) / rise
        sound[start:] += blow
    return sound


def _click(
    scene: Scene, timbre: Timbre, strike: Strike, number: int, samples: int
) -> NDArray[np.float64]:
    """The noise of the blow itself, gone after a few milliseconds."""
    length = min(samples, round(0.03 * RATE))
    noise = uniform(scene.seed, "demo/click", scene.index, number, np.arange(length)) - 0.5
    noise *= timbre.click * _LEVEL * 2 * strike.strength * np.exp(-np.arange(length) / 120)
    return np.pad(noise, (0, samples - length))


def _stray(scene: Scene, draws: Draws) -> NDArray[np.float64]:
    """Tones that ring at moments of their own."""
    sound = np.zeros(SAMPLES)
    for _ in range(scene.stray_sounds):
        start = round(draws.between(0, 0.9) * SAMPLES)
        frequency = 300 * 2 ** (draws.between(0, 4.5) + np.array([0.0, draws.between(0.3, 2)]))
        ringing = 0.1 * 10 ** draws.between(0, 1.3)
        level = _LEVEL * 10 ** (draws.between(*STRAY_DB) / 20)
        heard = frequency[frequency < _HIGHEST]
        decay = np.full(len(heard), np.log(1000) / ringing)
        sound[start:] += partials(heard, decay, np.full(len(heard), level), SAMPLES - start)
    return sound


def _noise(scene: Scene, draws: Draws) -> NDArray[np.float64]:
    """Noise of a random colour that swells and fades."""
    white = white_noise(scene.seed, "demo/noise", scene.index, SAMPLES)
    spectrum = np.fft.rfft(white)
    hertz = np.fft.rfftfreq(SAMPLES, 1 / RATE)
    spectrum *= (1 + hertz / 200) ** -draws.between(0.0, 1.2)
    noise = np.fft.irfft(spectrum, SAMPLES)
    noise *= _LEVEL * 10 ** (scene.noise_db / 20) / np.sqrt(np.mean(noise**2))
    turns = draws.between(0.3, 2) * np.arange(SAMPLES) / RATE + draws.between(0, 1)
    return np.asarray(noise * (1 + 0.5 * np.sin(2 * np.pi * turns)))
