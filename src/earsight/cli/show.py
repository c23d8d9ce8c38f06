"""What all commands share: their shape, exit codes, and how results are printed."""

import json
from pathlib import Path
from typing import Any, Protocol

from tyro.conf import Positional

USAGE = 2
FAILED = 1
"""Exit codes: 0 done, 1 the work failed, 2 the request cannot be carried out as it stands,
128 + n stopped by signal n with the state saved; 141 nobody reads the output any more."""

Settings = Positional[tuple[str, ...]]


class Command(Protocol):
    """A command with its arguments.

    One whose work torchrun's processes share has a property ``divided``, which says when.
    """

    def run(self) -> int:
        """Do it; returns the exit code."""


def progress(what: str) -> Any:
    """A progress bar on the terminal, as a context that gives ``show(done, of)``."""
    from earsight.terminal import progress_bar

    return progress_bar(what)


def emit(as_json: bool, tree: Any, text: str, *, run: Path | None = None) -> None:
    """Print a result, for machines or for people.

    With ``run``, the run that it was made of, what must be said of imported weights is said too.
    """
    said = notices(run) if run is not None else ()
    if as_json:
        print(json.dumps({**tree, "notices": said} if said else tree, indent=2, allow_nan=False))
    else:
        print("\n".join([text, *(f"\nnotice: {notice}" for notice in said)]))


def notices(run: Path) -> tuple[str, ...]:
    """What must be said with everything that is made of a run's weights."""
    from earsight.training import origin

    return origin.notices(run)
