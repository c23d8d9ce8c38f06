"""The gallery of a run: held-out clips, and what lies nearest to them across modalities."""

from pathlib import Path

import torch

from earsight.corpus.instances import Instances
from earsight.evaluation.features import Features
from earsight.evaluation.retrieval import count_better, nearest
from earsight.evaluation.shown import clip_caption
from earsight.methods.base import Spaces
from earsight.report.gallery import Direction, Gallery, Neighbour, Query
from earsight.search.spaces import modality_of, space_between

_QUERIES = 8
_NEIGHBOURS = 3
_DIRECTIONS: tuple[Direction, Direction] = ("video-audio", "audio-video")


def make_gallery(features: Features, held_out: Instances, spaces: Spaces) -> Gallery:
    """Evenly spaced held-out clips, each with its nearest across modalities: none is picked.

    Args:
        features: of the held-out gallery.
        held_out: the instances that its rows name.
        spaces: of the method, which compares pictures with sounds.
    """
    size = len(features.row)
    shown = min(size, _QUERIES)
    places = [number * size // shown for number in range(shown)]
    compared = {f"{modality_of(one)}-{modality_of(other)}" for one, other in spaces}
    directions = [direction for direction in _DIRECTIONS if direction in compared]
    queries = [
        _query(features, held_out, place, spaces, directions[number % len(directions)])
        for number, place in enumerate(places)
    ]
    return Gallery(queries=tuple(queries), size=size)


def _query(
    features: Features, held_out: Instances, place: int, spaces: Spaces, direction: Direction
) -> Query:
    """One clip's nearest in the other modality."""
    space = space_between(spaces, *direction.split("-"))
    asked = features.embedding[space.query][place : place + 1]
    gallery = features.embedding[space.gallery]
    found, similarity = nearest(asked, gallery, _NEIGHBOURS)
    better, _ = count_better(asked, gallery, torch.tensor([place]))
    row = int(features.row[place])
    return Query(
        path=Path(held_out.path[row]),
        caption=clip_caption(held_out, row),
        direction=direction,
        neighbours=tuple(
            _neighbour(held_out, int(features.row[at]), rank, float(score), own=int(at) == place)
            for rank, (at, score) in enumerate(zip(found[0], similarity[0], strict=True), 1)
        ),
        true_rank=int(better[0]) + 1,
        span=_span(held_out, row),
    )


def _neighbour(
    held_out: Instances, row: int, rank: int, similarity: float, *, own: bool
) -> Neighbour:
    return Neighbour(
        path=Path(held_out.path[row]),
        caption=clip_caption(held_out, row),
        similarity=similarity,
        is_true_match=own,
        rank=rank,
        span=_span(held_out, row),
    )


def _span(held_out: Instances, row: int) -> tuple[float, float]:
    return float(held_out.start[row]), float(held_out.end[row])
