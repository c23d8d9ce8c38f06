"""Parts of a training step, for those who look at it: where its time goes, and its memory."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

PARTS = (
    "waiting for clips",
    "to the device",
    "transforms",
    "encoders, forward",
    "key encoders",
    "loss",
    "backward",
    "optimiser",
    "commit",
)
"""In the order in which they come; ``loss`` is what the method does beside its encoders."""

Span = Callable[[str], AbstractContextManager[object]]
"""Entered around a part, by its name. Parts may lie within parts: the encoders in the loss."""


def unwatched(_: str) -> AbstractContextManager[object]:
    """Looks at nothing."""
    return nullcontext()


class Clock:
    """Seconds spent in each part; time in a part within another counts for the inner alone.

    The device is waited for where a part begins and ends, so that each is charged with its own
    work; a step therefore takes longer than one that nobody looks at.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._device = device
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Charge ``part`` with what happens inside."""
        self._turn()
        self._open.append(part)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def _turn(self) -> None:
        wait_for(self._device)
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


def wait_for(device: torch.device) -> None:
    """Wait until ``device`` has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
