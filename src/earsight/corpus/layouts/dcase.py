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
    depth = _depth(paths)
    below = [path for path in paths if len(path.parts) > depth + 1]
    split_of = _splits(root, sorted({path.parts[depth] for path in below}))
    items = [
        Item((str(path),), split_of[path.parts[depth]], {LABEL: _scene(root, path)})
        for path in below
        if path.parts[depth] in split_of
    ]
    return Listing(name="dcase-2014", items=items)


def _depth(paths: Sequence[PurePosixPath]) -> int:
    """How deep the two folders lie: below folders that alone hold all."""
    depth = 0
    while True:
        tops = {path.parts[depth] for path in paths}
        nested = all(len(path.parts) > depth + 2 for path in paths)
        if len(tops) != 1 or not nested or _named(tops.pop()):
            return depth
        depth += 1


def _named(folder: str) -> list[str]:
    """The splits that a folder's name stands for."""
    return [split for split in _WORDS if any(word in folder.lower() for word in _WORDS[split])]


def _splits(root: Path, there: Sequence[str]) -> dict[str, str]:
    """Folder to split; of two folders, one that says which it is tells the other too."""
    told = {folder: _named(folder)[0] for folder in there if len(_named(folder)) == 1}
    if len(told) == 1 and len(there) == 2:
        (split,) = told.values()
        (other,) = set(there) - set(told)
        told[other] = TEST if split == TRAIN else TRAIN
    if sorted(told.values()) != sorted(_WORDS):
        raise ValueError(
            f"{root}: needs a folder of development recordings, whose name holds dev or train, and "
            "one of evaluation recordings, whose name holds eval or test, such as "
            f"development/bus01.wav and evaluation/bus01.wav; it has {', '.join(there) or 'none'} "
            "(of two folders, it is enough that one is so named)"
        )
    return told


def _scene(root: Path, path: PurePosixPath) -> str:
    scene = re.sub(r"\d", "", path.stem)
    if scene not in SCENES:
        raise ValueError(
            f"{root / path}: {scene!r} is no scene; names are those of {', '.join(SCENES)} with a "
            "number, such as bus01.wav: rename it or take it out"
        )
    return scene
