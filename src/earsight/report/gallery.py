"""The gallery: queries with their nearest clips across modalities, embedded to be played."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

from earsight.media.members import file_behind, open_member, parse_member, suffix_of
from earsight.media.types import MediaError
from earsight.report.preview import make_preview

Direction = Literal["video-audio", "audio-video"]
Span = tuple[float, float]

ITEM_BYTES = 1_000_000
"""Largest file that is embedded as it is; of larger ones, a preview of the clip is."""

TOTAL_BYTES = 60_000_000
"""Largest sum of the files that are embedded."""

_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/mp4",
    ".webm": "video/webm",
    ".ogv": "video/ogg",
    ".mkv": "video/x-matroska",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".flac": "audio/flac",
}


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A clip of the gallery, as near to a query as its rank says.

    Attributes:
        path: the file.
        caption: what to call it, such as its name and labels.
        similarity: cosine between the query's embedding and the clip's in the other modality.
        is_true_match: whether it is the query's own clip.
        rank: place in the query's order, from 1.
        span: seconds into the file at which the clip starts and ends; None for the whole file.
    """

    path: Path
    caption: str
    similarity: float
    is_true_match: bool
    rank: int
    span: Span | None = None


@dataclass(frozen=True, kw_only=True)
class Query:
    """A held-out clip, one modality of which is looked up among the other of all.

    Attributes:
        path: the file.
        caption: what to call it.
        direction: ``video-audio`` (its picture looks for sounds) or ``audio-video``.
        neighbours: the nearest clips, best first.
        true_rank: the rank of its own clip, among the neighbours or not; None if unknown.
        span: seconds into the file at which the clip starts and ends; None for the whole file.
    """

    path: Path
    caption: str
    direction: Direction
    neighbours: tuple[Neighbour, ...]
    true_rank: int | None = None
    span: Span | None = None


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Queries and their neighbours.

    Attributes:
        queries: in the order in which they are shown.
        size: clips that each query was ranked against.
    """

    queries: tuple[Query, ...]
    size: int


@dataclass(frozen=True, kw_only=True)
class Medium:
    """A clip as the page shows it: a player, or the reason why there is none.

    Attributes:
        shown: whether the page has media at all.
        tag: ``video`` or ``audio``.
        source: a data URI; None where the clip stands in the page already, or was left out.
        anchor: the player's id, where it is the first of its file.
        same_as: the id of the player that holds the same file.
        fragment: ``#t=start,end``, or nothing.
        left_out: why the clip cannot be played; None where it can.
    """

    shown: bool = True
    tag: str = "video"
    source: str | None = None
    anchor: str | None = None
    same_as: str | None = None
    fragment: str = ""
    left_out: str | None = None

    def at(self, fragment: str) -> Self:
        """The same, played from and to other times."""
        return replace(self, fragment=fragment)


@dataclass(kw_only=True)
class Embedder:
    """Turns clips into players: each file is embedded once, up to the caps.

    A file that is too large, or of a kind that browsers do not play, is shown by a small preview of
    the clip.

    Attributes:
        media: False to embed nothing, as was asked for.
        item_bytes: largest file that is embedded as it is.
        total_bytes: largest sum of what is embedded.
        used: bytes embedded so far.
        previews: clips that are shown by a preview.
        left_out: why each file that was left out was.
    """

    media: bool = True
    item_bytes: int = ITEM_BYTES
    total_bytes: int = TOTAL_BYTES
    used: int = 0
    previews: int = 0
    left_out: dict[Path, str] = field(default_factory=dict)
    _held: dict[tuple[Path, Span | None], Medium] = field(default_factory=dict)

    @property
    def held(self) -> int:
        """How many clips and previews are embedded."""
        return len(self._held)

    def embed(self, path: Path, span: Span | None = None) -> Medium:
        """The player of a clip, or the reason why there is none."""
        if not self.media:
            return Medium(shown=False)
        if path in self.left_out:
            return Medium(left_out=self.left_out[path])
        for key in ((path, None), (path, span)):
            if key in self._held:
                # The whole file is played from the clip's start to its end; a preview is the clip.
                fragment = _fragment(span) if key[1] is None else ""
                held = self._held[key]
                return replace(held, source=None, anchor=None, same_as=held.anchor).at(fragment)
        try:
            return self._embed(path, span)
        except (OSError, ValueError) as error:
            # A name with a null byte brings a ValueError.
            reason = str(getattr(error, "strerror", None) or error)
            self.left_out[path] = reason
            return Medium(left_out=reason)

    def _embed(self, path: Path, span: Span | None) -> Medium:
        if not Path(file_behind(str(path))).is_file():
            raise ValueError("there is no such file")
        content, kind, whole = self._content(path, span)
        if self.used + len(content) > self.total_bytes:
            raise ValueError(f"the page already holds {self.used / 1e6:.0f} MB of clips")
        self.used += len(content)
        self.previews += not whole
        medium = Medium(
            tag=kind.split("/", maxsplit=1)[0],
            source=f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}",
            anchor=f"clip-{len(self._held) + 1}",
        )
        self._held[path, None if whole else span] = medium
        return medium.at(_fragment(span)) if whole else medium

    def _content(self, path: Path, span: Span | None) -> tuple[bytes, str, bool]:
        """What is embedded, its media type, and whether it is the whole file."""
        member, kind = parse_member(str(path)), _TYPES.get(suffix_of(str(path)))
        size = path.stat().st_size if member is None else member.length
        if kind is not None and size <= self.item_bytes:
            content = path.read_bytes() if member is None else open_member(member).read()
            return content, kind, True
        why = f"{size / 1e6:.1f} MB, more than {self.item_bytes / 1e6:g} MB"
        if kind is None:
            why = f"browsers do not play {path.suffix or 'files without a suffix'}"
        try:
            return *make_preview(path, span), False
        except MediaError as error:
            raise ValueError(f"{why}, and no preview can be made: it {error}") from error


def _fragment(span: Span | None) -> str:
    return "" if span is None else f"#t={span[0]:.3f},{span[1]:.3f}"


@dataclass(frozen=True, kw_only=True)
class ShownNeighbour:
    """A neighbour and its player."""

    neighbour: Neighbour
    medium: Medium


@dataclass(frozen=True, kw_only=True)
class ShownQuery:
    """A query, its player, and its neighbours with theirs."""

    query: Query
    medium: Medium
    neighbours: tuple[ShownNeighbour, ...]


def show(gallery: Gallery, embedder: Embedder) -> Iterator[ShownQuery]:
    """The queries with their players, in order."""
    for query in gallery.queries:
        yield ShownQuery(
            query=query,
            medium=embedder.embed(query.path, query.span),
            neighbours=tuple(
                ShownNeighbour(neighbour=n, medium=embedder.embed(n.path, n.span))
                for n in query.neighbours
            ),
        )
