"""Where clips come from: the files themselves, or what was decoded from them before."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from earsight.corpus.batch import View
from earsight.media.decode import decode
from earsight.media.types import Clip, ClipRequest, Limits


class Source(Protocol):
    """Answers clip requests; what it reads is its own affair until it is joined to a view.

    Attributes:
        shareable: whether worker processes may use it too.
    """

    shareable: bool

    def read(self, key: int, request: ClipRequest, limits: Limits) -> Any:
        """A clip of the instance ``key``, for :meth:`view`; raises MediaError where it cannot."""
        ...

    def view(self, number: int, clips: Sequence[Any], samples: int) -> View:
        """Requests ``number`` of several clips, joined.

        Args:
            number: the view's place in each request.
            clips: what :meth:`read` gave.
            samples: of sound per clip, 0 for none; sound that is missing is silence.

        Returns:
            ``video`` where it was asked for, ``audio`` where there are samples.
        """
        ...


class Files:
    """Clips decoded from their files whenever they are asked for."""

    shareable = True

    def read(self, key: int, request: ClipRequest, limits: Limits) -> Clip:
        """Decode a clip."""
        return decode(request, limits)

    def view(self, number: int, clips: Sequence[Clip], samples: int) -> View:
        """See :class:`Source`."""
        return stack(number, clips, samples)


def stack(number: int, clips: Sequence[Clip], samples: int) -> View:
    """Decoded clips as one view; pictures keep the layout of decoding.

    Pictures were asked of all clips or of none.
    """
    view: dict[str, Tensor] = {}
    assert len({bool(clip.video) for clip in clips}) <= 1, "pictures of some clips alone"
    if clips and clips[0].video:
        frames = torch.from_numpy(np.stack([clip.video[number] for clip in clips]))
        view["video"] = frames.permute(0, 4, 1, 2, 3)
    if samples:
        sound = np.zeros((len(clips), samples), np.float32)
        for at, clip in enumerate(clips):
            if clip.audio:
                sound[at] = clip.audio[number]
        view["audio"] = torch.from_numpy(sound)
    return view
