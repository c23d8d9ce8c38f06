"""The embedding on a plane: where held-out clips lie, coloured by a label."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor

from earsight.encoders.pair import MODALITIES
from earsight.evaluation.load import HeldOut
from earsight.report.words import say

Floats = NDArray[np.float64]

CLASSES = 12
"""Categories that have a look of their own; the others share one."""

WIDTH, HEIGHT = 400, 300
"""Of a map, in its own units, at most."""

NEAREST = 10
"""Neighbours that a map is judged by."""

_MARGIN = 12
_LOWEST = 100
_FEWEST = 10
_PERPLEXITY = 30.0


@dataclass(frozen=True, kw_only=True)
class Point:
    """A clip: its place in the map's units, and what to call it."""

    x: float
    y: float
    name: str


@dataclass(frozen=True, kw_only=True)
class MapClass:
    """A category and its clips; ``look`` is a number below ``CLASSES``, or that for the others."""

    name: str
    look: int
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class EmbeddingMap:
    """A drawn embedding.

    Attributes:
        title: what is drawn, and by which label.
        caption: how, and what may be read off it.
        label: the label column; empty without.
        height: of the map; its width is always the same.
        classes: the largest first.
    """

    title: str
    caption: str
    label: str
    height: float
    classes: tuple[MapClass, ...]


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Places on a plane, ``(n, 2)``, and how they came about."""

    place: Floats
    how: str


def make_maps(
    held_out: HeldOut, labels: Sequence[str] = (), *, most: int = 2
) -> tuple[EmbeddingMap, ...]:
    """Maps of each modality's embeddings, by each of the labels.

    Args:
        held_out: the gallery as the encoders see it.
        labels: columns to colour by; empty for the first that clips can be told apart by.
        most: how many these may be, unless they are named.

    Raises:
        ValueError: there is no such column, or there are fewer than three clips.
    """
    codes = held_out.instances.labels
    if unknown := [name for name in labels if name not in codes]:
        known = ", ".join(codes) or "none"
        raise ValueError(f"label: the corpus has no column {unknown[0]!r}; it has {known}")
    row = held_out.features.row.numpy()
    chosen = [name for name in labels or held_out.labels.held_out if codes[name].ndim == 1]
    names = [Path(held_out.instances.path[at]).name for at in row]
    planes = {modality: flatten(x.double().numpy()) for modality, x in _embedded(held_out)}
    return tuple(
        _map(modality, plane, held_out, label, names)
        for label in chosen[: len(labels) or most] or [""]
        for modality, plane in planes.items()
    )


def _embedded(held_out: HeldOut) -> Iterator[tuple[str, Tensor]]:
    """What each modality's encoder gives: embeddings, or pooled features where it makes none."""
    features = held_out.features
    for modality in MODALITIES:
        x = features.embedding.get(modality, features.pooled.get(modality))
        if x is not None:
            yield modality, x


def flatten(x: Floats) -> Plane:
    """Vectors ``(n, D)`` on a plane, by t-SNE or, of very few, by their principal components.

    Raises:
        ValueError: there are fewer than three.
    """
    n = len(x)
    if n < 3:
        raise ValueError(f"a map needs three held-out clips or more, not {n}")
    if n < _FEWEST:
        components = PCA(n_components=2, random_state=0)
        place = components.fit_transform(x)
        share = 100 * float(components.explained_variance_ratio_.sum())
        how = f"the two directions of largest variance, {share:.0f} % of it"
        return Plane(place=place, how=f"{how}. {_kept_text(x, place)}")
    perplexity = min(_PERPLEXITY, (n - 1) / 3)
    place = TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(
        x.astype(np.float32)
    )
    how = f"t-SNE, perplexity {perplexity:.3g}; the axes have no meaning"
    return Plane(place=place.astype(np.float64), how=f"{how}. {_kept_text(x, place)}")


def _kept_text(x: Floats, place: Floats) -> str:
    near = min(NEAREST, len(x) - 2)
    chance = near / (len(x) - 1)
    return (
        f"Of a clip's {near} nearest in the embedding, {100 * kept(x, place, near):.0f} % are "
        f"among its {near} nearest here; at random {100 * chance:.0f} %."
    )


def kept(x: Floats, place: Floats, count: int) -> float:
    """Share of each point's ``count`` nearest that are among its nearest on the plane, too."""
    first, second = (_nearest(one.astype(np.float64), count) for one in (x, place))
    shared = (first[:, :, None] == second[:, None, :]).any(axis=2)
    return float(shared.mean())


def _nearest(x: Floats, count: int) -> NDArray[np.int64]:
    square = (x**2).sum(axis=1)
    distance = square[:, None] + square[None] - 2 * x @ x.T
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1, kind="stable")[:, :count]


def _map(
    modality: str, plane: Plane, held_out: HeldOut, label: str, names: Sequence[str]
) -> EmbeddingMap:
    row = held_out.features.row.numpy()
    by = f" by {label}" if label else ""
    kind = "embeddings" if modality in held_out.features.embedding else "features"
    words = held_out.instances.vocabulary[label] if label else ()
    codes = held_out.instances.labels[label][row] if label else np.zeros(len(row), np.int64)
    place, height = fitted(plane.place)
    return EmbeddingMap(
        title=f"{say(modality).capitalize()} {kind}{by}",
        caption=f"{len(row)} held-out clips: {plane.how}",
        label=label,
        height=height,
        classes=tuple(_classes(place, codes, dict(enumerate(words)), names)),
    )


def fitted(place: Floats) -> tuple[Floats, float]:
    """Places within the map's frame, both axes at the same scale, and the height that they need."""
    low, high = place.min(axis=0), place.max(axis=0)
    room = np.array([WIDTH - 2 * _MARGIN, HEIGHT - 2 * _MARGIN])
    scale = float((room / np.maximum(high - low, 1e-9)).min())
    height = max(_LOWEST, round(float((high - low)[1]) * scale + 2 * _MARGIN))
    moved: Floats = (place - (low + high) / 2) * scale + np.array([WIDTH / 2, height / 2])
    return moved, height


def _classes(
    place: Floats, codes: NDArray[np.integer], words: Mapping[int, str], names: Sequence[str]
) -> Iterator[MapClass]:
    """The most frequent categories, then all others together, then clips without the label."""

    def points(mask: NDArray[np.bool_], of: bool) -> tuple[Point, ...]:
        return tuple(
            Point(
                x=round(float(place[at, 0]), 1),
                y=round(float(place[at, 1]), 1),
                name=f"{names[at]}, {words[int(codes[at])]}" if of else names[at],
            )
            for at in np.flatnonzero(mask).tolist()
        )

    found, counts = np.unique(codes[codes >= 0], return_counts=True)
    order = found[np.argsort(-counts, kind="stable")]
    own = order if len(order) <= CLASSES else order[: CLASSES - 1]
    for look, code in enumerate(np.sort(own)):
        name = words.get(int(code), "clips")
        yield MapClass(name=name, look=look, points=points(codes == code, bool(words)))
    others = (codes >= 0) & ~np.isin(codes, own)
    if others.any():
        name = f"{len(order) - len(own)} others"
        yield MapClass(name=name, look=CLASSES - 1, points=points(others, True))
    if (codes < 0).any():
        yield MapClass(name="without the label", look=CLASSES, points=points(codes < 0, False))
