"""How long a consumer waits for what it consumes."""

import time
from collections.abc import Iterator
from concurrent.futures import Future

from earsight.corpus.batch import Batch


class Timed:
    """An iterator that knows how long its consumer has waited."""

    def __init__(self, items: Iterator[Batch]) -> None:
        self._items = items
        self._waited = 0.0
        self._next: Future[Batch] | None = None

    def __iter__(self) -> "Timed":
        return self

    def __next__(self) -> Batch:
        self.fetch()
        assert self._next is not None
        fetched, self._next = self._next, None
        return fetched.result()

    def fetch(self) -> None:
        """Take the next one already; an error waits for its turn."""
        if self._next is not None:
            return
        self._next = Future()
        began = time.monotonic()
        try:
            self._next.set_result(next(self._items))
        except Exception as error:  # noqa: BLE001 - raised where it is asked for
            self._next.set_exception(error)
        finally:
            self._waited += time.monotonic() - began

    def take_waited(self) -> float:
        """Seconds waited since the last call."""
        waited, self._waited = self._waited, 0.0
        return waited
