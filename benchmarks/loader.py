"""Clips loaded per second and core, beside a reference that works as published code does.

The clip is that of AVID at scale: 8 frames at 16 fps and 224 × 224 pixels, 2 s of sound at 24 kHz
as 200 × 257 levels, at random places of a video of 340 × 256, 30 fps, a keyframe every 12 frames.
Both sides do everything from the file to network inputs, the changes of colour included; ours are
compiled (``train.compile=inputs``), which is done before anything is timed.
"""

import sys
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import reference_loader as reference
from common import DATA, Target, alternate, arguments, finish, median
from earsight import random
from earsight.config import AudioConfig, VideoConfig
from earsight.media.decode import decode
from earsight.media.open import open_media
from earsight.media.picture import Converter
from earsight.media.streams import choose
from earsight.media.types import AudioRequest, Clip, ClipRequest, Limits, VideoRequest
from earsight.training.devices import keep_memory
from earsight.transforms.audio import Spectrogram
from earsight.transforms.video import augment

PATH = DATA / "real-videos/loader_340x256.mp4"
VIDEO = VideoConfig(frames=8, fps=16.0, size=224)
AUDIO = AudioConfig(rate=24000, n_fft=512, window=480, hop=0.01, bands=257)
SECONDS = 13.0
BATCH = 4


def requests(count: int) -> list[ClipRequest]:
    """Random places, crops (as the usual random resized crop) and mirrorings."""
    index = np.arange(count)

    def draw(purpose: str, low: float, high: float) -> NDArray[np.float64]:
        return np.asarray(low + (high - low) * random.uniform(0, purpose, index, 0))

    area = draw("area", *VIDEO.crop_area)
    ratio = np.exp(draw("ratio", *np.log(VIDEO.crop_ratio)))
    # The file's pictures are 340 × 256.
    width = np.minimum(np.sqrt(area * ratio * 256 / 340), 1)
    height = np.minimum(area / width, 1)
    left, top = draw("left", 0, 1) * (1 - width), draw("top", 0, 1) * (1 - height)
    start = draw("start", 0, SECONDS - AUDIO.duration)
    flip = draw("flip", 0, 1) < VIDEO.flip
    boxes = np.clip(np.stack([left, top, left + width, top + height], 1), 0, 1)
    return [
        ClipRequest(
            path=str(PATH),
            video=(
                VideoRequest(
                    start=float(start[i]),
                    fps=VIDEO.fps,
                    frames=VIDEO.frames,
                    box=tuple(boxes[i].tolist()),
                    size=(VIDEO.size, VIDEO.size),
                    flip=bool(flip[i]),
                ),
            ),
            audio=(AudioRequest(start=float(start[i]), duration=AUDIO.duration, rate=AUDIO.rate),),
        )
        for i in index
    ]


class Ours:
    """Our way from requests to network inputs."""

    def __init__(self) -> None:
        self.spectrogram = Spectrogram(AUDIO)

    def load(self, batch: list[ClipRequest]) -> tuple[Tensor, Tensor]:
        """``(B, 3, T, H, W)`` normalised pictures and ``(B, 1, frames, bands)`` decibel."""
        clips = [decode(request) for request in batch]
        return self.colour(pictures(clips)), self.spectrogram(waves(clips))

    def colour(self, video: Tensor) -> Tensor:
        """Changes of colour, normalised."""
        return augment(video, VIDEO, seed=0, index=np.arange(len(video)), view=0, fused=True)


def pictures(clips: list[Clip]) -> Tensor:
    """Pictures of a batch, ``(B, 3, T, H, W)`` uint8."""
    return torch.from_numpy(np.stack([clip.video[0].transpose(3, 0, 1, 2) for clip in clips]))


def waves(clips: list[Clip]) -> Tensor:
    """Sound of a batch, ``(B, samples)``."""
    return torch.from_numpy(np.stack([clip.audio[0] for clip in clips]))


def theirs(batch: list[ClipRequest]) -> list[tuple[Tensor, Tensor]]:
    """The same clips by the reference."""
    return [reference.load(r.path, r.video[0], r.audio[0], VIDEO, AUDIO) for r in batch]


