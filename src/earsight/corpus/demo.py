"""A corpus of real files, rendered: objects of several shapes are struck and ring.

What the clips show and how they sound is decided in :mod:`earsight.corpus.demo_scene`; here they
become MP4 files with H.264 pictures and AAC sound, and a table of labels.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from earsight.corpus.clip_file import Encoding, write_clip
from earsight.corpus.demo_pictures import render_pictures
from earsight.corpus.demo_scene import FPS, RATE, plan_scene
from earsight.corpus.demo_sounds import render_sound
from earsight.corpus.render import (
    numbered,
    render_clips,
    require_counts,
    require_new,
    write_labels,
)

ENCODING = Encoding(
    fps=FPS,
    rate=RATE,
    keyframe_every=8,
    # Without look-ahead or frames out of order: quick to write and to read.
    preset="ultrafast",
    tune="fastdecode",
    crf=24,
    audio_bits=64_000,
    audio_coder="fast",
    audio_noise=True,
)


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
        ValueError: a number is negative, or the folder holds something already.
    """
    require_counts(clips, held_out)
    require_new(folder)
    jobs = [*numbered("train", clips), *numbered("test", held_out)]
    render = partial(_render, seed)
    render_clips(folder, render, jobs, workers=workers, progress=progress)
    rows = (_labels(seed, path, index) for path, index in jobs)
    return write_labels(folder, ("path", "split", "shape", "material"), rows)


def _render(seed: int, path: Path, index: int) -> None:
    scene = plan_scene(seed, index)
    write_clip(path, render_pictures(scene), render_sound(scene), ENCODING)


def _labels(seed: int, path: str, index: int) -> tuple[str, str, str, str]:
    scene = plan_scene(seed, index)
    return path, path.partition("/")[0], scene.shape, scene.material
