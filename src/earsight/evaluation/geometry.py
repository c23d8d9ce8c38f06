"""The shape of an embedding: alignment, uniformity and effective rank."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from earsight.evaluation.checks import check_features, check_unit, check_width, chunk_rows
from earsight.evaluation.rows import Metric


def alignment(left: Tensor, right: Tensor, alpha: float = 2.0) -> float:
    """``E ‖x − y‖^α`` over pairs of unit vectors (Wang and Isola, 2020); 0 where pairs coincide.

    Args:
        left: ``(N, D)`` embeddings, scaled to unit length here.
        right: ``(N, D)``; row ``i`` belongs to row ``i`` of ``left``.
        alpha: the exponent.

    Raises:
        ValueError: sizes that differ, or embeddings that are not finite.
    """
    left, right = check_unit("embeddings", left), check_unit("embeddings", right)
    check_width(left, right, "the embeddings")
    if len(left) != len(right):
        raise ValueError(f"{len(left)} and {len(right)} embeddings do not pair up")
    distance = (left.double() - right.double()).norm(dim=1)
    return float((distance**alpha).mean())


def uniformity(embeddings: Tensor, t: float = 2.0) -> float:
    """``log E exp(−t ‖x − y‖²)`` over distinct pairs (Wang and Isola, 2020).

    0 for a constant embedding, towards −2t as the vectors spread evenly in many dimensions.

    Args:
        embeddings: ``(N, D)``, ``N ≥ 2``, scaled to unit length here.
        t: the scale.

    Raises:
        ValueError: fewer than two embeddings, or embeddings that are not finite.
    """
    unit = check_unit("embeddings", embeddings, least=2)
    count, rows, total = len(unit), chunk_rows(len(unit)), 0.0
    for start in range(0, count, rows):
        cosine = (unit[start : start + rows] @ unit.T).clamp(-1, 1)
        # A vector is no pair with itself.
        cosine.diagonal(start).fill_(-math.inf)
        total += float(torch.exp(-2 * t * (1 - cosine)).sum(dtype=torch.float64))
    return math.log(total / (count * (count - 1)))


def effective_rank(features: Tensor, *, centred: bool = False) -> float:
    """``exp H(σ / Σσ)``, σ the singular values of the features (Roy and Vetterli, 2007).

    Args:
        features: ``(N, D)``, as they are: neither scaled nor, by default, centred.
        centred: subtract the mean feature first. Uncentred, the large common part of features
            behind a ReLU counts as one strong direction and lowers the rank.

    Returns:
        Between 1 and ``min(N, D)``; 0 where nothing but zeros (to rounding) is left.

    Raises:
        ValueError: no features, or features that are not finite.
    """
    wide = check_features("features", features).double()
    scale = float(wide.norm())
    if centred:
        wide = wide - wide.mean(dim=0)
    sigma = torch.linalg.svdvals(wide)
    total = float(sigma.sum())
    if total <= 1e-6 * scale or total == 0:
        return 0.0
    return math.exp(float(torch.special.entr(sigma / total).sum()))


@dataclass(frozen=True, kw_only=True)
class GeometryScores:
    """The shape of the embeddings of ``n`` clips.

    Attributes:
        n: clips.
        values: ``alignment``, ``uniformity`` or ``effective_rank``, as far as they apply.
    """

    n: int
    values: Mapping[str, float]

    def metrics(self) -> dict[str, Metric]:
        """The values by name; chance means nothing here."""
        return {name: Metric(value=value) for name, value in self.values.items()}

    def as_dict(self) -> dict[str, float]:
        """Flat numbers."""
        return {**self.values, "n": self.n}


def describe_geometry(
    embeddings: Mapping[str, Tensor],
    features: Mapping[str, Tensor],
    pairs: Iterable[tuple[str, str]],
) -> dict[str, GeometryScores]:
    """Alignment of each pair, uniformity of each embedding, effective rank of each feature.

    Args:
        embeddings: modality to ``(N, D)``, after the head, in the method's spaces.
        features: modality to ``(N, F)``, the encoder's pooled output before any head.
        pairs: modalities whose embeddings may be compared, such as ``("video", "audio")``.

    Returns:
        Scores by modality (``video``) and by pair (``video-audio``).

    Raises:
        ValueError: sizes that do not fit, or values that are not finite.
    """
    scores = {
        f"{left}-{right}": GeometryScores(
            n=len(embeddings[left]),
            values={"alignment": alignment(embeddings[left], embeddings[right])},
        )
        for left, right in pairs
    }
    for name in [*embeddings, *(name for name in features if name not in embeddings)]:
        values: dict[str, float] = {}
        if name in embeddings:
            values["uniformity"] = uniformity(embeddings[name])
        if name in features:
            values["effective_rank"] = effective_rank(features[name])
        count = len(embeddings[name] if name in embeddings else features[name])
        scores[name] = GeometryScores(n=count, values=values)
    return scores