def stages(ours: Ours, batches: list[list[ClipRequest]]) -> dict[str, Callable[[int], object]]:
    """Parts of our work that can be timed alone, each a function of the batch's number."""
    clips = [decode(request) for request in batches[0]]
    video, sound, frames = pictures(clips), waves(clips), some_frames()

    def opened(number: int) -> None:
        for request in batches[number]:
            with open_media(request.path, probing=False) as container:
                choose(container, Limits())

    def converted(number: int) -> None:
        for request in batches[number]:
            converter = Converter(request.video[0], Limits())
            for slot, frame in enumerate(frames):
                converter.convert(frame, slot)

    return {
        "open": opened,
        "all": lambda n: [decode(r) for r in batches[n]],
        "video": lambda n: [decode(ClipRequest(path=r.path, video=r.video)) for r in batches[n]],
        "audio": lambda n: [decode(ClipRequest(path=r.path, audio=r.audio)) for r in batches[n]],
        "conversion": converted,
        "batch": lambda _: (pictures(clips), waves(clips)),
        "spectrogram": lambda _: ours.spectrogram(sound),
        "photometric": lambda _: ours.colour(video),
        "photometric, not compiled": lambda _: augment(
            video, VIDEO, seed=0, index=np.arange(len(video)), view=0
        ),
    }


def some_frames() -> list[Any]:
    """Decoded frames, as many as a clip has."""
    with open_media(PATH) as container:
        frames = container.decode(video=0)
        return [next(frames) for _ in range(VIDEO.frames)]


def agreement(count: int) -> tuple[float, float]:
    """Lowest PSNR of pictures in dB, and the largest mean difference of audible levels in dB."""
    lowest, largest = np.inf, 0.0
    spectrogram = Spectrogram(AUDIO)
    for request in requests(count):
        clip = decode(request)
        with av.open(request.path) as container:
            images = reference.read_pictures(container, request.video[0])
            wave = reference.read_sound(container, request.audio[0])
        shaped = np.stack([np.asarray(reference.shape(x, request.video[0])) for x in images])
        error = np.mean((shaped.astype(np.float64) - clip.video[0]) ** 2)
        lowest = min(lowest, 10 * np.log10(255**2 / error))
        levels = spectrogram(torch.from_numpy(clip.audio[0][None]))[0]
        expected = reference.spectrogram(wave, AUDIO)
        audible = expected > -40
        largest = max(largest, float((levels - expected)[audible].abs().mean()))
    return float(lowest), largest


def measure(rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Core-seconds per batch, of both sides and of the parts of ours."""
    plan = requests(BATCH * rounds)
    batches = [plan[at : at + BATCH] for at in range(0, len(plan), BATCH)]
    ours = Ours()
    sides = {
        "earsight": lambda number: ours.load(batches[number]),
        "reference": lambda number: theirs(batches[number]),
    }
    return alternate(sides, rounds), alternate(stages(ours, batches), rounds)


def split(parts: dict[str, list[float]]) -> dict[str, float]:
    """Milliseconds of one core per clip and part."""
    cost = {name: 1e3 * median(values) / BATCH for name, values in parts.items()}
    return {
        "open": cost["open"],
        "video decoding": cost["video"] - cost["open"] - cost["conversion"],
        "conversion": cost["conversion"],
        "sound": cost["audio"] - cost["open"],
        "batch": cost["batch"],
        "spectrogram": cost["spectrogram"],
        "photometric": cost["photometric"],
        "photometric, not compiled": cost["photometric, not compiled"],
        "decode floor": cost["all"] - cost["conversion"],
    }


def main() -> int:
    args = arguments(__doc__ or "")
    if not PATH.exists():
        print(f"{PATH} is missing; this benchmark needs that file")
        return 1
    keep_memory()  # As training does; the reference has the same.
    torch.set_num_threads(1)
    psnr, decibel = agreement(2 if args.quick else 16)
    sides, parts = measure(3 if args.quick else 25)
    speed = {name: BATCH / median(values) for name, values in sides.items()}
    milliseconds = split(parts)
    gain = median(
        [slow / fast for fast, slow in zip(sides["earsight"], sides["reference"], strict=True)]
    )
    for name, clips in speed.items():
        print(f"{name}: {clips:.1f} clips/s per core")
    print("where a clip's time goes, in ms of one core")
    print("(the decode floor is opening, decoding and sound, with no conversion):")
    for name, value in milliseconds.items():
        print(f"  {name}: {value:.2f}")
    raw = {
        "batch": BATCH,
        "core_seconds": sides,
        "core_seconds_of_parts": parts,
        "clips_per_second": speed,
        "milliseconds": milliseconds,
    }
    targets = [
        Target(name="pictures agree, PSNR", measured=psnr, unit=" dB", least=30),
        Target(name="audible levels differ by", measured=decibel, unit=" dB", most=0.5),
        Target(name="clips/s per core over reference", measured=gain, unit="×", least=4),
    ]
    return finish(targets, raw, args.json)


if __name__ == "__main__":
    sys.exit(main())
