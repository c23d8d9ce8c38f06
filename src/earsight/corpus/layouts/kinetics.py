"""Kinetics-400, Kinetics-700, and Kinetics-Sound, which is some classes of either."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from earsight.corpus.layouts.annotations import (
    Line,
    find,
    find_optional,
    list_once,
    seconds,
    table_lines,
    text_lines,
    video_id,
)
from earsight.corpus.layouts.listing import (
    LABEL,
    TEST,
    TRAIN,
    VAL,
    Item,
    LayoutOptions,
    Listing,
    in_two_splits,
)

SOUND_CLASSES = Path(__file__).with_name("kinetics_sound.txt")
"""The classes of Kinetics-Sound that later work keeps."""

_LISTS = {
    TRAIN: ("train.csv",),
    VAL: ("validate.csv", "val.csv", "validation.csv"),
    TEST: ("test.csv",),
}
_SPLITS = {Path(name).stem: split for split, names in _LISTS.items() for name in names}
_COLUMNS = ("youtube_id", "time_start", "time_end")


class _Clip(NamedTuple):
    name: str  # of its file, without extension
    video: str
    label: str | None
    split: str


def kinetics(name: str, most: int) -> Callable[[Path, LayoutOptions], Listing]:
    """The reader of a release with at most so many classes."""

    def read(root: Path, options: LayoutOptions) -> Listing:
        """``train.csv``, ``val.csv`` and, if it is there, ``test.csv``."""
        clips, notes = _merged(_clips(root))
        classes = {clip.label for clip in clips if clip.label}
        if len(classes) > most:
            raise ValueError(
                f"{root}: the lists have {len(classes)} classes and {name} has {most}; choose the "
                "layout of the release they belong to"
            )
        return Listing(name=name, items=[_item(clip) for clip in clips], notes=notes)

    return read


def kinetics_sound(root: Path, options: LayoutOptions) -> Listing:
    """The clips of any release whose classes are named in ``options.classes``.

    Raises:
        ValueError: the lists have none of these classes, or as for the other releases.
    """
    source = options.classes or SOUND_CLASSES
    wanted = _class_names(source)
    clips, notes = _merged(clip for clip in _clips(root) if _plain(clip.label or "") in wanted)
    if not clips:
        raise ValueError(f"{source}: the lists in {root} have none of these classes")
    missing = [wanted[name] for name in wanted.keys() - {_plain(c.label or "") for c in clips}]
    if missing:
        named = ", ".join(sorted(missing))
        notes.append(f"the lists have no clips of {len(missing)} of the classes: {named}")
    return Listing(name="kinetics-sound", items=[_item(clip) for clip in clips], notes=notes)


def _plain(label: str) -> str:
    return label.replace("_", " ").lower()


def _class_names(path: Path) -> dict[str, str]:
    """Classes as they are compared, to their names in the file."""
    lines = list(text_lines(path))
    seen: dict[str, str] = {}
    for line in lines:
        list_once(seen, line, _plain(line.cells[0]), "the subset")
    if not lines:
        raise ValueError(f"{path}: names no class; write one a line")
    return {_plain(line.cells[0]): line.cells[0] for line in lines}


def _clips(root: Path) -> Iterator[_Clip]:
    """Training clips first; lines that repeat another give no second one."""
    for split, names in _LISTS.items():
        path = find_optional(root, *names) if split == TEST else find(root, *names)
        if path is None:
            continue
        seen: dict[str, _Clip] = {}
        for line, cells in table_lines(path, _COLUMNS if split == TEST else (LABEL, *_COLUMNS)):
            clip = _clip(line, cells, split)
            if seen.setdefault(clip.name, clip) != clip:
                raise line.fault(f"{clip.name} is also listed as {seen[clip.name].label!r}")
        yield from seen.values()


def _clip(line: Line, cells: dict[str, str], split: str) -> _Clip:
    told = cells.get("split", "").lower()
    if _SPLITS.get(told, split) != split:
        raise line.fault(f"is of the split {told!r}, in the list of {split}")
    label = cells.get(LABEL) or None
    if label is None and split != TEST:
        raise line.fault("has no label")
    video = video_id(line, cells["youtube_id"])
    start, end = (round(seconds(line, cells[name])) for name in _COLUMNS[1:])
    return _Clip(f"{video}_{start:06}_{end:06}", video, label, split)


def _merged(clips: Iterable[_Clip]) -> tuple[list[_Clip], list[str]]:
    """Each clip once, and what is to be told of videos that stand in two splits.

    Releases are known to hold some. A clip in two splits is held out, since its file can be in one
    alone; of other clips of a video the lists decide.
    """
    every = list(clips)
    kept = {clip.name: clip for clip in every}  # the last one, and training clips come first
    notes = in_two_splits((clip.video, clip.split, clip.label) for clip in every)
    if len(kept) < len(every):
        notes.append(f"clips listed in two splits, and held out: {len(every) - len(kept)}")
    return list(kept.values()), notes


def _item(clip: _Clip) -> Item:
    file, label = f"{clip.name}.mp4", clip.label or ""
    folders = dict.fromkeys((label, label.replace(" ", "_")))
    placed = ["/".join(filter(None, (clip.split, folder, file))) for folder in folders]
    return Item((*placed, file), clip.split, {LABEL: clip.label})
