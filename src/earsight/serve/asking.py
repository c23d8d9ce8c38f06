"""What a page is asked for by its address: read strictly, and written again."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from earsight.search.index import Index
from earsight.search.query import By
from earsight.search.spaces import space_between
from earsight.serve.library import Library
from earsight.serve.limits import RefusedError

STEP = 24
MOST = 240
LABEL = "label."
WAYS: Mapping[By, str] = {
    "agreement": "Looks and sounds alike",
    "video-video": "Looks alike",
    "audio-audio": "Sounds alike",
    "video-audio": "Sounds that fit its pictures",
    "audio-video": "Pictures that fit its sound",
}
"""What a comparison means, in words; the first that can be made is the default."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be shown.

    Attributes:
        by: how the nearest are found; None where nothing is searched.
        labels: those that must hold, by name.
        every: every moment of a file, not only the best.
        count: how many, at most.
        first: how many are left out before these.
        query: name of an upload; empty for none.
    """

    by: By | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    every: bool = False
    count: int = STEP
    first: int = 0
    query: str = ""

    def address(self, path: str, **changes: object) -> str:
        """The address that asks for this, with changes."""
        changed = replace(self, **changes)  # type: ignore[arg-type]
        given = {
            "query": changed.query,
            "by": changed.by or "",
            **{LABEL + name: value for name, value in changed.labels.items()},
            "every": "1" if changed.every else "",
            "count": "" if changed.count == STEP else str(changed.count),
            "first": str(changed.first) if changed.first else "",
        }
        text = urlencode({name: value for name, value in given.items() if value})
        return f"{path}?{text}" if text else path


def ways(index: Index, names: Collection[str]) -> list[By]:
    """The comparisons that a query with these embeddings allows, the default first."""
    return [by for by in WAYS if _possible(index, names, by)]


def _possible(index: Index, names: Collection[str], by: By) -> bool:
    if by == "agreement":
        return all(name in names and name in index.vectors for name in ("video", "audio"))
    one, other = by.split("-")
    try:
        space = space_between(frozenset(index.about.spaces), one, other)
    except ValueError:
        return False  # the method trains no such space: it is not offered
    return space.query in names and space.gallery in index.vectors


def read_asked(params: QueryParams, library: Library, known: Collection[str]) -> Asked:
    """What an address asks for; empty values are as good as none.

    Args:
        params: of the address.
        library: what there is to ask for.
        known: names that this page knows, besides labels.

    Raises:
        RefusedError: a name or a value that is not known, or one given twice.
    """
    given = [(name, value) for name, value in params.multi_items() if value]
    if len({name for name, _ in given}) < len(given):
        raise RefusedError(400, "Something is asked for twice.")
    found: dict[str, str] = {}
    labels: dict[str, str] = {}
    for name, value in given:
        label = name.removeprefix(LABEL)
        if name.startswith(LABEL) and label in library.labels:
            column = library.labels[label]
            if column.listed and value not in column.values:
                raise RefusedError(400, f"No moment has this value of {label}.")
            labels[label] = value
        elif name in known:
            found[name] = value
        else:
            raise RefusedError(400, "The address asks for something that this page does not know.")
    by = next((one for one in WAYS if one == found.get("by")), None)
    if "by" in found and by is None:
        raise RefusedError(400, f"by: must be one of {', '.join(WAYS)}.")
    if found.get("every", "1") != "1":
        raise RefusedError(400, "every: must be 1, or left out.")
    return Asked(
        by=by,
        labels=labels,
        every="every" in found,
        count=_count(found.get("count", str(STEP))),
        first=_first(found.get("first", "0")),
        query=found.get("query", ""),
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 3 and 0 < int(text) <= MOST):
        raise RefusedError(400, f"count: must be from 1 to {MOST}.")
    return int(text)


def _first(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise RefusedError(400, "first: must be a number.")
    return int(text)
