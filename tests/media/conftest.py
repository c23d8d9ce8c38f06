"""Media files written for the tests: every frame carries its number, every sample is known."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

REAL = Path(__file__).parents[2] / "../shared/data/real-videos"
BITS = 8


def picture(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """Above: the number in 8 black or white bars; below: a smooth coloured pattern that drifts."""
    bars = [(255 if number >> bit & 1 else 0) for bit in range(BITS)]
    x = np.arange(width)
    top = np.array(bars, np.uint8)[np.minimum(x * BITS // width, BITS - 1)]
    y, x = np.mgrid[0 : height - height // 2, 0:width]
    phase = number / 40
    waves = [np.sin(x / 9 + y / 13 * k + phase) for k in (1, 2, 3)]
    bottom = np.stack([127 + 90 * wave for wave in waves], 2).astype(np.uint8)
    above = np.broadcast_to(top[None, :, None], (height // 2, width, 3))
    return np.ascontiguousarray(np.concatenate([above, bottom]))


def number_of(image: NDArray[np.uint8]) -> int:
    """The number that a picture carries, read from the middle of each bar."""
    height, width = image.shape[:2]
    rows = image[height // 8 : height * 3 // 8].mean((0, 2))
    centres = [round((bit + 0.5) * width / BITS) for bit in range(BITS)]
    return sum(1 << bit for bit, at in enumerate(centres) if rows[at] > 127)


def sound(seconds: float, rate: int, channels: int = 1) -> NDArray[np.float32]:
    """``(channels, samples)``: tones that rise, with a click every quarter of a second."""
    t = np.arange(round(seconds * rate)) / rate
    tones = [0.3 * np.sin(2 * np.pi * (300 + 150 * c + 40 * t) * t) for c in range(channels)]
    clicks = np.exp(-((t % 0.25) / 0.002)) * np.sin(2 * np.pi * 2000 * (t % 0.25)) * 0.3
    return np.stack([tone + clicks for tone in tones]).astype(np.float32)


@dataclass
class Video:
    """A video stream to write; ``ticks`` are the frames' times in units of ``tick`` seconds."""

    ticks: Sequence[int] = tuple(range(40))
    tick: Fraction = Fraction(1, 20)
    codec: str = "libx264"
    size: tuple[int, int] = (128, 96)
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    gop: int = 12
    b_frames: int = 0
    rotation: int = 0
    mirrored: bool = False
    first: int = 0


@dataclass
class Audio:
    """An audio stream to write: ``sound`` from ``start`` seconds on."""

    seconds: float = 2.0
    rate: int = 24000
    channels: int = 1
    codec: str = "aac"
    start: float = 0.0
    options: dict[str, str] = field(default_factory=dict)
    samples: NDArray[np.float32] | None = None


def _add_video(container: Any, wanted: Video) -> Any:
    stream = container.add_stream(wanted.codec, rate=Fraction(1 / wanted.tick))
    stream.width, stream.height = wanted.size
    stream.pix_fmt = wanted.pixel_format
    stream.codec_context.gop_size = wanted.gop
    stream.codec_context.max_b_frames = wanted.b_frames
    stream.codec_context.time_base = wanted.tick
    stream.codec_context.thread_count = 1
    defaults = {}
    if wanted.codec == "libx264":
        defaults = {"crf": "12", "preset": "veryfast", "sc_threshold": "0"}
    if wanted.codec == "libx265":
        defaults = {"crf": "12", "x265-params": "log-level=none:pools=none"}
    stream.options = defaults | wanted.options
    if wanted.rotation or wanted.mirrored:
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV cannot write a display matrix")
        stream.set_display_rotation(wanted.rotation, hflip=wanted.mirrored)
    return stream


def _video_packets(stream: Any, wanted: Video) -> Any:
    for i, tick in enumerate(wanted.ticks):
        frame = av.VideoFrame.from_ndarray(picture(wanted.first + i, *wanted.size), format="rgb24")
        frame = frame.reformat(format=wanted.pixel_format)
        frame.pts, frame.time_base = tick, wanted.tick
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _audio_packets(stream: Any, wanted: Audio) -> Any:
    samples = wanted.samples
    if samples is None:
        samples = sound(wanted.seconds, wanted.rate, wanted.channels)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[wanted.channels]
    step = 1000
    for at in range(0, samples.shape[1], step):
        part = np.ascontiguousarray(samples[:, at : at + step])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
        frame.sample_rate = wanted.rate
        frame.pts = at + round(wanted.start * wanted.rate)
        frame.time_base = Fraction(1, wanted.rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def write(path: Path, *streams: Video | Audio, options: dict[str, str] | None = None) -> Path:
    """Write a file with these streams, packets in the order of their decoding times."""
    with av.open(str(path), "w", options=options or {}) as container:
        packets = []
        opened: list[tuple[Any, Video | Audio]] = []
        for wanted in streams:
            if isinstance(wanted, Video):
                opened.append((_add_video(container, wanted), wanted))
            else:
                stream = container.add_stream(wanted.codec, rate=wanted.rate)
                stream.codec_context.layout = {1: "mono", 2: "stereo", 6: "5.1"}[wanted.channels]
                stream.codec_context.time_base = Fraction(1, wanted.rate)
                stream.options = dict(wanted.options)
                opened.append((stream, wanted))
        for stream, wanted in opened:
            made = (
                _video_packets(stream, wanted)
                if isinstance(wanted, Video)
                else _audio_packets(stream, wanted)
            )
            packets += [(float(p.dts * p.time_base), p) for p in made if p.size]
        for _, packet in sorted(packets, key=lambda item: item[0]):
            container.mux(packet)
    return path


def every_frame(path: Path) -> list[tuple[float, NDArray[np.uint8]]]:
    """All frames in the plainest way: seconds from the file's zero, and pixels."""
    with av.open(str(path)) as container:
        used = [*container.streams.video[:1], *container.streams.audio[:1]]
        zero = min(float(stream.start_time * stream.time_base) for stream in used)
        return [
            (float(frame.pts * frame.time_base) - zero, frame.to_ndarray(format="rgb24"))
            for frame in container.decode(container.streams.video[0])
        ]


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures, in dB."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """How to write test files and to read them plainly: the functions above."""
    return SimpleNamespace(
        Video=Video,
        Audio=Audio,
        write=write,
        picture=picture,
        number_of=number_of,
        sound=sound,
        every_frame=every_frame,
        psnr=psnr,
    )


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that lasts for the session, for files that several tests read."""
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="session")
def exact_matroska() -> None:
    """Skip where FFmpeg counts an encoder's delay into the start of Matroska's streams."""
    if int(av.__version__.split(".")[0]) < 17:
        pytest.skip("FFmpeg 8.0 places the zero of Matroska files some milliseconds early")


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real videos."""
    if not REAL.exists():
        pytest.skip("needs the real videos of ../shared/data")
    return REAL
