"""Parts of a calculation on a processor, done side by side by threads.

Where operations are short, threads that each do whole parts wait less for one another than threads
that share every operation.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

_MOST = 4

Over = Callable[..., Iterable[Any]]
"""As :func:`map`: the results of a function, in the order of the items."""


def parts_at_once(device: torch.device) -> int:
    """How many parts are done at a time: at most four, fewer with fewer threads."""
    return min(_MOST, torch.get_num_threads()) if device.type == "cpu" else 1


@contextmanager
def side_by_side(device: torch.device) -> Iterator[Over]:
    """Gives what stands for :func:`map`; torch's threads are shared out among the parts."""
    threads, parts = torch.get_num_threads(), parts_at_once(device)
    if parts == 1:
        yield map
        return

    def begin() -> None:
        torch.set_num_threads(threads // parts)
        # Both are settings of a thread.
        torch.set_grad_enabled(False)

    try:
        with ThreadPoolExecutor(parts, initializer=begin) as pool:
            yield pool.map
    finally:
        # Threads that begin later take over what was set last.
        torch.set_num_threads(threads)
