"""A corpus of real files, rendered: objects of several shapes are struck and ring.

What the clips show and how they sound is decided in :mod:`earsight.corpus.demo_scene`; here they
become MP4 files with H.264 pictures and AAC sound, and a table of labels.
"""

import csv
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from earsight.corpus.demo_pictures import render_pictures
from earsight.corpus.demo_scene import FPS, RATE, plan_scene
from earsight.corpus.demo_sounds import render_sound
from earsight.corpus.parallel import Lost, each

LABELS = "labels.csv"
FIRST_HELD_OUT = 1_000_000
"""Index of the first held-out clip, so that more clips to train on change none of them."""

_CHUNK = 16
_SECONDS_PER_CLIP = 30.0
_KEYFRAME_EVERY = 8
_AUDIO_BITS = 64_000
# The default coder takes four times as long. Bands filled with noise (PNS) would not be the same
# wherever decoding begins.
_AAC = {"aac_coder": "fast", "aac_pns": "0"}

Job = tuple[str, int]
"""Path below the corpus, index of the clip."""


def render_demo(
    folder: Path,
    *,
    clips: int,
    held_out: int,
    seed: int,
    workers: int,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Render the corpus ``folder/{train,test}/NNNN.mp4`` and ``folder/labels.csv``.

    A clip is a function of the seed and its number alone, whatever the number of clips and of
    workers. Labels are ``path, split, shape, material``; they are written last.

    Args:
        folder: where to; made if need be.
        clips: how many to train on.
        held_out: how many to test on.
        seed: of everything drawn.
        workers: processes; 0 or 1 renders in this one.
        progress: called with the number of clips finished so far, now and then.

    Returns:
        The path of the labels.

    Raises:
        ValueError: a number is negative, or the folder holds a corpus already.
    """
    if clips < 0 or held_out < 0:
        raise ValueError(f"numbers of clips must be 0 or more, not {clips} and {held_out}")
    _require_empty(folder)
    jobs = [*_jobs("train", clips, 0), *_jobs("test", held_out, FIRST_HELD_OUT)]
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True, exist_ok=True)
    chunks = [jobs[at : at + _CHUNK] for at in range(0, len(jobs), _CHUNK)]
    limits = [_SECONDS_PER_CLIP * len(chunk) for chunk in chunks]
    finished = 0
    render = partial(_render_chunk, folder, seed)
    for at, result in each(render, chunks, workers=workers if workers > 1 else 0, seconds=limits):
        if isinstance(result, Lost):
            first, last = chunks[at][0][0], chunks[at][-1][0]
            raise ValueError(f"rendering {first} … {last} {result.reason}; try fewer workers, or 0")
        finished += result
        if progress is not None:
            progress(finished)
    return _write_labels(folder / LABELS, seed, jobs)


def write_clip(path: Path, pictures: NDArray[np.uint8], sound: NDArray[np.float32]) -> None:
    """Write an MP4 file with H.264 pictures, a keyframe every eighth, and AAC sound.

    The same input gives the same bytes.

    Args:
        path: of the file; its folder exists.
        pictures: ``(T, 3, H, W)`` RGB at 16 frames per second; height and width are even.
        sound: ``(samples,)`` mono at 24 kHz, in [-1, 1].
    """
    height, width = pictures.shape[2:]
    # One thread, no look-ahead, no frames out of order: quick to write and to read.
    settings = f"keyint={_KEYFRAME_EVERY}:min-keyint={_KEYFRAME_EVERY}:scenecut=0:threads=1"
    encoding = {"preset": "ultrafast", "tune": "fastdecode", "crf": "24", "x264-params": settings}
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FPS, options=encoding)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.thread_count = 1
        audio = container.add_stream("aac", rate=RATE, layout="mono", options=_AAC)
        audio.bit_rate = _AUDIO_BITS
        for number, planes in enumerate(to_yuv420(pictures)):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        samples.sample_rate, samples.pts, samples.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(audio.encode(samples))
        container.mux(audio.encode(None))


def to_yuv420(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB to planar YUV with colour at half size (ITU-R BT.601, limited range).

    Args:
        pictures: ``(T, 3, H, W)``, height and width even.

    Returns:
        ``(T, 3·H/2, W)``: luma, then both colour planes, as libav lays them out.
    """
    count, _, height, width = pictures.shape
    rgb = pictures.astype(np.float32)
    luma = _LUMA @ rgb.reshape(count, 3, -1)
    halves = rgb.reshape(count, 3, height // 2, 2, width // 2, 2)
    small = (
        halves[..., 0, :, 0] + halves[..., 0, :, 1] + halves[..., 1, :, 0] + halves[..., 1, :, 1]
    ) / 4
    colour = _CHROMA @ small.reshape(count, 3, -1)
    planes = np.concatenate((luma.reshape(count, -1) + 16, colour.reshape(count, -1) + 128), axis=1)
    return np.round(planes).astype(np.uint8).reshape(count, height * 3 // 2, width)


_RED, _BLUE = 0.299, 0.114
_WEIGHTS = np.array([_RED, 1 - _RED - _BLUE, _BLUE])
_LUMA = (219 / 255 * _WEIGHTS[None]).astype(np.float32)
_CHROMA = (
    224
    / 255
    * np.array(
        [(np.eye(3)[2] - _WEIGHTS) / (2 - 2 * _BLUE), (np.eye(3)[0] - _WEIGHTS) / (2 - 2 * _RED)]
    )
).astype(np.float32)


def _jobs(split: str, count: int, first: int) -> list[Job]:
    digits = max(4, len(str(count - 1)))
    return [(f"{split}/{number:0{digits}d}.mp4", first + number) for number in range(count)]


def _require_empty(folder: Path) -> None:
    held = [name for name in ("train", "test", LABELS) if (folder / name).exists()]
    if held:
        raise ValueError(
            f"{folder} holds {' and '.join(held)} already; delete it or choose another folder"
        )


def _render_chunk(folder: Path, seed: int, jobs: list[Job]) -> int:
    """Render clips, in whatever process; returns how many."""
    for path, index in jobs:
        scene = plan_scene(seed, index)
        write_clip(folder / path, render_pictures(scene), render_sound(scene))
    return len(jobs)


def _write_labels(path: Path, seed: int, jobs: list[Job]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "shape", "material"])
        for name, index in jobs:
            scene = plan_scene(seed, index)
            writer.writerow([name, name.split("/")[0], scene.shape, scene.material])
    return path
