"""The store by which the ranks of a run tell one another what became of them."""

import json
import time
import uuid
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from earsight.errors import RunError

Answer = TypeVar("Answer")


_POLL = 0.02


class RankError(RunError):
    """Another rank failed, ended or hangs; the message names it."""


class SharedStore:
    """Keys and values that all ranks see, with an end to waiting for them.

    Where a network is cut, torch waits for an answer for as long as the system sends questions
    again, some 15 minutes. So another thread asks.

    Args:
        store: torch's.
        seconds: after which a question without an answer is given up.
    """

    def __init__(self, store: Any, seconds: float) -> None:
        self._store, self._seconds = store, seconds
        self._silent = False

    def set(self, key: str, value: str | bytes) -> None:
        """Tell all ranks."""
        self._ask(lambda: self._store.set(key, value))

    def check(self, keys: list[str]) -> bool:
        """Whether all of the keys have been set."""
        return self._ask(lambda: bool(self._store.check(keys)))

    def get(self, key: str) -> bytes:
        """The value of a key that has been set."""
        return self._ask(lambda: bytes(self._store.get(key)))

    def add(self, key: str, amount: int) -> int:
        """Add to a number; what it is then."""
        return self._ask(lambda: int(self._store.add(key, amount)))

    def set_first(self, key: str, value: str) -> bytes:
        """Set a key unless it has a value or ``value`` is empty; the value that it has then."""
        return self._ask(lambda: bytes(self._store.compare_set(key, "", value)))

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        """The answer to a question; what it raises is raised here.

        Raises:
            RankError: there was none in time, or to one before.
        """
        answers: SimpleQueue[tuple[Answer | None, Exception | None]] = SimpleQueue()

        def wait() -> None:
            try:
                answers.put((question(), None))
            except Exception as error:  # noqa: BLE001 - raised where it was asked
                answers.put((None, error))

        if not self._silent:
            Thread(target=wait, daemon=True).start()
            try:
                answer, error = answers.get(timeout=self._seconds)
            except Empty:
                self._silent = True
            else:
                if error is not None:
                    raise error
                return answer  # type: ignore[return-value]
        raise RankError(
            "the machine by which the ranks meet (MASTER_ADDR) no longer answers: it is gone, or "
            "the network is cut; look there, start all ranks again, and go on with --resume"
        )


def agree(store: Any, rank: int, size: int, seconds: float) -> str:
    """A name for this meeting of ranks, which none before had in the same store.

    torchrun keeps its store when it starts ranks again, and what those before them wrote is still
    there. So each rank says a word of its own; rank 0 says which words it heard, and offers a name;
    who finds its word among them agrees; and once all have, it holds. Numbers of restarts would not
    do, as they differ between machines.

    Args:
        store: torch's.
        rank: this rank.
        size: ranks in all.
        seconds: to wait for all.

    Raises:
        TimeoutError: some did not come.
    """
    own = uuid.uuid4().hex
    store.set(f"word/{rank}", own)
    deadline = time.monotonic() + seconds
    offered = {"name": "", "words": [""] * size}
    while time.monotonic() < deadline:
        if rank == 0:
            words = [_said(store, f"word/{number}") for number in range(size)]
            if all(words) and words != offered["words"]:
                offered = {"name": uuid.uuid4().hex, "words": words}
                store.set("offer", json.dumps(offered))
        else:
            offered = json.loads(_said(store, "offer") or json.dumps(offered))
        name, heard = str(offered["name"]), offered["words"]
        if rank < len(heard) and heard[rank] == own:
            store.set(f"agreed/{name}/{rank}", "")
            if store.check([f"agreed/{name}/{number}" for number in range(size)]):
                return name
        time.sleep(_POLL)
    raise TimeoutError("some ranks did not come")


def _said(store: Any, key: str) -> str:
    return str(store.get(key).decode()) if store.check([key]) else ""
