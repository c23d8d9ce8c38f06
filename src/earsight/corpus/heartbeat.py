"""What workers are busy with, for those who wait for them."""

from __future__ import annotations

import time

import torch


class Heartbeat:
    """What each worker is decoding, and since when, in memory that all processes share."""

    def __init__(self, workers: int) -> None:
        self._row = torch.full((workers,), -1, dtype=torch.int64)
        self._since = torch.zeros(workers, dtype=torch.float64)
        for shared in (self._row, self._since):
            shared.share_memory_()  # type: ignore[no-untyped-call]

    def beat(self, row: int) -> None:
        """Note, in a worker, that ``row`` is decoded from now on."""
        worker = torch.utils.data.get_worker_info()
        if worker is not None:
            self._row[worker.id] = row
            self._since[worker.id] = time.time()

    def stuck(self, seconds: float) -> list[int]:
        """Rows that a worker has been decoding for longer than ``seconds``."""
        late = (self._row >= 0) & (time.time() - self._since > seconds)
        return [int(row) for row in self._row[late]]
