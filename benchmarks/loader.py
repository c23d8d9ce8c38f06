"""Clips loaded per second and core, beside a reference that works as published code does.

The clip is that of AVID at scale: 8 frames at 16 fps and 224 × 224 pixels, 2 s of sound at 24 kHz
as 200 × 257 levels, at random places of a 340 × 256 video of 30 fps with a keyframe every 12 frames.
Both sides do everything from the file to network inputs, the changes of colour included.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import reference_loader as reference
import torch
from common import DATA, Target, alternate, arguments, finish, median
from numpy.typing import NDArray
from torch import Tensor

from earsight import random
from earsight.config import AudioConfig, VideoConfig
from earsight.media.decode import decode
from earsight.media.open import open_media
from earsight.media.picture import Converter
from earsight.media.streams import choose
from earsight.media.types import AudioRequest, Clip, ClipRequest, Limits, VideoRequest
from earsight.transforms.audio import Spectrogram
from earsight.transforms.video import augment

PATH = DATA / "real-videos/loader_340x256.mp4"
VIDEO = VideoConfig(frames=8, fps=16.0, size=224)
AUDIO = AudioConfig(rate=24000, duration=2.0, n_fft=512, window=480, hop=0.01, bands=257)
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
        return augment(video, VIDEO, seed=0, index=np.arange(len(video)), view=0)


def pictures(clips: list[Clip]) -> Tensor:
    """Pictures of a batch, ``(B, 3, T, H, W)`` uint8."""
    return torch.from_numpy(np.stack([clip.video[0].transpose(3, 0, 1, 2) for clip in clips]))


def waves(clips: list[Clip]) -> Tensor:
    """Sound of a batch, ``(B, samples)``."""
    return torch.from_numpy(np.stack([clip.audio[0] for clip in clips]))


def theirs(batch: list[ClipRequest]) -> list[tuple[Tensor, Tensor]]:
    """The same clips by the reference."""
    return [reference.load(r.path, r.video[0], r.audio[0], VIDEO, AUDIO) for r in batch]


def open_only(batch: list[ClipRequest]) -> None:
    """Open the file and choose the streams."""
    for request in batch:
        with open_media(request.path, probing=False) as container:
            choose(container, Limits())


def stages(ours: Ours, batch: list[ClipRequest]) -> dict[str, Callable[[int], object]]:
    """Parts of our work that can be timed alone."""
    clips = [decode(request) for request in batch]
    video, sound, frames = pictures(clips), waves(clips), some_frames()
    seen = [ClipRequest(path=r.path, video=r.video) for r in batch]
    heard = [ClipRequest(path=r.path, audio=r.audio) for r in batch]

    def convert(_: int) -> None:
        for request in batch:
            converter = Converter(request.video[0], Limits())
            for slot, frame in enumerate(frames):
                converter.convert(frame, slot)

    return {
        "open": lambda _: open_only(batch),
        "all": lambda _: [decode(request) for request in batch],
        "video": lambda _: [decode(request) for request in seen],
        "audio": lambda _: [decode(request) for request in heard],
        "conversion": convert,
        "batch": lambda _: (pictures(clips), waves(clips)),
        "spectrogram": lambda _: ours.spectrogram(sound),
        "photometric": lambda _: ours.colour(video),
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
        with reference.av.open(request.path) as container:
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


def main() -> int:
    args = arguments(__doc__ or "")
    if not PATH.exists():
        print(f"{PATH} is missing; this benchmark needs that file")
        return 1
    torch.set_num_threads(1)
    rounds = 4 if args.quick else 25
    plan = requests(BATCH * rounds)
    ours = Ours()
    psnr, decibel = agreement(4 if args.quick else 16)

    def batch(number: int) -> list[ClipRequest]:
        return plan[number * BATCH : (number + 1) * BATCH]

    sides = {
        "earsight": lambda number: ours.load(batch(number)),
        "reference": lambda number: theirs(batch(number)),
    }
    taken = alternate(sides, rounds)
    speed = {name: BATCH / median(values) for name, values in taken.items()}
    parts = alternate(stages(ours, batch(0)), rounds)
    cost = {name: 1e3 * median(values) / BATCH for name, values in parts.items()}
    decoding = cost["video"] - cost["open"] - cost["conversion"]
    floor = cost["all"] - cost["conversion"]

    print(f"earsight: {speed['earsight']:.1f} clips/s per core")
    print(f"reference: {speed['reference']:.1f} clips/s per core")
    print("where a clip's time goes, in ms of one core:")
    split = {
        "open": cost["open"],
        "video decoding": decoding,
        "conversion": cost["conversion"],
        "sound": cost["audio"] - cost["open"],
        "batch": cost["batch"],
        "spectrogram": cost["spectrogram"],
        "photometric": cost["photometric"],
    }
    for name, milliseconds in split.items():
        print(f"  {name}: {milliseconds:.2f}")
    print(f"  decode floor (open, decoding and sound, no conversion): {floor:.2f}")
    gain = median([b / a for a, b in zip(taken["earsight"], taken["reference"], strict=True)])
    targets = [
        Target(name="pictures agree, PSNR", measured=psnr, unit=" dB", least=30),
        Target(name="audible levels differ by", measured=decibel, unit=" dB", most=0.5),
        Target(name="clips/s per core over reference", measured=gain, unit="×", least=3),
    ]
    raw = {"core_seconds": taken, "parts": parts, "milliseconds": split, "clips_per_second": speed}
    return finish(targets, {**raw, "floor_milliseconds": floor, "batch": BATCH}, args.json)


if __name__ == "__main__":
    sys.exit(main())
