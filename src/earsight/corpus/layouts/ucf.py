"""UCF-101 with its three official splits."""

from pathlib import Path

from earsight.corpus.layouts.annotations import Line, find, list_once, text_lines
from earsight.corpus.layouts.listing import TEST, TRAIN, LayoutOptions, Listing, item_of_splits

_SPLITS = (1, 2, 3)


def ucf_101(root: Path, options: LayoutOptions) -> Listing:
    """``classInd.txt`` and, per split, ``trainlist0K.txt`` and ``testlist0K.txt``.

    Raises:
        ValueError: a list is missing or damaged, or names a video twice.
    """
    classes = _classes(find(root, "classInd.txt"))
    splits: dict[str, list[str]] = {}
    for number in _SPLITS:
        seen: dict[str, str] = {}
        for split in (TRAIN, TEST):
            path = find(root, f"{split}list{number:02}.txt")
            for line in text_lines(path):
                list_once(seen, line, _video(line, classes), split)
        for video, split in seen.items():
            splits.setdefault(video, [""] * len(_SPLITS))[number - 1] = split
    if not splits:
        raise ValueError(f"{root}: its lists name no video; download them again")
    items = [
        item_of_splits((video, Path(video).name), Path(video).parent.name, of)
        for video, of in splits.items()
    ]
    return Listing(name="ucf-101", items=items)


def _classes(path: Path) -> dict[str, str]:
    """Numbers by class."""
    classes: dict[str, str] = {}
    for line in text_lines(path):
        number, _, name = line.cells[0].partition(" ")
        if not number.isdecimal() or not name.strip():
            raise line.fault("is no number and class, such as '1 ApplyEyeMakeup'")
        list_once(classes, line, name.strip(), number)
    return classes


def _video(line: Line, classes: dict[str, str]) -> str:
    video, *number = line.cells[0].split()
    folder, _, file = video.partition("/")
    if not file or len(number) > 1:
        raise line.fault("is no path and number, such as 'ApplyEyeMakeup/v_….avi 1'")
    if folder not in classes:
        raise line.fault(f"{folder!r} is no class of classInd.txt")
    if number and number[0] != classes[folder]:
        raise line.fault(f"{folder} has number {classes[folder]} in classInd.txt")
    return video
