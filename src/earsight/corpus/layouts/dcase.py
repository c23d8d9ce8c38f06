"""DCASE 2014: recordings of ten scenes, in a development and an evaluation folder."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from earsight.corpus.discover import find_media
from earsight.corpus.layouts.listing import LABEL, TEST, TRAIN, Item, LayoutOptions, Listing

SCENES = (
    "bus",
    "busystreet",
    "office",
    "openairmarket",
    "park",
    "quietstreet",
    "restaurant",
    "supermarket",
    "tube",
    "tubestation",
)
_WORDS = {TRAIN: ("dev", "train"), TEST: ("eval", "test")}


def dcase_2014(root: Path, options: LayoutOptions) -> Listing:
    """All recordings below the two folders; the scene is the name without its digits.

    Raises:
        ValueError: the folders cannot be told apart, or a recording names no scene.
    """
    paths = [PurePosixPath(file.path) for file in find_media([str(root)]).files]
    there = sorted({path.parts[0] for path in paths if len(path.parts) > 1})
    split_of = {_folder(root, split, there): split for split in _WORDS}
    if len(split_of) < len(_WORDS):
        raise ValueError(
            f"{root / next(iter(split_of))}: its name stands for development and evaluation alike; "
            "rename it, and give the folder that holds both"
        )
    items = [
        Item((str(path),), split_of[path.parts[0]], {LABEL: _scene(root, path)})
        for path in paths
        if len(path.parts) > 1 and path.parts[0] in split_of
    ]
    return Listing(name="dcase-2014", items=items)


def _folder(root: Path, split: str, there: Sequence[str]) -> str:
    words = _WORDS[split]
    found = [name for name in there if any(word in name.lower() for word in words)]
    if len(found) != 1:
        held = ", ".join(found or there) or "none"
        raise ValueError(
            f"{root}: needs one folder of recordings whose name holds {' or '.join(words)}, such "
            f"as {root / words[0] / 'bus01.wav'}; it has {held}"
        )
    return found[0]


def _scene(root: Path, path: PurePosixPath) -> str:
    scene = re.sub(r"\d", "", path.stem)
    if scene not in SCENES:
        raise ValueError(
            f"{root / path}: {scene!r} is no scene; names are those of {', '.join(SCENES)} with a "
            "number, such as bus01.wav: rename it or take it out"
        )
    return scene
