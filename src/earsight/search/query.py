"""What in an index is nearest to a query: exact, by one modality, across, or by agreement."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight.encoders.pair import MODALITIES
from earsight.search.embedder import Embedding
from earsight.search.index import Index
from earsight.search.spaces import space_between

By = Literal["video-video", "audio-audio", "video-audio", "audio-video", "agreement"]
"""Modality of the query and of what is found; ``agreement``: the lesser of both within."""

_SPREAD = 16
"""Windows that are looked at for each file that is wanted, to begin with."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A window that was found.

    Attributes:
        item: its number in the index.
        path: its file, as in the corpus.
        key: of its instance, hexadecimal.
        start: seconds.
        end: seconds.
        score: cosine similarity; by agreement the lesser of the two.
        video: similarity of pictures, by agreement.
        audio: similarity of sound, by agreement.
    """

    item: int
    path: str
    key: str
    start: float
    end: float
    score: float
    video: float | None = None
    audio: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How a query is compared: by one pair of embeddings, or by several, whose least score counts.

    Attributes:
        by: in words.
        pairs: for each, the query ``(D,)`` of unit length, and the name of what it is compared
            with.
    """

    by: By
    pairs: tuple[tuple[Tensor, str], ...]


def search(
    index: Index,
    query: Embedding,
    *,
    by: By | None = None,
    count: int = 10,
    spread: bool = True,
    among: NDArray[np.bool_] | None = None,
) -> tuple[By, list[Hit]]:
    """The windows nearest to a query, best first; exact.

    The query is the mean of its windows.

    Args:
        index: what is searched.
        query: of the same model.
        by: how; None for agreement where the query has both modalities and the index too, else
            within the one that it has.
        count: how many, at most.
        spread: of a file only its best window.
        among: ``(W,)`` windows that may be found; None for all.

    Returns:
        How it was compared, and the hits.

    Raises:
        ValueError: the query or the index lacks a modality, or the method trains no such space.
    """
    asked = comparison(index, query, by)
    scores = score(index, asked)
    if among is not None:
        scores.masked_fill_(~torch.from_numpy(among), -torch.inf)
    rows, best_scores = best(index.file, scores, count, spread)
    return asked.by, hits(index, asked, rows, best_scores)


def comparison(index: Index, query: Embedding, by: By | None) -> Comparison:
    """What is compared with what; see :func:`search`.

    Raises:
        ValueError: the query or the index lacks a modality, or the method trains no such space.
    """
    chosen = by or _natural(index, query)
    mean = query.mean().vectors
    if chosen == "agreement":
        pairs = [_pair(index, mean, name, name) for name in MODALITIES]
    else:
        one, other = chosen.split("-")
        asked = space_between(frozenset(index.about.spaces), one, other)
        pairs = [_pair(index, mean, asked.query, asked.gallery)]
    return Comparison(by=chosen, pairs=tuple(pairs))


def _natural(index: Index, query: Embedding) -> By:
    both = [name for name in MODALITIES if name in query.vectors and name in index.vectors]
    if len(both) == 2:
        return "agreement"
    if not both:
        raise ValueError(
            f"the query has {', '.join(query.vectors) or 'nothing'}, and the index "
            f"{', '.join(index.vectors)}: nothing to compare"
        )
    return "video-video" if both[0] == "video" else "audio-audio"


def _pair(index: Index, mean: Mapping[str, Tensor], query: str, gallery: str) -> tuple[Tensor, str]:
    if query not in mean:
        raise ValueError(f"the query has no {query}, but {', '.join(mean) or 'nothing'}")
    if gallery not in index.vectors:
        raise ValueError(f"the index has no {gallery}, but {', '.join(index.vectors)}")
    return mean[query][0], gallery


def score(index: Index, asked: Comparison, rows: Tensor | None = None) -> Tensor:
    """Similarities ``(W,)`` of all windows, or of ``rows`` ``(R,)``; −∞ where one lacks something.

    Where several embeddings are compared, the least.
    """
    least: Tensor | None = None
    for query, gallery in asked.pairs:
        vectors, known = index.vectors[gallery], index.mask(gallery)
        if rows is not None:
            vectors, known = vectors[rows], known[rows]
        found = (vectors @ query).masked_fill_(~known, -torch.inf)
        least = found if least is None else torch.minimum(least, found)
    assert least is not None
    return least


def best(
    file: NDArray[np.int64], scores: Tensor, count: int, spread: bool
) -> tuple[list[int], list[float]]:
    """Places of the ``count`` best scores ``(W,)``; if spread, of each ``file (W,)`` one.

    Returns:
        The places, and their scores; fewer where no more windows can be compared.

    Raises:
        ValueError: none are wanted.
    """
    if count < 1:
        raise ValueError(f"count: {count} must be at least 1")
    room = min(len(scores), _SPREAD * count if spread else count)
    while True:
        top = scores.topk(room)
        taken = _taken(file, top.indices.tolist(), top.values.tolist(), count, spread)
        if len(taken) == count or room == len(scores) or top.values[-1] == -torch.inf:
            return list(taken), list(taken.values())
        # One file has most of the best windows.
        room = min(len(scores), _SPREAD * room)


def _taken(
    file: NDArray[np.int64], rows: list[int], scores: list[float], count: int, spread: bool
) -> dict[int, float]:
    """The first ``count`` of what is comparable, of each file its first window if spread."""
    taken: dict[int, float] = {}
    seen: set[int] = set()
    for row, value in zip(rows, scores, strict=True):
        if value == -np.inf or len(taken) == count:
            break
        own = int(file[row])
        if not spread or own not in seen:
            seen.add(own)
            taken[row] = value
    return taken


def hits(index: Index, asked: Comparison, rows: list[int], scores: list[float]) -> list[Hit]:
    """What is told of the windows at ``rows``."""
    each: dict[str, list[float]] = {}
    if asked.by == "agreement":
        at = torch.tensor(rows, dtype=torch.int64)
        each = {gallery: (index.vectors[gallery][at] @ x).tolist() for x, gallery in asked.pairs}
    return [
        Hit(
            item=row,
            path=index.paths[index.file[row]],
            key=f"{int(index.key[row]):016x}",
            start=float(index.start[row]),
            end=float(index.end[row]),
            score=scores[place],
            **{name: values[place] for name, values in each.items()},
        )
        for place, row in enumerate(rows)
    ]
