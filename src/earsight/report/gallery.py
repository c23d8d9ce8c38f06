"""The gallery: queries with their nearest clips across modalities, embedded to be played."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from earsight.corpus.instances import Instances

Direction = Literal["video-audio", "audio-video"]
Span = tuple[float, float]

ITEM_BYTES = 4_000_000
"""Largest file that is embedded."""

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
        tag: ``video`` or ``audio``.
        source: a data URI; None where the clip stands in the page already, or was left out.
        anchor: the player's id, where it is the first of its file.
        same_as: the id of the player that holds the same file.
        fragment: ``#t=start,end``, or nothing.
        left_out: why the clip cannot be played; None where it can.
    """

    tag: str = "video"
    source: str | None = None
    anchor: str | None = None
    same_as: str | None = None
    fragment: str = ""
    left_out: str | None = None


@dataclass(kw_only=True)
class Embedder:
    """Turns files into players: each file is embedded once, up to the caps.

    Attributes:
        item_bytes: largest file that is embedded.
        total_bytes: largest sum of the files that are embedded.
        used: bytes embedded so far.
        left_out: why each file that was left out was.
    """

    item_bytes: int = ITEM_BYTES
    total_bytes: int = TOTAL_BYTES
    used: int = 0
    left_out: dict[Path, str] = field(default_factory=dict)
    _anchors: dict[Path, str] = field(default_factory=dict)

    def embed(self, path: Path, span: Span | None = None) -> Medium:
        """The player of a file, or the reason why there is none."""
        if path in self.left_out:
            return Medium(left_out=self.left_out[path])
        kind = _TYPES.get(path.suffix.lower())
        tag = (kind or "video").split("/", maxsplit=1)[0]
        fragment = "" if span is None else f"#t={span[0]:.3f},{span[1]:.3f}"
        if path in self._anchors:
            return Medium(tag=tag, same_as=self._anchors[path], fragment=fragment)
        content, reason = self._content(path, kind)
        if content is None:
            self.left_out[path] = reason
            return Medium(left_out=reason)
        self.used += len(content)
        self._anchors[path] = f"clip-{len(self._anchors) + 1}"
        source = f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
        return Medium(tag=tag, source=source, anchor=self._anchors[path], fragment=fragment)

    def _content(self, path: Path, kind: str | None) -> tuple[bytes | None, str]:
        if kind is None:
            return None, f"browsers do not play {path.suffix or 'files without a suffix'}"
        try:
            if not path.is_file():
                return None, "there is no such file"
            size = path.stat().st_size
            if size > self.item_bytes:
                return None, f"{size / 1e6:.1f} MB, more than {self.item_bytes / 1e6:g} MB"
            if self.used + size > self.total_bytes:
                return None, f"the page already holds {self.used / 1e6:.0f} MB of clips"
            return path.read_bytes(), ""
        except (OSError, ValueError) as error:
            # A name with a null byte brings a ValueError.
            return None, f"cannot be read ({getattr(error, 'strerror', None) or error})"


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


def clip_caption(instances: Instances, row: int) -> str:
    """A clip's file name and labels."""
    labels = [
        instances.vocabulary[name][int(codes[row])]
        for name, codes in instances.labels.items()
        if codes.ndim == 1 and codes[row] >= 0
    ]
    return ", ".join([Path(instances.path[row]).name, *labels])
