"""How long a consumer waits for what it consumes."""

import time
from collections.abc import Iterator

from earsight.corpus.batch import Batch


class Timed:
    """An iterator that knows how long its consumer has waited."""

    def __init__(self, items: Iterator[Batch]) -> None:
        self._items = items
        self._waited = 0.0

    def __iter__(self) -> "Timed":
        return self

    def __next__(self) -> Batch:
        began = time.monotonic()
        try:
            return next(self._items)
        finally:
            self._waited += time.monotonic() - began

    def take_waited(self) -> float:
        """Seconds waited since the last call."""
        waited, self._waited = self._waited, 0.0
        return waited
