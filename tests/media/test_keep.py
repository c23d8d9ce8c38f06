"""What is kept of a file answers as the file does, whatever its pixels are."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from earsight.media.decode import decode
from earsight.media.keep import Span, keep, replay
from earsight.media.types import ClipRequest, VideoRequest

WIDTH, HEIGHT = 67, 51
"""Odd, so that rows end amid pixels that share colours, and amid bytes."""


def noise(rng: np.random.Generator, pixel_format: str) -> av.VideoFrame:
    if pixel_format == "pal8":
        places = rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
        return av.VideoFrame.from_ndarray(
            (places, rng.integers(0, 256, (256, 4), np.uint8)), "pal8"
        )
    pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    return av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=pixel_format)


def write(path: Path, codec: str, pixel_format: str) -> Path:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        stream.codec_context.thread_count = 1
        for number in range(4):
            frame = noise(rng, pixel_format)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


RAW = [
    "yuv420p",
    "yuyv422",
    "yvyu422",
    "uyvy422",
    "y210le",
    "nv12",
    "rgb24",
    "bgr0",
    "0rgb",
    "argb",
    "rgb555le",
    "rgb565le",
    "bgr8",
    "rgb4_byte",
    "pal8",
    "monob",
    "monow",
    "gray",
    "gray10le",
    "ya8",
    "yuv410p",
    "yuv422p10le",
    "rgb48le",
    "p010le",
]


@pytest.mark.parametrize(
    ("codec", "pixel_format", "suffix"),
    [
        *(("rawvideo", name, "nut") for name in RAW),
        ("qtrle", "rgb555be", "mov"),
        ("png", "pal8", "mov"),
    ],
)
def test_pictures_are_those_of_the_file(
    codec: str, pixel_format: str, suffix: str, tmp_path: Path
) -> None:
    path = str(write(tmp_path / f"odd.{suffix}", codec, pixel_format))
    request = ClipRequest(
        path=path,
        video=(
            VideoRequest(start=0, fps=10, frames=4, box=(0.13, 0.2, 0.77, 0.9), size=(32, 40)),
            VideoRequest(start=0, fps=10, frames=4, size=(HEIGHT, WIDTH), flip=True),
        ),
    )
    replayed = replay(keep(Span(path=path, video=(0, 0.3))), request)
    for kept, decoded in zip(replayed.video, decode(request).video, strict=True):
        assert np.array_equal(kept, decoded)
