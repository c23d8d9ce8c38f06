"""What the templates are given: plain data for cards, players and choices."""

from collections.abc import Sequence
from dataclasses import dataclass

from earsight.search.embedder import Embedding
from earsight.search.query import By, Hit, search
from earsight.serve.asking import MOST, STEP, WAYS, Asked, ways
from earsight.serve.library import File, Library
from earsight.serve.limits import RefusedError

_NEAR = 30
"""Moments of a long file that are listed before and after the one that is shown."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A moment: its number, file, times, labels, and how near it is.

    Attributes:
        item: its number.
        file: where it is.
        start: seconds.
        end: seconds.
        labels: names and values.
        scores: what was compared, and the similarity; the first decides.
        missing: why it cannot be played; empty where it can.
    """

    item: int
    file: File
    start: float
    end: float
    labels: list[tuple[str, str]]
    scores: tuple[tuple[str, float], ...] = ()
    missing: str = ""

    @property
    def tag(self) -> str:
        """The element that plays it."""
        return "video" if self.file.video else "audio"

    @property
    def when(self) -> str:
        """Its times, for people."""
        return f"{clock(self.start)}–{clock(self.end)}"


@dataclass(frozen=True, kw_only=True)
class Found:
    """Cards with what was asked for.

    Attributes:
        title: of the results.
        cards: in their order.
        more: the address that shows more; empty where there are no more.
        by: how they were found; None where all are shown.
    """

    title: str
    cards: list[Card]
    more: str = ""
    by: By | None = None


def clock(seconds: float) -> str:
    """``1:02.5``."""
    minutes, rest = divmod(round(10 * seconds), 600)
    return f"{minutes}:{rest / 10:04.1f}"


def card(library: Library, item: int, scores: tuple[tuple[str, float], ...] = ()) -> Card:
    """A moment's card."""
    file = library.file_of(item)
    try:
        file.locate()
        missing = ""
    except RefusedError as error:
        missing = str(error)
    return Card(
        item=item,
        file=file,
        start=float(library.index.start[item]),
        end=float(library.index.end[item]),
        labels=library.labels_of(item),
        scores=scores,
        missing=missing,
    )


def browse(library: Library, asked: Asked) -> Found:
    """The files in the order of their paths, each by its first moment that is wanted."""
    mask = library.having(asked.labels)
    items: list[int] = []
    end = asked.first + asked.count
    for number in library.order.tolist():
        own = library.files[number].items
        own = own[mask[own]]
        items += own.tolist() if asked.every else own[:1].tolist()
        if len(items) > end:
            break
    if asked.first and asked.first >= len(items):
        raise RefusedError(404, "There is nothing beyond the last of these.")
    cards = [card(library, item) for item in items[asked.first : end]]
    return Found(
        title="All moments" if asked.every else "All files",
        cards=cards,
        # Beyond the most of a page, the next begins.
        more=_more("/", asked, len(items) > end)
        or (asked.address("/", count=STEP, first=end) if len(items) > end else ""),
    )


def nearest(
    library: Library, query: Embedding, asked: Asked, path: str, without: int | None = None
) -> Found:
    """The moments nearest to a query.

    Args:
        library: where.
        query: what is asked with.
        asked: how, and with which labels.
        path: of the page.
        without: a file that is left out.

    Raises:
        RefusedError: they cannot be compared so.
    """
    possible = ways(library.index, query.vectors)
    if not possible:
        raise RefusedError(422, "The index holds nothing that this can be compared with.")
    by = asked.by or possible[0]
    if by not in possible:
        raise RefusedError(400, f"This cannot be compared by {by}; take {', '.join(possible)}.")
    mask = library.having(asked.labels)
    if without is not None:
        mask &= library.index.file != without
    _, hits = search(
        library.index, query, by=by, count=asked.count + 1, spread=not asked.every, among=mask
    )
    return Found(
        title=WAYS[by],
        cards=[card(library, hit.item, _scores(by, hit)) for hit in hits[: asked.count]],
        more=_more(path, asked, len(hits) > asked.count),
        by=by,
    )


def of_item(library: Library, item: int) -> Embedding:
    """A moment of the index as a query."""
    index = library.index
    here = {
        name: x[item : item + 1] for name, x in index.vectors.items() if index.known[name][item]
    }
    span = slice(item, item + 1)
    return Embedding(start=index.start[span], end=index.end[span], vectors=here)


def moments(library: Library, item: int) -> Sequence[Card]:
    """The moments of an item's file, those around it where there are many."""
    items = library.file_of(item).items.tolist()
    at = items.index(item)
    return [card(library, one) for one in items[max(0, at - _NEAR) : at + _NEAR + 1]]


def _more(path: str, asked: Asked, there: bool) -> str:
    if not there or asked.count >= MOST:
        return ""
    return asked.address(path, count=min(asked.count + STEP, MOST))


def _scores(by: By, hit: Hit) -> tuple[tuple[str, float], ...]:
    if by == "agreement":
        assert hit.video is not None
        assert hit.audio is not None
        return (("picture", hit.video), ("sound", hit.audio))
    return (("similarity", hit.score),)
