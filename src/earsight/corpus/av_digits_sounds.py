"""The sound of a clip of av-digits: a digit is said two or three times, over noise."""

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.av_digits_plan import Clip
from earsight.corpus.av_digits_source import read_recording
from earsight.corpus.draws import white_noise
from earsight.media.sound import resample

RATE = 24_000
FPS = 16
FRAMES = 48
DURATION = FRAMES / FPS
"""Seconds of a clip, pictures and sound alike."""
SAMPLES = round(RATE * DURATION)

TIMES = (2, 3)
"""Least and most times that the digit is said, at even distances; twice where it is too long for
more."""
FADE = 0.05
"""Seconds over which a recording fades in and out that is too long to be said twice, and is cut."""
NOISE = (0.002, 0.016)
"""Range of the root mean square of the noise, rumble below hearing included."""
NOISE_COLOUR = (0.0, 2.0)
"""Range of the power of the frequency with which the noise's energy falls: white to brown."""
NOISE_BAND = (1.0, 4000.0)
"""Hertz between which there is noise: up to where the recordings end."""


def render_speech(clip: Clip) -> NDArray[np.float64]:
    """The speech alone.

    Returns:
        ``(SAMPLES,)``, its peak the clip's gain.
    """
    recorded, rate = read_recording(clip.recording.path)
    said = (recorded if rate == RATE else resample(recorded, rate, RATE)).astype(np.float64)
    draws = clip.draws("speech")
    times = draws.whole(*TIMES)
    if len(said) * times > SAMPLES:
        times = TIMES[0]
    period = SAMPLES // times
    if len(said) > period:
        said = _cut(said, period)
    said *= clip.gain / np.abs(said).max()
    start = draws.whole(0, period - len(said))
    one = np.zeros(period)
    one[start : start + len(said)] = said
    return np.tile(one, times)


def _cut(said: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """The part around the loudest sample."""
    loudest = int(np.abs(said).argmax())
    first = min(max(0, loudest - length // 2), len(said) - length)
    fade = np.minimum(1, np.arange(1, length + 1) / round(FADE * RATE))
    return np.asarray(said[first : first + length] * fade * fade[::-1])


def render_sound(clip: Clip, speech: NDArray[np.float64]) -> NDArray[np.float32]:
    """The clip's sound.

    Args:
        clip: which.
        speech: ``(SAMPLES,)`` of :func:`render_speech`.

    Returns:
        ``(SAMPLES,)`` float32 mono in [-1, 1] at :data:`RATE`.
    """
    draws = clip.draws("noise")
    white = white_noise(clip.seed, "av-digits/noise", clip.index, SAMPLES)
    spectrum = np.fft.rfft(white)
    hertz = np.fft.rfftfreq(SAMPLES, 1 / RATE)
    low, high = NOISE_BAND
    spectrum *= np.maximum(hertz, low) ** (-draws.between(*NOISE_COLOUR) / 2)
    spectrum[(hertz < low) | (hertz > high)] = 0
    noise = np.fft.irfft(spectrum, SAMPLES)
    noise *= draws.between(*NOISE) / np.sqrt(np.mean(noise**2))
    return np.clip(speech + noise, -1, 1).astype(np.float32)


def loudness(speech: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(FRAMES,)`` root mean square over the time of each frame, relative to the loudest's."""
    energy = np.mean(speech.reshape(FRAMES, -1) ** 2, axis=1)
    return np.asarray(np.sqrt(energy / energy.max()))
