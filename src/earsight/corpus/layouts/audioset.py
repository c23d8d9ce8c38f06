"""AudioSet: segments of ten seconds with several labels each; all of them, or a random draw."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from earsight.corpus.layouts.annotations import (
    csv_lines,
    find,
    find_optional,
    list_once,
    seconds,
    table_lines,
    video_id,
)
from earsight.corpus.layouts.listing import (
    LABEL,
    TEST,
    TRAIN,
    Item,
    LayoutOptions,
    Listing,
    one_label,
)
from earsight.corpus.manifest import LABEL_SEPARATOR
from earsight.random import bits, purpose_code, stream

CLASSES = "class_labels_indices.csv"
ONTOLOGY = "ontology.json"
_TRAINING = ("unbalanced_train_segments.csv", "balanced_train_segments.csv")
_HELD_OUT = "eval_segments.csv"

Texts = Mapping[str, str | None]


class _Segment(NamedTuple):
    video: str
    start: float
    labels: Texts


def audioset(root: Path, options: LayoutOptions) -> Listing:
    """Both training lists, or the one that is there, and the evaluation list.

    Raises:
        ValueError: a list or the file of classes is missing or damaged, or fewer training segments
            are listed than are to be drawn.
    """
    names = _class_names(find(root, CLASSES))
    above = _ancestors(find(root, ONTOLOGY)) if options.ancestors else {}
    paths = [path for name in _TRAINING if (path := find_optional(root, name)) is not None]
    paths = paths or [find(root, *_TRAINING)]
    held_out_path = find(root, _HELD_OUT)
    known: dict[str, Texts] = {}

    def labels(mids: str) -> Texts:
        if mids not in known:
            known[mids] = _labels(mids, names, above)
        return known[mids]

    seen: dict[str, str] = {}
    training = [s for path in paths for s in _segments(path, TRAIN, seen, labels)]
    held_out = _segments(held_out_path, TEST, seen, labels)
    if options.draw is not None:
        training = _drawn(training, options.draw, options.seed or 0)
    items = [_item(segment, TRAIN) for segment in training]
    items += [_item(segment, TEST) for segment in held_out]
    if not items:
        raise ValueError(f"{paths[0]}: lists no segment; download the list again")
    return Listing(name="audioset", items=items)


def _segments(
    path: Path, split: str, seen: dict[str, str], labels: Callable[[str], Texts]
) -> list[_Segment]:
    found = []
    for line in csv_lines(path, cells=4):
        video, start = video_id(line, line.cells[0]), seconds(line, line.cells[1])
        list_once(seen, line, video, split)
        try:
            found.append(_Segment(video, start, labels(line.cells[3])))
        except KeyError as error:
            raise line.fault(f"the label {error} is not in {CLASSES}") from error
    return found


def _class_names(path: Path) -> dict[str, str]:
    """Display names by machine id."""
    rows = table_lines(path, ("mid", "display_name"))
    return {cells["mid"]: one_label(cells["display_name"]) for _, cells in rows}


def _labels(mids: str, names: Mapping[str, str], above: Mapping[str, Sequence[str]]) -> Texts:
    listed = [mid.strip() for mid in mids.split(",") if mid.strip()]
    texts = [names[mid] for mid in listed]
    texts += [name for mid in listed for name in above.get(mid, ())]
    return {LABEL: LABEL_SEPARATOR.join(dict.fromkeys(texts)) or None}


def _ancestors(path: Path) -> dict[str, list[str]]:
    """Display names of all classes above each, by machine id."""
    try:
        nodes = json.loads(path.read_text(encoding="utf-8"))
        names = {node["id"]: one_label(node["name"]) for node in nodes}
        links = [(child, node["id"]) for node in nodes for child in node["child_ids"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: is not AudioSet's ontology; download it again") from error
    parents: dict[str, list[str]] = {}
    for child, parent in links:
        parents.setdefault(child, []).append(parent)
    return {child: [names[mid] for mid in _all_above(child, parents)] for child in parents}


def _all_above(mid: str, parents: Mapping[str, Sequence[str]]) -> list[str]:
    found: dict[str, None] = {}
    todo = list(parents[mid])
    while todo:
        one = todo.pop()
        if one not in found:
            found[one] = None
            todo += parents.get(one, ())
    return list(found)


def _drawn(training: Sequence[_Segment], count: int, seed: int) -> list[_Segment]:
    """Those with the smallest random numbers, which depend on the video and the seed alone.

    So a smaller draw lies within a larger one, whatever order the lists have.
    """
    if not 0 < count <= len(training):
        raise ValueError(
            f"{count} training segments cannot be drawn from the {len(training)} that are listed"
        )
    code = np.array([purpose_code(segment.video) for segment in training], np.uint64)
    order = np.argsort(bits(stream(seed, "audioset", code), 0), kind="stable")
    return [training[at] for at in np.sort(order[:count])]


def _item(segment: _Segment, split: str) -> Item:
    video, start = segment.video, segment.start
    # Download tools write the start in seconds, as the list has it, or in milliseconds.
    times = (f"{start:g}", f"{start:.3f}", f"{1000 * start:.0f}")
    candidates = (*(f"{video}_{time}.mp4" for time in times), f"{video}.mp4")
    return Item(candidates, split, segment.labels)
