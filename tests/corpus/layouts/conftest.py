"""Tiny media, and roots of data sets as official lists and download tools leave them."""

import io
import wave
from fractions import Fraction

import av
import numpy as np
import pytest

from earsight import api
from earsight.corpus.layouts import LayoutOptions
from earsight.corpus.manifest import read


def movie(*, sound):
    """A second and a half of an MP4 file, with or without sound."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=Fraction(8))
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        streams = [(video, pictures())]
        if sound:
            audio = container.add_stream("aac", rate=8000, layout="mono")
            streams.append((audio, tones()))
        for stream, frames in streams:
            for frame in [*frames, None]:
                container.mux(stream.encode(frame))
    return buffer.getvalue()


def pictures():
    for number in range(12):
        image = np.full((32, 32, 3), 20 * number, np.uint8)
        yield av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")


def tones():
    for at in range(0, 12000, 1000):
        samples = np.sin(np.arange(at, at + 1000) / 5).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, at
        yield frame


def wav(seconds=1.5, rate=4000):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.sin(np.arange(seconds * rate)) * 9000).astype("<i2").tobytes())
    return buffer.getvalue()


@pytest.fixture(scope="session")
def contents():
    """What files hold, by what they are called here."""
    return {"clip": movie(sound=True), "silent": movie(sound=False), "sound": wav()}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    return folder


@pytest.fixture
def text(root):
    """Write a list."""

    def write(path, content):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content.encode())

    return write


@pytest.fixture
def media(root, contents):
    """Write media files."""

    def write(*paths, kind="clip"):
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(contents[kind])

    return write


@pytest.fixture
def scanned(root, tmp_path):
    """Scan a layout; returns the report and the corpus."""

    def scan(layout, **options):
        output = tmp_path / "corpus.parquet"
        chosen = LayoutOptions(**options)
        report = api.scan([], output, layout=layout, root=root, layout_options=chosen, workers=0)
        return report, read(output)

    return scan


@pytest.fixture
def told():
    """A corpus as path to split and labels."""

    def rows(corpus, *labels):
        columns = [corpus.column("path"), corpus.column("split"), *map(corpus.labels, labels)]
        return {path: tuple(rest) for path, *rest in zip(*columns, strict=True)}

    return rows
