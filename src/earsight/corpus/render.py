"""Many made-up clips, in parallel, into a new folder with a table of labels."""

import csv
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from earsight.corpus.parallel import Lost, each

Job = TypeVar("Job")

LABELS = "labels.csv"
SPLITS = ("train", "test")
FIRST_HELD_OUT = 1_000_000
"""Index of the first held-out clip, so that more clips to train on change none of them."""

_CHUNK = 16
_SECONDS_PER_CLIP = 30.0


def numbered(split: str, count: int) -> list[tuple[str, int]]:
    """Path below the corpus, and index of which every draw is a function, of a split's clips."""
    width = max(4, len(str(count - 1)))
    first = 0 if split == "train" else FIRST_HELD_OUT
    return [(f"{split}/{number:0{width}d}.mp4", first + number) for number in range(count)]


def require_counts(clips: int, held_out: int) -> None:
    """Refuse numbers of clips below zero.

    Raises:
        ValueError: there is one.
    """
    if clips < 0 or held_out < 0:
        raise ValueError(f"numbers of clips must be 0 or more, not {clips} and {held_out}")


def require_new(folder: Path) -> None:
    """Refuse a folder that holds anything.

    Raises:
        ValueError: it does, or it is a file.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} exists already; delete it or choose another folder")


def render_clips(
    folder: Path,
    render: Callable[[Path, Job], None],
    jobs: Sequence[tuple[str, Job]],
    *,
    workers: int,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Render clips into a folder's splits.

    Args:
        folder: where to; made if need be.
        render: renders one clip into the file of this path, in whatever process.
        jobs: path below the folder, and what else ``render`` takes, per clip.
        workers: processes; 0 or 1 renders in this one.
        progress: called with the number of clips finished so far, now and then.

    Raises:
        ValueError: a process hung or crashed.
    """
    for split in SPLITS:
        (folder / split).mkdir(parents=True, exist_ok=True)
    chunks = [jobs[at : at + _CHUNK] for at in range(0, len(jobs), _CHUNK)]
    limits = [_SECONDS_PER_CLIP * len(chunk) for chunk in chunks]
    work = partial(_render_chunk, folder, render)
    finished = 0
    for at, result in each(work, chunks, workers=workers if workers > 1 else 0, seconds=limits):
        if isinstance(result, Lost):
            first, last = chunks[at][0][0], chunks[at][-1][0]
            raise ValueError(f"rendering {first} … {last} {result.reason}; try fewer workers, or 0")
        finished += result
        if progress is not None:
            progress(finished)


def write_labels(folder: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write the table of labels; returns its path."""
    path = folder / LABELS
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def _render_chunk(
    folder: Path, render: Callable[[Path, Job], None], jobs: Sequence[tuple[str, Job]]
) -> int:
    for path, job in jobs:
        render(folder / path, job)
    return len(jobs)
