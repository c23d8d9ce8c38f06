"""HMDB-51 with its three official splits; its videos have no sound."""

import re
from pathlib import Path

from earsight.corpus.layouts.annotations import folders, list_once, text_lines
from earsight.corpus.layouts.listing import (
    TEST,
    TRAIN,
    Item,
    LayoutOptions,
    Listing,
    item_of_splits,
)

_LIST = re.compile(r"(.+)_test_split1\.txt")
_SPLITS = (1, 2, 3)
_USE = {"0": "", "1": TRAIN, "2": TEST}


def hmdb_51(root: Path, options: LayoutOptions) -> Listing:
    """``CLASS_test_splitK.txt`` of every class and split.

    Raises:
        ValueError: a list is missing or damaged, or names a video twice.
    """
    for folder in folders(root):
        classes = sorted(m[1] for path in folder.iterdir() if (m := _LIST.fullmatch(path.name)))
        if classes:
            items = [item for name in classes for item in _items(folder, name)]
            return Listing(name="hmdb-51", items=items)
    raise ValueError(
        f"{root}: has no brush_hair_test_split1.txt, nor has a folder directly in it; put the "
        "official lists, three for each class, there"
    )


def _items(folder: Path, label: str) -> list[Item]:
    splits: dict[str, list[str]] = {}
    for number in _SPLITS:
        for video, split in _one_split(folder / f"{label}_test_split{number}.txt").items():
            splits.setdefault(video, [""] * len(_SPLITS))[number - 1] = split
    return [item_of_splits((f"{label}/{video}",), label, of) for video, of in splits.items()]


def _one_split(path: Path) -> dict[str, str]:
    """What each video is used for; names may begin with ``#`` and hold spaces."""
    if not path.is_file():
        raise ValueError(f"{path}: is missing; put the official list there")
    splits: dict[str, str] = {}
    for line in text_lines(path, comments=False):
        video, *use = line.cells[0].rsplit(maxsplit=1)
        if not use or use[0] not in _USE:
            raise line.fault("does not end with 0, 1 or 2")
        list_once(splits, line, video, _USE[use[0]])
    return splits
