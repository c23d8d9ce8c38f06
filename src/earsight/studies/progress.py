"""How far a study has come, and whether its time is over."""

import time
from collections.abc import Callable

from earsight.errors import RunError
from earsight.studies.stages import Job

Show = Callable[[float, int, str], None]
"""Told of stages done (a part counts for a stage under way), of how many, and what is done."""


class BudgetOverError(RunError):
    """The time is over; the same command goes on."""


class Progress:
    """Counts the jobs that are done, and parts of those under way.

    Args:
        total: jobs in all.
        until: time (:func:`time.monotonic`) after which the study ends; None for never.
        show: told of every move.
    """

    def __init__(self, total: int, until: float | None, show: Show | None) -> None:
        self._total, self._until, self._show = total, until, show
        self._done = 0
        self._parts: dict[str, float] = {}

    def moved(self, job: Job, part: float) -> None:
        """A job has come this far.

        Raises:
            BudgetOverError: the time is over.
        """
        self._parts[job.key] = part
        if self._show is not None:
            self._show(self._done + sum(self._parts.values()), self._total, described(job))
        self.check()

    def ended(self, job: Job) -> None:
        """A job is done."""
        self._parts.pop(job.key, None)
        self._done += 1

    def check(self) -> None:
        """Raise BudgetOverError where the time is over."""
        if self._until is not None and time.monotonic() > self._until:
            left = self._total - self._done
            raise BudgetOverError(
                f"the time is over with {left} of {self._total} stages left; "
                "the same command goes on"
            )


def described(job: Job) -> str:
    """A job for people, with the key that its files are named by."""
    return f"seed {job.config.seed}, {job.name} ({job.key})"
