"""One function over many files, in processes that may hang or crash without harm."""

import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as TimedOut
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

Item = TypeVar("Item")
Result = TypeVar("Result")

_IN_FLIGHT = 4
_BREAKS = 3
_PATIENCE = 1.0


@dataclass(frozen=True, kw_only=True)
class Lost:
    """No result, because its process hung or crashed."""

    reason: str


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    seconds: Sequence[float],
) -> Iterator[tuple[int, Result | Lost]]:
    """Positions and results of ``function`` over ``items``, in the order in which they finish.

    Args:
        function: a module's function, or a ``functools.partial`` of one.
        items: its arguments.
        workers: processes; 0 works in this one, where nothing can be timed out.
        seconds: after how many an item's process is killed, one per item.

    Raises:
        ValueError: worker processes cannot be started.
    """
    if workers == 0:
        for at, item in enumerate(items):
            yield at, function(item)
        return
    todo = list(range(len(items)))[::-1]
    breaks = 0
    while todo:
        finished = False
        for at, result in _until_broken(function, items, todo, min(workers, len(todo)), seconds):
            finished = True
            yield at, result
        # A pool breaks where a worker dies before it says what it works on; what was in flight
        # is tried again. One that breaks again and again without a result cannot start.
        breaks = 0 if finished else breaks + 1
        if breaks >= _BREAKS:
            raise ValueError(
                "worker processes end as soon as they start; use 0 workers, and in a script call "
                "this below `if __name__ == '__main__':`"
            )


def _until_broken(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    todo: list[int],
    workers: int,
    seconds: Sequence[float],
) -> Iterator[tuple[int, Result | Lost]]:
    """Work through ``todo`` from its end; where the pool breaks, what was in flight goes back."""
    done: queue.SimpleQueue[tuple[int, ProcessFuture[Result]]] = queue.SimpleQueue()
    flying: set[int] = set()
    pool = _open_pool(workers)
    broken = False

    def note(at: int, future: ProcessFuture[Result]) -> None:
        done.put((at, future))

    try:
        while flying or (todo and not broken):
            while todo and not broken and len(flying) < _IN_FLIGHT * workers:
                try:
                    task = pool.schedule(
                        function, args=(items[todo[-1]],), timeout=seconds[todo[-1]]
                    )
                except RuntimeError:
                    broken = True  # noticed before any of its tasks failed
                    break
                at = todo.pop()
                flying.add(at)
                task.add_done_callback(partial(note, at))
            try:
                at, future = done.get(timeout=_PATIENCE)
            except queue.Empty:
                # A broken pool forgets the tasks that it has not yet handed out.
                if not pool.active:
                    todo.extend(flying)
                    return
                continue
            flying.discard(at)
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                broken = True
                todo.append(at)
            else:
                yield at, _outcome(future, error, items[at], seconds[at])
    finally:
        pool.stop()
        pool.join()


@contextmanager
def deaf_to(*signals: signal.Signals) -> Iterator[None]:
    """Processes and threads that are started in here are deaf to signals, until they say else.

    What this thread is sent meanwhile reaches it at the end.
    """
    if not hasattr(signal, "pthread_sigmask"):  # not every system has it
        yield
        return
    # Where it is started in here, Python lifts the block afterwards.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _open_pool(workers: int) -> Any:  # a ProcessPool, not all of whose methods have types
    # Spawned, not forked: FFmpeg's and torch's threads do not survive a fork.
    pool: Any = ProcessPool(max_workers=workers, context=multiprocessing.get_context("spawn"))
    try:
        # Ctrl-C signals the whole process group, and this process decides when workers end. Those
        # that replace others are started by a thread of the pool, which is deaf as well.
        with deaf_to(signal.SIGINT):
            started = pool.active
    except (OSError, BrokenProcessPool) as error:
        raise ValueError(f"worker processes cannot be started ({error}); use 0 workers") from error
    except KeyboardInterrupt:
        pool.stop()
        pool.join()
        raise
    assert started
    return pool


def _outcome(
    future: Any, error: BaseException | None, item: object, seconds: float
) -> Any:  # the result of the function, or Lost
    if isinstance(error, TimedOut):
        return Lost(reason=f"timed out: took more than {seconds:g} s to read")
    if isinstance(error, ProcessExpired):
        return Lost(reason=f"crashed its reader ({_exit(error.exitcode)})")
    if error is not None:
        error.add_note(f"while working on {item}")
    return future.result()


def _exit(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
