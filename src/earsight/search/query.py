"""What in an index is nearest to a query: exact, by one modality, across, or by agreement."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from earsight.search.embedder import Embedding
from earsight.search.index import Index
from earsight.search.spaces import space_between

By = Literal["video-video", "audio-audio", "video-audio", "audio-video", "agreement"]
"""Modality of the query and of what is found; ``agreement``: the lesser of both within."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A window that was found.

    Attributes:
        path: its file, as in the corpus.
        key: of its instance, hexadecimal.
        start: seconds.
        end: seconds.
        score: cosine similarity; by agreement the lesser of the two.
        video: similarity of pictures, by agreement.
        audio: similarity of sound, by agreement.
    """

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


def search(
    index: Index, query: Embedding, *, by: By | None = None, count: int = 10, spread: bool = True
) -> tuple[By, list[Hit]]:
    """The windows nearest to a query, best first.

    The query is the mean of its windows.

    Args:
        index: what is searched.
        query: of the same model.
        by: how; None for agreement where the query has both modalities and the index too, else
            within the one that it has.
        count: how many, at most.
        spread: of a file only its best window.

    Returns:
        How it was compared, and the hits.

    Raises:
        ValueError: the query or the index lacks a modality, or the method trains no such space.
    """
    chosen = by or _natural(index, query)
    mean = query.mean().vectors
    parts: dict[str, Tensor] = {}
    if chosen == "agreement":
        for name in ("video", "audio"):
            parts[name] = _scores(index, mean, name, name)
        scores = torch.minimum(parts["video"], parts["audio"])
    else:
        one, other = chosen.split("-")
        asked = space_between(frozenset(index.about.spaces), one, other)
        scores = _scores(index, mean, asked.query, asked.gallery)
    at = _best(index, scores, count, spread)
    return chosen, [
        Hit(
            path=index.paths[index.file[row]],
            key=f"{int(index.key[row]):016x}",
            start=float(index.start[row]),
            end=float(index.end[row]),
            score=float(scores[row]),
            **{name: float(x[row]) for name, x in parts.items()},
        )
        for row in at
    ]


def _natural(index: Index, query: Embedding) -> By:
    both = [name for name in ("video", "audio") if name in query.vectors and name in index.vectors]
    if len(both) == 2:
        return "agreement"
    if not both:
        raise ValueError(
            f"the query has {', '.join(query.vectors) or 'nothing'}, and the index "
            f"{', '.join(index.vectors)}: nothing to compare"
        )
    return "video-video" if both[0] == "video" else "audio-audio"


def _scores(index: Index, mean: dict[str, Tensor] | Any, query: str, gallery: str) -> Tensor:
    """``(W,)`` similarities; −∞ where a window has no such embedding."""
    if query not in mean:
        raise ValueError(f"the query has no {query}, but {', '.join(mean) or 'nothing'}")
    if gallery not in index.vectors:
        raise ValueError(f"the index has no {gallery}, but {', '.join(index.vectors)}")
    scores = index.vectors[gallery] @ mean[query][0]
    return scores.masked_fill(~torch.from_numpy(index.known[gallery]), -torch.inf)


def _best(index: Index, scores: Tensor, count: int, spread: bool) -> list[int]:
    """Places of the best scores, of each file one if they are spread."""
    if spread:
        file = torch.from_numpy(index.file)
        best = torch.full((len(index.paths),), -torch.inf)
        best = best.scatter_reduce(0, file, scores, "amax")
        top = best.topk(min(count, len(best)))
        return [
            int(scores.masked_fill(file != one, -torch.inf).argmax())
            for one, score in zip(top.indices.tolist(), top.values.tolist(), strict=True)
            if score > -np.inf
        ]
    top = scores.topk(min(count, len(scores)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [at for at, score in pairs if score > -np.inf]
