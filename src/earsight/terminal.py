"""What a person sees while something runs: a bar on a terminal, nothing elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def make_bar(console: Console, *middle: TextColumn) -> Progress:
    """A bar with counts, elapsed and remaining time."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *middle,
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is moved by ``show(done, of)``; silent where there is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, of: None
        return
    with make_bar(console) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


@contextmanager
def stage_bar(*, quiet: bool = False) -> Iterator[Callable[[float, int, str], None]]:
    """A bar that is moved by ``show(done, of, what)``; elsewhere a line for each new ``what``."""
    console = Console(stderr=True)
    if quiet:
        yield lambda done, of, what: None
        return
    if not console.is_terminal:
        yield _lines()
        return
    with make_bar(console) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, of, what: bar.update(task, completed=done, total=of, description=what)


def _lines() -> Callable[[float, int, str], None]:
    """``show`` that prints each new ``what`` once."""
    said: set[str] = set()

    def show(done: float, of: int, what: str) -> None:
        if what not in said:
            said.add(what)
            print(f"stage {int(done) + 1} of {of}: {what}", file=sys.stderr, flush=True)

    return show
