"""Which of the listed recordings lie on disk, and where."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from earsight.corpus.discover import EXTENSIONS, VIDEO_EXTENSIONS, Discovery
from earsight.corpus.labels import Labels, path_of
from earsight.corpus.layouts.listing import Item, Listing
from earsight.corpus.manifest import SPLIT


@dataclass(frozen=True, kw_only=True)
class Located:
    """A listing held against a disk.

    Attributes:
        listing: what was looked for.
        discovery: what was found, less the files that are not listed.
        labels: a line for each of these files.
        absent: usual paths of the listed items that are not there, in the listing's order.
        unlisted: files that were found but are not listed, or that repeat another.
    """

    listing: Listing
    discovery: Discovery
    labels: Labels
    absent: Sequence[str]
    unlisted: Sequence[str]


def locate(listing: Listing, discovery: Discovery, sources: Sequence[str]) -> Located:
    """Find the file of each item.

    An item takes one file. Of several, the one that fits the candidates best: an earlier candidate
    before a later one, its own extension before others, pictures before sound alone.

    Args:
        listing: what there should be.
        discovery: what there is.
        sources: where it was looked for.

    Raises:
        ValueError: there is no file of any item; names the first and where it should be.
    """
    paths = [path_of(file.path) for file in discovery.files]
    found = _choose(listing.items, paths)
    if not found:
        raise ValueError(_nothing(listing, discovery, sources))
    taken = set(found.values())
    order = sorted(found, key=lambda item: found[item])
    labels = _labels(listing, order, [paths[found[item]] for item in order])
    return Located(
        listing=listing,
        discovery=replace(discovery, files=[discovery.files[at] for at in sorted(taken)]),
        labels=labels,
        absent=[i.candidates[0] for at, i in enumerate(listing.items) if at not in found],
        unlisted=[path for at, path in enumerate(paths) if at not in taken],
    )


def _choose(items: Sequence[Item], paths: Sequence[str]) -> dict[int, int]:
    """The number of the file of each item that has one, by the number of the item."""
    ends = _by_ending(paths, {c.count("/") + 1 for item in items for c in item.candidates})
    found: dict[int, int] = {}
    taken: set[int] = set()
    # All first candidates before any second one, so that no item takes what is named for another.
    for rank in range(max((len(item.candidates) for item in items), default=0)):
        for number, item in enumerate(items):
            if number in found or rank >= len(item.candidates):
                continue
            candidate = unicodedata.normalize("NFC", item.candidates[rank])
            fitting = [at for at in ends.get(_stem(candidate), ()) if at not in taken]
            if fitting:
                found[number] = min(fitting, key=lambda at: _fit(paths[at], candidate))
                taken.add(found[number])
    return found


def _by_ending(paths: Sequence[str], depths: set[int]) -> dict[str, list[int]]:
    """Numbers of files by the last parts of their paths, without extension."""
    ends: dict[str, list[int]] = {}
    for number, path in enumerate(paths):
        for end in _endings(_stem(path), depths):
            ends.setdefault(end, []).append(number)
    return ends


def _endings(path: str, depths: set[int]) -> Iterator[str]:
    parts = path.split("/")
    for depth in depths:
        if depth <= len(parts):
            yield "/".join(parts[-depth:])


def _stem(path: str) -> str:
    """A path without the extension of a media file; other dots belong to the name."""
    stem, dot, extension = path.rpartition(".")
    return stem if dot and extension.lower() in EXTENSIONS else path


def _fit(path: str, candidate: str) -> tuple[bool, bool, str]:
    """The smaller, the better a file fits."""
    extension = PurePosixPath(path).suffix.lower()
    differs = extension != PurePosixPath(candidate).suffix.lower()
    return differs, extension[1:] not in VIDEO_EXTENSIONS, path


def _labels(listing: Listing, order: Sequence[int], names: list[str]) -> Labels:
    chosen = [listing.items[number] for number in order]
    columns = {SPLIT: np.array([item.split for item in chosen], object)}
    for name in chosen[0].labels:
        columns[name] = np.array([item.labels[name] for item in chosen], object)
    return Labels(source=listing.name, by_key=False, names=names, columns=columns)


def _nothing(listing: Listing, discovery: Discovery, sources: Sequence[str]) -> str:
    usual = listing.items[0].candidates[0]
    files = discovery.files
    others = f"; it holds {len(files)} other media, such as {files[0].path}" if files else ""
    return (
        f"{', '.join(sources)}: none of the {len(listing.items)} listed recordings of "
        f"{listing.name} is there{others}. The first is looked for as {usual}: give the folder "
        "that holds the lists and the media"
    )
