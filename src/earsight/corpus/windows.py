"""Files cut into windows of equal length, for encoders that take clips: every part is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from earsight.corpus.batch import Batch, Failure, failure_of
from earsight.corpus.clips import ClipSettings
from earsight.corpus.heartbeat import Heartbeat, decoding
from earsight.corpus.instances import Instances
from earsight.corpus.requests import window_request, window_starts
from earsight.corpus.sources import Files, stack
from earsight.media.types import Clip, MediaError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Where ``W`` windows lie, in the order of instances and of time.

    Attributes:
        row: ``(W,)`` the instance of each.
        start: ``(W,)`` seconds from the file's zero.
        seconds: their length.
    """

    row: Ints
    start: Floats
    seconds: float

    def __len__(self) -> int:
        return len(self.row)


def cut_windows(instances: Instances, *, seconds: float, hop: float) -> Windows:
    """Windows from the start of every instance on, the last one at its end.

    What is shorter than a window is one window, which reaches beyond it.

    Args:
        instances: what is cut.
        seconds: length of a window.
        hop: seconds from one start to the next.

    Raises:
        ValueError: a length or a hop is not above 0.
    """
    length = instances.end - instances.start
    own = [window_starts(one, seconds, hop) for one in length.tolist()]
    row = np.repeat(np.arange(len(instances)), [len(starts) for starts in own])
    start = instances.start[row] + np.concatenate([np.empty(0), *own])
    return Windows(row=row, start=start, seconds=seconds)


@dataclass(frozen=True, kw_only=True)
class WindowBatch:
    """Windows that are read and embedded together.

    Attributes:
        at: ``(B,)`` their places among all windows.
        modalities: those that are read.
    """

    at: Ints
    modalities: tuple[str, ...]


class WindowClips(Dataset[Batch]):
    """Item ``m`` holds the windows of batch ``m``; ``row`` numbers the windows.

    Windows of one file are read in one pass. Those of files that cannot be read are left out, and
    each file is named once in the batch's failures.
    """

    def __init__(
        self,
        instances: Instances,
        settings: ClipSettings,
        windows: Windows,
        batches: Sequence[WindowBatch],
    ) -> None:
        self.instances = instances
        self.settings = settings
        self.windows = windows
        self.batches = batches
        self.batch = max((len(one.at) for one in batches), default=0)
        self.clips = 1
        self.source = Files()
        self.heartbeat: Heartbeat | None = None

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Batch:
        at = self.batches[number].at
        settings = replace(self.settings, modalities=self.batches[number].modalities)
        rows = self.windows.row[at]
        clips: list[Clip] = []
        good: list[Ints] = []
        failures: list[Failure] = []
        for row in np.unique(rows).tolist():
            mine = at[rows == row]
            clip = self._read(settings, row, self.windows.start[mine], failures)
            if clip is not None:
                clips += _single(clip, len(mine))
                good.append(mine)
        kept = np.concatenate([np.empty(0, np.int64), *good])
        samples = settings.samples(settings.audio.duration)
        own = self.windows.row[kept]
        return Batch(
            views=(stack(0, clips, samples),) if clips else (),
            row=torch.from_numpy(kept),
            index=torch.from_numpy(kept.copy()),
            start=torch.from_numpy(self.windows.start[kept]),
            has_audio=torch.from_numpy(self.instances.has_audio[own]),
            failures=tuple(failures),
        )

    def _read(
        self, settings: ClipSettings, row: int, starts: Floats, failures: list[Failure]
    ) -> Clip | None:
        """All windows of a file that are wanted, in one pass; None where it cannot be read."""
        request = window_request(
            self.instances,
            row,
            starts,
            seconds=self.windows.seconds,
            video=settings.video,
            audio=settings.audio,
        )
        (request,) = settings.wanted([request])
        try:
            with decoding(self.heartbeat, row):
                return self.source.read(int(self.instances.key[row]), request, settings.limits)
        except MediaError as error:
            failures.append(failure_of(int(self.instances.key[row]), request.path, error))
            return None


def _single(clip: Clip, count: int) -> list[Clip]:
    """A clip of several windows as a clip for each."""
    return [
        Clip(video=clip.video[at : at + 1], audio=clip.audio[at : at + 1]) for at in range(count)
    ]
