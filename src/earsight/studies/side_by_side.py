"""Jobs of a study in processes of their own, several at once."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from types import FrameType
from typing import Protocol

from earsight.errors import RunError, StoppedError
from earsight.studies.progress import Progress, described
from earsight.studies.stages import Job
from earsight.training.signals import caught_signals

_PATIENCE = 1.0
"""Seconds between two looks at signals and the clock."""

_LATE = "torch._dynamo"
"""What optimisers import when they are first made, for seconds."""


class Work(Protocol):
    """Does one job; sent to another process, so a module's function or a partial of one."""

    def __call__(self, job: Job, *, watch: Callable[[float], None]) -> None:
        """Do it, telling ``watch`` of the part that is done."""


@dataclass(frozen=True, kw_only=True)
class _Failed:
    """Why a job failed: a user's mistake, or a failure of the work."""

    reason: str
    mistake: bool


@dataclass(frozen=True, kw_only=True)
class _Running:
    job: Job
    process: ForkServerProcess


def side_by_side(
    jobs: Sequence[Job], work: Work, count: int, progress: Progress, *, module: str
) -> None:
    """Do ``jobs``, at most ``count`` at once, each once the job that it builds on is done.

    Their processes are forked from one that has imported ``module``, torch with it: to import it
    in each would take as long as a short evaluation.

    Args:
        jobs: each after what it builds on; what is not among them is there already.
        work: does one.
        count: how many at once.
        progress: told of what happens.
        module: what ``work`` needs.

    Raises:
        BudgetOverError: the time is over; jobs under way were stopped and saved.
        StoppedError: SIGINT or SIGTERM came; the same.
        ValueError: a job could not be done because of a user's mistake.
        RunError: a job failed otherwise, or its process ended; the others were stopped and saved.
    """
    waiting = list(jobs)
    running: dict[Connection, _Running] = {}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module, _LATE])
    with caught_signals() as caught:
        try:
            while waiting or running:
                for job in _ready(waiting, running, count):
                    waiting.remove(job)
                    progress.moved(job, 0.0)
                    pipe, started = _start(job, work, context)
                    running[pipe] = started
                speaking = wait(list(running), timeout=_PATIENCE)
                for pipe in [one for one in running if one in speaking]:
                    _hear(pipe, running, progress)
                progress.check()
                if caught:
                    name = signal.Signals(caught[0]).name
                    raise StoppedError(caught[0], f"stopped by {name}; the same command goes on")
        finally:
            _stop(running)


def _ready(waiting: Sequence[Job], running: dict[Connection, _Running], count: int) -> list[Job]:
    """The jobs to begin now, in order."""
    unmade = {job.key for job in waiting} | {one.job.key for one in running.values()}
    ready = [job for job in waiting if job.after is None or job.after.key not in unmade]
    return ready[: count - len(running)]


def _start(job: Job, work: Work, context: ForkServerContext) -> tuple[Connection, _Running]:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_do, args=(theirs, work, job), name=described(job))
    process.start()
    theirs.close()
    return ours, _Running(job=job, process=process)


def _hear(pipe: Connection, running: dict[Connection, _Running], progress: Progress) -> None:
    """Take what a process says: the part that is done, None at the end, or why it failed."""
    one = running[pipe]
    try:
        said = pipe.recv()
    except EOFError:
        one.process.join()
        raise RunError(
            f"{described(one.job)}: its process ended with code {one.process.exitcode} before the "
            "work was done; what it said stands above; if it was killed, memory ran out: set "
            "--jobs 1"
        ) from None
    if isinstance(said, float):
        progress.moved(one.job, said)
        return
    if isinstance(said, _Failed):
        text = f"{described(one.job)}: {said.reason}"
        raise ValueError(text) if said.mistake else RunError(text)
    one.process.join()
    del running[pipe]
    progress.ended(one.job)


def _stop(running: dict[Connection, _Running]) -> None:
    """Have all processes save what is under way, and end."""
    for one in running.values():
        one.process.terminate()
    for pipe, one in running.items():
        one.process.join()
        pipe.close()


def _do(pipe: Connection, work: Work, job: Job) -> None:
    """What a process does: one job. Ctrl-C goes to the study alone, which decides who stops."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    try:
        # Blocked, where a loader of an earlier evaluation started the server of processes.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        work(job, watch=pipe.send)
    except StoppedError:
        return
    except BrokenPipeError:
        # Nobody listens any more: the study has ended.
        return
    except (ValueError, RunError) as error:
        pipe.send(_Failed(reason=str(error), mistake=isinstance(error, ValueError)))
    else:
        pipe.send(None)


def _leave(number: int, _: FrameType | None) -> None:
    """End by an exception, so that an evaluation's loaders end with it."""
    raise StoppedError(number, "stopped with the study")
