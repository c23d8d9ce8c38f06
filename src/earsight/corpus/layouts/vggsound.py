"""VGGSound: one list of clips, each with a class and a split."""

from pathlib import Path

from earsight.corpus.layouts.annotations import csv_lines, find, list_once, seconds, video_id
from earsight.corpus.layouts.listing import (
    LABEL,
    TEST,
    TRAIN,
    Item,
    LayoutOptions,
    Listing,
    in_two_splits,
    one_label,
)


def vggsound(root: Path, options: LayoutOptions) -> Listing:
    """The lines of ``vggsound.csv``: video, start, class, split.

    Raises:
        ValueError: the list is missing or damaged, or names a clip twice.
    """
    path = find(root, "vggsound.csv")
    seen: dict[str, str] = {}
    clips = []
    items = []
    for line in csv_lines(path, cells=4):
        video, start, label, split = line.cells
        if split not in {TRAIN, TEST}:
            raise line.fault(f"the split {split!r} is neither {TRAIN} nor {TEST}")
        if not label:
            raise line.fault("has no label")
        file = f"{video_id(line, video)}_{round(seconds(line, start)):06}.mp4"
        list_once(seen, line, file, split)
        clips.append((video, split, label))
        items.append(Item((file,), split, {LABEL: one_label(label)}))
    if not items:
        raise ValueError(f"{path}: is empty; download the list again")
    return Listing(name="vggsound", items=items, notes=in_two_splits(clips))
