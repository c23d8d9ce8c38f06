"""What workers are busy with, for those who wait for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Heartbeat:
    """What each worker is decoding, and since when, in memory that all processes share."""

    def __init__(self, workers: int) -> None:
        self._row = torch.full((workers,), -1, dtype=torch.int64)
        self._since = torch.zeros(workers, dtype=torch.float64)
        for shared in (self._row, self._since):
            shared.share_memory_()  # type: ignore[no-untyped-call]

    def beat(self, row: int) -> None:
        """Note, in a worker, that ``row`` is decoded from now on; -1 for nothing."""
        worker = torch.utils.data.get_worker_info()
        if worker is not None:
            # The time first: with that of an earlier row, this one would look stuck.
            self._since[worker.id] = time.time()
            self._row[worker.id] = row

    def stuck(self, seconds: float) -> list[int]:
        """Rows that a worker has been decoding for longer than ``seconds``."""
        late = (self._row >= 0) & (time.time() - self._since > seconds)
        return [int(row) for row in self._row[late]]


@contextmanager
def decoding(heartbeat: Heartbeat | None, row: int) -> Iterator[None]:
    """Around the decoding of a row; without a heartbeat nobody waits for it."""
    if heartbeat is None:
        yield
        return
    heartbeat.beat(row)
    try:
        yield
    finally:
        heartbeat.beat(-1)
