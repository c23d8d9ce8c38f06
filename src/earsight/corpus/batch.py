"""The batch: all that the loop and the methods know of the data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from earsight.corpus.keys import key_text
from earsight.media.types import MediaError

View = Mapping[str, Tensor]
"""Modality to tensor: ``video (B, C, T, H, W)`` uint8, ``audio (B, samples)`` float32."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An instance that could not be read, whose place another draw took.

    Attributes:
        key: its name, in hexadecimal digits.
        path: of its file.
        reason: in a few words.
        passing: whether that may change without the file changing.
    """

    key: str
    path: str
    reason: str
    passing: bool = False


def failure_of(key: int, path: str, error: MediaError) -> Failure:
    """An instance that a source could not read."""
    return Failure(key=key_text(key), path=path, reason=str(error), passing=error.passing)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Clips of ``B`` instances.

    Attributes:
        views: one mapping of modality to tensor per view.
        row: ``(B,)`` int64, rows of the run's training split.
        index: ``(B,)`` int64, global sample indices of the draws.
        start: ``(B,)`` float64, seconds into the file at which the clips start.
        has_audio: ``(B,)`` bool.
        labels: ``(B,)`` int64, ``(B, classes)`` for several labels, or None.
        failures: instances that could not be read while this batch was made.
    """

    views: tuple[View, ...]
    row: Tensor
    index: Tensor
    start: Tensor
    has_audio: Tensor
    labels: Tensor | None = None
    failures: tuple[Failure, ...] = ()

    def __len__(self) -> int:
        return len(self.row)

    def to(self, device: torch.device) -> Self:
        """The same batch with its tensors on ``device``; ``start`` stays."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return replace(
            self,
            views=tuple({name: move(x) for name, x in view.items()} for view in self.views),
            row=move(self.row),
            index=move(self.index),
            start=self.start,
            has_audio=move(self.has_audio),
            labels=None if self.labels is None else move(self.labels),
        )

    def pin_memory(self) -> Self:
        """The same batch in page-locked memory, for copies that overlap with computing."""
        return replace(
            self,
            views=tuple({n: x.pin_memory() for n, x in view.items()} for view in self.views),
            row=self.row.pin_memory(),
            index=self.index.pin_memory(),
            has_audio=self.has_audio.pin_memory(),
            labels=None if self.labels is None else self.labels.pin_memory(),
        )
