"""What the official lists of a data set name: recordings, their labels and their splits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from earsight.corpus.manifest import LABEL_SEPARATOR

LABEL = "label"
"""The column that every listing names its classes in."""

TRAIN, VAL, TEST = "train", "val", "test"
UNUSED = "unused"
"""The split of what is listed, but neither trained on nor tested on."""


class Item(NamedTuple):
    """A listed recording.

    Attributes:
        candidates: paths where its file may lie, the usual one first. A file is taken if its path
            ends with one of them, whatever its extension: ``a/b.mp4`` stands for ``x/a/b.mkv`` too.
        split: ``train``, ``val``, ``test`` or ``unused``.
        labels: column to text, several joined by ``;``; None where there is none.
    """

    candidates: tuple[str, ...]
    split: str
    labels: Mapping[str, str | None]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All recordings of a data set, whether or not they were downloaded.

    Attributes:
        name: of the data set.
        items: at least one, each with the same label columns.
        notes: what a user should be told of the lists, one sentence each.
    """

    name: str
    items: Sequence[Item]
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class LayoutOptions:
    """What some layouts can be told; each names those that it takes.

    Attributes:
        classes: file of class names, one a line; None for the layout's own.
        draw: training items to draw at random; None for all.
        seed: of that draw; None for 0.
        ancestors: add the classes above each label in the ontology.
    """

    classes: Path | None = None
    draw: int | None = None
    seed: int | None = None
    ancestors: bool = False


def one_label(text: str) -> str:
    """A class name in which nothing is taken for the sign between several labels."""
    return text.replace(LABEL_SEPARATOR, ",")


def item_of_splits(candidates: tuple[str, ...], label: str, splits: Sequence[str]) -> Item:
    """An item of a data set with several official splits, numbered from 1.

    Args:
        candidates: as of :class:`Item`.
        label: its class.
        splits: ``train`` or ``test`` in each official split, or empty where it is not used.
    """
    numbered = {f"split{number}": split or None for number, split in enumerate(splits, 1)}
    return Item(candidates, splits[0] or UNUSED, {LABEL: label, **numbered})


def in_two_splits(clips: Iterable[tuple[str, str, str | None]]) -> list[str]:
    """What to tell of videos that have clips in two splits; nothing where none has.

    Args:
        clips: video, split and label of each.
    """
    first: dict[str, tuple[str, str | None]] = {}
    twice: dict[str, str] = {}
    for video, split, label in clips:
        before = first.setdefault(video, (split, label))
        if before[0] != split and video not in twice:
            twice[video] = f"{before[0]} ({before[1]}) and {split} ({label})"
    if not twice:
        return []
    video, places = next(iter(twice.items()))
    return [f"videos listed in two splits: {len(twice)}, such as {video}: {places}"]
