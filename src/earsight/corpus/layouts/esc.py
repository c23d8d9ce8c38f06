"""ESC-50 and ESC-10: environmental sounds in five folds."""

import re
from pathlib import Path

from earsight.corpus.discover import find_media
from earsight.corpus.layouts.annotations import find, find_optional, list_once, table_lines
from earsight.corpus.layouts.listing import LABEL, TEST, TRAIN, Item, LayoutOptions, Listing

_LIST = "esc50.csv"
_FOLDS = frozenset("12345")
_FOLDER = re.compile(r"\d+ - (.+)")
_FILE = re.compile(r"(\d)-.+")


def esc_50(root: Path, options: LayoutOptions) -> Listing:
    """The lines of ``meta/esc50.csv``.

    Raises:
        ValueError: the list is missing or damaged, or names a recording twice.
    """
    return _listed("esc-50", find(root, _LIST), part=False)


def esc_10(root: Path, options: LayoutOptions) -> Listing:
    """Folders of classes, such as ``001 - Dog bark``; or that part of ESC-50, by its list.

    Raises:
        ValueError: there are neither, or the name of a file does not begin with its fold.
    """
    path = find_optional(root, _LIST)
    if path is not None:
        return _listed("esc-10", path, part=True)
    items = []
    for file in find_media([str(root)]).files:
        folder, _, name = file.path.rpartition("/")
        if label := _FOLDER.fullmatch(folder.rpartition("/")[2]):
            fold = _FILE.fullmatch(name)
            if not fold or fold[1] not in _FOLDS:
                raise ValueError(
                    f"{root / file.path}: the name does not begin with its fold, 1 to 5, as "
                    "1-30226-A.ogg does; rename it or take it out"
                )
            items.append(_item(file.path, label[1], fold[1]))
    if not items:
        raise ValueError(
            f"{root}: has no recordings such as '001 - Dog bark/1-30226-A.ogg', and no {_LIST} "
            "(of ESC-50); give the folder that holds those of the classes"
        )
    return Listing(name="esc-10", items=items)


def _listed(name: str, path: Path, *, part: bool) -> Listing:
    names = ("filename", "fold", "category", *(("esc10",) if part else ()))
    seen: dict[str, str] = {}
    items = []
    for line, cells in table_lines(path, names):
        if part and cells["esc10"].lower() != "true":
            continue
        file, fold, label = (cells[name] for name in names[:3])
        if not file or not label:
            raise line.fault("names no file or no category")
        if fold not in _FOLDS:
            raise line.fault(f"the fold {fold!r} is none of 1 to 5")
        list_once(seen, line, file, f"fold {fold}")
        items.append(_item(f"audio/{file}", label, fold))
    if not items:
        raise ValueError(f"{path}: lists no recording of {name}; download the list again")
    return Listing(name=name, items=items)


def _item(path: str, label: str, fold: str) -> Item:
    """The first official split holds out the first fold."""
    candidates = (path, path.rpartition("/")[2])
    return Item(candidates, TEST if fold == "1" else TRAIN, {LABEL: label, "fold": fold})
