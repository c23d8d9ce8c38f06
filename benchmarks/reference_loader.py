"""Loading as published audio-visual code does it: PIL for every frame, librosa for the sound.

The steps are those of the usual research loader: seek, decode on to the wanted frames, each to a
PIL image; crop and resize, mirror and jitter the colours of each image; stack, scale and normalise;
decode the sound with a resampler to 16-bit mono, cut it; librosa's STFT in decibel.
"""

import random
from dataclasses import dataclass
from typing import Any

import av
import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor

from earsight.config import AudioConfig, VideoConfig
from earsight.media.types import AudioRequest, VideoRequest

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1, 1)


@dataclass(frozen=True)
class Jitter:
    """Factors of one clip's colours."""

    brightness: float
    contrast: float
    saturation: float
    hue: float

    @classmethod
    def draw(cls, config: VideoConfig) -> "Jitter":
        """One draw for all frames of a clip."""

        def factor(strength: float) -> float:
            return random.uniform(1 - strength, 1 + strength)

        return cls(
            factor(config.brightness),
            factor(config.contrast),
            factor(config.saturation),
            random.uniform(-config.hue, config.hue),
        )


def load(
    path: str,
    video: VideoRequest,
    audio: AudioRequest,
    video_config: VideoConfig,
    audio_config: AudioConfig,
) -> tuple[Tensor, Tensor]:
    """A training clip: ``(3, T, H, W)`` normalised pictures and ``(1, frames, bands)`` decibel."""
    with av.open(path) as container:
        images = read_pictures(container, video)
        wave = read_sound(container, audio)
    jitter = Jitter.draw(video_config)
    images = [colour(shape(image, video), jitter) for image in images]
    return to_tensor(images), spectrogram(wave, audio_config)


def read_pictures(container: Any, wanted: VideoRequest) -> list[Image.Image]:
    """The wanted frames as PIL images."""
    stream = container.streams.video[0]
    rate = stream.average_rate
    times = [wanted.start + i / wanted.fps for i in range(wanted.frames)]
    numbers = [int(time * rate) for time in times]
    container.seek(int(wanted.start * av.time_base))
    images: list[Image.Image] = []
    for frame in container.decode(video=0):
        number = round(frame.pts * frame.time_base * rate)
        if number < numbers[len(images)]:
            continue
        image = frame.to_image()
        while len(images) < len(numbers) and number >= numbers[len(images)]:
            images.append(image)
        if len(images) == len(numbers):
            break
    return images


def read_sound(container: Any, wanted: AudioRequest) -> NDArray[np.float32]:
    """The wanted samples, mono, at the wanted rate."""
    resampler = av.AudioResampler(format="s16p", layout="mono", rate=wanted.rate)
    container.seek(int(wanted.start * av.time_base))
    parts: list[NDArray[Any]] = []
    first = None
    for frame in container.decode(audio=0):
        start = frame.pts * frame.time_base
        if start + frame.samples / frame.sample_rate < wanted.start:
            continue
        if start > wanted.start + wanted.duration:
            break
        first = float(start) if first is None else first
        parts += [part.to_ndarray() for part in resampler.resample(frame)]
    samples = np.concatenate(parts, axis=1)[0]
    skip = round((wanted.start - (first or 0.0)) * wanted.rate)
    cut = samples[skip : skip + round(wanted.duration * wanted.rate)]
    wave: NDArray[np.float32] = cut.astype(np.float32) / np.float32(np.iinfo(np.int16).max)
    return wave


def shape(image: Image.Image, wanted: VideoRequest) -> Image.Image:
    """Crop, resize and mirror an image."""
    x0, y0, x1, y1 = wanted.box
    left, right = round(x0 * image.width), round(x1 * image.width)
    top, bottom = round(y0 * image.height), round(y1 * image.height)
    height, width = wanted.size
    image = image.crop((left, top, right, bottom)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if wanted.flip else image


def colour(image: Image.Image, jitter: Jitter) -> Image.Image:
    """Jitter an image's colours."""
    image = ImageEnhance.Brightness(image).enhance(jitter.brightness)
    image = ImageEnhance.Contrast(image).enhance(jitter.contrast)
    image = ImageEnhance.Color(image).enhance(jitter.saturation)
    hue, saturation, value = image.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(int(jitter.hue * 255) % 256)
    channels = (Image.fromarray(turned), saturation, value)
    return Image.merge("HSV", channels).convert("RGB")


def to_tensor(images: list[Image.Image]) -> Tensor:
    """Images as ``(3, T, H, W)`` float32, normalised."""
    frames = [torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 for image in images]
    return (torch.stack(frames, dim=1) - MEAN) / STD


def spectrogram(wave: NDArray[np.float32], config: AudioConfig) -> Tensor:
    """Power in decibel, ``(1, frames, bands)``."""
    levels = librosa.stft(
        wave,
        n_fft=config.n_fft,
        hop_length=config.hop_samples,
        win_length=config.window,
        center=True,
        pad_mode="reflect",
    )
    decibel = librosa.power_to_db(np.abs(levels) ** 2, amin=1e-10, top_db=None)
    return torch.from_numpy(decibel.T[None, : config.frames].astype(np.float32))
