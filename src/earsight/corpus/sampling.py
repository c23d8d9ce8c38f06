"""Where clips are cut: every geometric draw is made here, before anything is decoded.

Draws are pure functions of the global sample index, so neither the number of workers nor a
restart changes them (methods.md §5).
"""

from dataclasses import dataclass

import numpy as np

from earsight import random
from earsight.config import AudioConfig, VideoConfig
from earsight.corpus.instances import Instances
from earsight.corpus.requests import (
    Floats,
    Ints,
    audio_start,
    clip_request,
    picture_request,
    room_for,
    sound_request,
)
from earsight.media.types import ClipRequest

_CROP_TRIES = 10


@dataclass(frozen=True, kw_only=True)
class Order:
    """The order of samples: an endless sequence of keyed permutations of the rows.

    Sample ``g`` is item ``g mod size`` of permutation ``g div size``, so every row is drawn
    equally often and no list of rows is kept.
    """

    seed: int
    size: int
    block: int = 1

    def rows(self, index: Ints) -> Ints:
        """Rows of global sample indices."""
        passes, position = np.divmod(index, self.size)
        rows = np.empty_like(index)
        for number in np.unique(passes):
            at = passes == number
            purpose = f"order/{number}"
            rows[at] = random.permute_blocks(
                self.seed, purpose, position[at], self.size, self.block
            )
        return rows


def replacement(seed: int, index: int, attempt: int, size: int) -> int:
    """The row that takes the place of an unreadable one, at the given attempt (from 1)."""
    return int(random.integers(seed, "replacement", index, size, n=attempt))


def shuffled_partners(seed: int, row: Ints, index: Ints, size: int) -> Ints:
    """The rows whose sound is heard with the pictures of ``row``, where pairs are shuffled.

    Each pass over the rows has a keyed permutation of its own (of whose places one, on average,
    stays).
    """
    partner = np.empty_like(row)
    passes = index // size
    for number in np.unique(passes):
        at = passes == number
        partner[at] = random.permute(seed, f"pairs/{number}", row[at], size)
    return partner


def training_requests(
    instances: Instances,
    row: Ints,
    index: Ints,
    *,
    seed: int,
    views: int,
    video: VideoConfig,
    audio: AudioConfig,
) -> list[ClipRequest]:
    """One request per sample, with one randomly placed clip per view."""
    starts = [
        _random_start(instances, row, index, seed, view, video, audio) for view in range(views)
    ]
    boxes = [_random_boxes(instances, row, index, seed, view, video) for view in range(views)]
    flips = [random.uniform(seed, "flip", index, view) < video.flip for view in range(views)]
    sounds = []
    for view, start in enumerate(starts):
        shift = audio.jitter * (2 * random.uniform(seed, "jitter", index, view) - 1)
        # All the sound that the longest stretch can need: clips of a batch stay of one length.
        sounds.append(audio_start(instances, row, start + shift, audio.stretch[1]))
    return [
        clip_request(
            instances,
            int(row[b]),
            [
                picture_request(video, starts[v][b], boxes[v][b], bool(flips[v][b]))
                for v in range(views)
            ],
            [sound_request(audio, sounds[v][b], audio.stretch[1]) for v in range(views)],
        )
        for b in range(len(row))
    ]


def _random_start(
    instances: Instances,
    row: Ints,
    index: Ints,
    seed: int,
    view: int,
    video: VideoConfig,
    audio: AudioConfig,
) -> Floats:
    """Where a view begins: anywhere, or near what all views of a sample share."""
    low, room = room_for(instances, row, video.duration, audio.stretch[1])
    if video.jitter is None:
        return low + room * random.uniform(seed, "start", index, view)
    shared = room * random.uniform(seed, "start", index, 0)
    shift = video.jitter * (2 * random.uniform(seed, "video-jitter", index, view) - 1)
    return low + np.clip(shared + shift, 0.0, room)


def _random_boxes(
    instances: Instances, row: Ints, index: Ints, seed: int, view: int, video: VideoConfig
) -> Floats:
    """``(B, 4)`` boxes, as fractions of the picture."""
    if video.short_side:
        return _square_boxes(instances, row, index, seed, view, video)
    return _boxes_by_area(instances, row, index, seed, view, video)


def _square_boxes(
    instances: Instances, row: Ints, index: Ints, seed: int, view: int, video: VideoConfig
) -> Floats:
    """Squares of ``size`` out of pictures whose short side is ``short_side``, at random places."""
    width, height = instances.width[row], instances.height[row]
    side = video.size / video.short_side * np.minimum(width, height)
    across, down = side / np.maximum(width, 1), side / np.maximum(height, 1)
    x = random.uniform(seed, "crop-x", index, view) * (1 - across)
    y = random.uniform(seed, "crop-y", index, view) * (1 - down)
    return np.stack([x, y, x + across, y + down], 1)


def _boxes_by_area(
    instances: Instances, row: Ints, index: Ints, seed: int, view: int, video: VideoConfig
) -> Floats:
    """Boxes of random area and shape (Szegedy et al., 2015).

    The first of ten draws that fits is taken; where none does, the largest centred box whose
    shape is in the range.
    """
    # Without a picture there is no size; nothing is cut, so any will do.
    width = np.maximum(instances.width[row], 1).astype(np.float64)[:, None]
    height = np.maximum(instances.height[row], 1).astype(np.float64)[:, None]
    tries = np.arange(_CROP_TRIES)

    def draw(purpose: str) -> Floats:
        return random.uniform(seed, purpose, index[:, None], view, tries)

    (least, most), (narrow, wide) = video.crop_area, np.log(video.crop_ratio)
    area = (least + (most - least) * draw("crop-area")) * width * height
    ratio = np.exp(narrow + (wide - narrow) * draw("crop-ratio"))
    across, down = np.sqrt(area * ratio) / width, np.sqrt(area / ratio) / height
    fits = (across <= 1) & (down <= 1)
    first = np.argmax(fits, 1)
    pick = (np.arange(len(row)), first)
    across, down = across[pick], down[pick]
    shape = (width / height)[:, 0]
    kept = np.clip(shape, *video.crop_ratio)
    fitting = fits.any(1)
    across = np.where(fitting, across, np.minimum(1, kept / shape))
    down = np.where(fitting, down, np.minimum(1, shape / kept))
    x = np.where(fitting, draw("crop-x")[pick], 0.5) * (1 - across)
    y = np.where(fitting, draw("crop-y")[pick], 0.5) * (1 - down)
    return np.stack([x, y, x + across, y + down], 1)
