"""Clips that are asked of instances too short to have as many."""

from collections.abc import Sequence

import numpy as np

from earsight.config import RunConfig
from earsight.corpus.instances import Instances
from earsight.corpus.requests import room_for

_ROUNDING = 1e-6


def same_clips(config: RunConfig, held_out: Sequence[Instances]) -> list[str]:
    """What to tell of instances no longer than one clip, whose clips are all the same.

    Args:
        config: of the evaluation.
        held_out: those that are measured, of each fold.
    """
    clips = config.evaluation.clips
    if clips < 2 or config.pictures.cells:
        return []
    rooms = [
        room_for(one, np.arange(len(one)), config.video.duration, config.audio.duration)[1]
        for one in held_out
    ]
    room = np.concatenate(rooms)
    short = int((room <= _ROUNDING).sum())
    if not short:
        return []
    return [
        f"evaluation.clips={clips}: {short} of {len(room)} held-out instances are no longer than "
        "one clip, so that all of their clips are the same"
    ]
