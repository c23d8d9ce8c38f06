"""Settings of what networks are given: pictures, sound, pairs of pictures."""

from collections.abc import Iterator
from typing import Literal

from earsight.config.checks import Fraction, Range, at_least, no_effect, ordered, within
from earsight.config.mel import all_bands_heard
from earsight.config.registry import section

_CROP_AREA = (0.08, 1.0)
_CROP_RATIO = (3 / 4, 4 / 3)


@section
class VideoConfig:
    """Pictures: what is cut from a file, and how a clip is changed in training.

    Attributes:
        frames: frames per clip.
        fps: frames per second.
        size: side of the square picture in pixels.
        crop_area: range of the share of the area kept by a random crop.
        crop_ratio: range of the crop's width over height.
        short_side: pixels that the picture's short side is resized to, for a square of ``size`` to
            be cut from it at random; 0 for crops by ``crop_area`` and ``crop_ratio``.
        jitter: largest distance in seconds of a view's start from the one drawn for its sample;
            none draws the start of each view anew, from the whole instance.
        flip: probability of mirroring.
        brightness: strength of the change, a factor from 1 − x to 1 + x.
        contrast: likewise.
        saturation: likewise.
        hue: largest shift of hue, as a share of the full circle.
        grayscale: probability of a gray clip.
    """

    frames: int = 16
    fps: float = 16.0
    size: int = 112
    crop_area: Range = _CROP_AREA
    crop_ratio: Range = _CROP_RATIO
    short_side: int = 0
    jitter: float | None = None
    flip: Fraction = 0.5
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.2
    grayscale: Fraction = 0.0

    @property
    def duration(self) -> float:
        """Seconds that a clip covers."""
        return self.frames / self.fps

    @property
    def recoloured(self) -> bool:
        """Whether colours are changed in training."""
        light = self.brightness or self.contrast
        return bool(light or self.saturation or self.hue or self.grayscale)

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from at_least(self, frames=1, size=8)
        yield from within(self, 0, 1, "flip", "grayscale", "brightness", "contrast", "saturation")
        yield from within(self, 0, 0.5, "hue")
        yield from ordered(self, "crop_area", "crop_ratio")
        if self.fps <= 0:
            yield "fps: must be positive frames per second"
        if not 0 < self.crop_area[1] <= 1:
            yield "crop_area: shares of the area lie between 0 and 1"
        if self.jitter is not None and self.jitter < 0:
            yield "jitter: must be 0 or more seconds, or null for starts anywhere"
        yield from self._short_side_faults()

    def _short_side_faults(self) -> Iterator[str]:
        if not self.short_side:
            return
        if self.short_side < self.size:
            yield f"short_side: must be at least size ({self.size}), or 0"
        for name, default in (("crop_area", _CROP_AREA), ("crop_ratio", _CROP_RATIO)):
            if getattr(self, name) != default:
                yield f"{name}: has no effect where short_side is set; leave it out"


@section
class AudioConfig:
    """Sound: what is cut from a file, its spectrogram, and how a clip is changed in training.

    Attributes:
        rate: samples per second.
        duration: seconds per clip.
        spectrogram: levels in decibel, of the bins of the transform (``stft``) or of mel bands
            (``mel``, Slaney's).
        n_fft: length of the transform in samples.
        window: length of the Hann window in samples.
        hop: seconds between frames.
        bands: frequency bands; for ``stft``, every bin or the first and the mean of each further
            pair; for ``mel``, as many as have a bin each.
        padding: what stands before the first sample and after the last: the sound mirrored
            (``reflect``) or silence (``zeros``).
        precision: of the transform. In ``float32``, bins far below the loudest are off by
            thousandths of a decibel; ``float64`` takes two to three times as long.
        top_db: decibels below a clip's loudest value at which its levels end; none for no limit.
        volume: range of the factor of loudness.
        jitter: largest distance in seconds between the starts of sound and picture.
        stretch: range of seconds that are rescaled to ``duration``; equal ends mean none.
    """

    rate: int = 24000
    duration: float = 2.0
    spectrogram: Literal["stft", "mel"] = "stft"
    n_fft: int = 512
    window: int = 480
    hop: float = 0.02
    bands: int = 129
    padding: Literal["reflect", "zeros"] = "reflect"
    precision: Literal["float32", "float64"] = "float32"
    top_db: float | None = None
    volume: Range = (0.9, 1.1)
    jitter: float = 0.5
    stretch: Range = (1.4, 2.8)

    @property
    def frames(self) -> int:
        """Spectrogram frames per clip."""
        return round(self.duration / self.hop)

    @property
    def hop_samples(self) -> int:
        """Samples between frames."""
        return round(self.hop * self.rate)

    def _frames_missing(self) -> bool:
        samples = round(self.duration * self.rate)
        return samples // max(1, self.hop_samples) + 1 < self.frames

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from at_least(self, rate=1000, n_fft=16, window=8, bands=1)
        yield from ordered(self, "volume", "stretch")
        for name in ("duration", "hop"):
            if getattr(self, name) <= 0:
                yield f"{name}: must be positive seconds"
        if self.jitter < 0:
            yield "jitter: must be 0 or more seconds"
        if self.window > self.n_fft:
            yield f"window: must not exceed n_fft ({self.n_fft})"
        if self.stretch[0] == self.stretch[1] != self.duration:
            yield f"stretch: equal ends mean none, and must then be the duration, {self.duration}"
        if self.top_db is not None and self.top_db <= 0:
            yield "top_db: must be positive decibels, or null for no limit"
        if self.hop > 0 and self._frames_missing():
            yield f"hop: {self.hop_samples} samples do not give {self.frames} frames; shorten it"
        yield from self._band_faults()

    def _band_faults(self) -> Iterator[str]:
        if self.spectrogram == "mel":
            possible = min(self.rate, self.n_fft, self.bands) > 0
            if possible and not all_bands_heard(self.rate, self.bands, self.n_fft):
                yield (
                    f"bands: some of {self.bands} mel bands lie between the bins of "
                    f"n_fft={self.n_fft}; take fewer, or a longer n_fft"
                )
            return
        if self.n_fft % 4:
            yield "n_fft: must be a multiple of 4"
        full = self.n_fft // 2 + 1
        if self.bands not in (full, self.n_fft // 4 + 1):
            yield (
                f"bands: must be {full} (every bin of n_fft={self.n_fft}) or "
                f"{self.n_fft // 4 + 1} (the first, then pairs averaged)"
            )


@section
class PicturesConfig:
    """Pairs of pictures in the place of films: the first stands for ``video``, the other for sound.

    Attributes:
        cells: characters that each picture shows, of as many alphabets; 0 where the corpus is of
            films and sounds.
        shift: in training each character is moved by up to so many pixels, across and down;
        turn: turned by up to so many degrees,
        scale: and its size multiplied by a factor from this range.
    """

    cells: int = 0
    shift: float = 3.0
    turn: float = 10.0
    scale: Range = (0.85, 1.15)

    @property
    def changed(self) -> bool:
        """Whether characters are changed in training."""
        return bool(self.shift or self.turn or self.scale != (1.0, 1.0))

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from at_least(self, cells=0, shift=0, turn=0)
        yield from ordered(self, "scale")
        if not self.cells:
            yield from no_effect(self, "has no effect unless pictures.cells is set")
