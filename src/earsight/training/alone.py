"""One process at a time trains a run: two would write over each other's checkpoints."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from earsight.errors import RunError

NAME = ".lock"
"""Stays in the run; it is the process that holds it."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""What file systems say that know no locks: there, nobody is kept out."""


class BusyError(RunError):
    """Another process trains the run."""


@contextmanager
def alone_in(run: Path) -> Iterator[None]:
    """Keep others from training a run until this has ended, however it does.

    Raises:
        BusyError: another process is at it.
    """
    with (run / NAME).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f"{run}: another process is training it; let it end, or stop it, and try again"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
