"""From features to rows: what a task computes, and in which spaces."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from earsight.encoders.blocks import FLAT
from earsight.evaluation.categories import Category, counts_of, judge
from earsight.evaluation.class_retrieval import retrieve_classes
from earsight.evaluation.features import Features
from earsight.evaluation.fits import Note
from earsight.evaluation.geometry import describe_geometry
from earsight.evaluation.knn import KnnScores, knn
from earsight.evaluation.labels import LabelChoice
from earsight.evaluation.logistic import Spectrum
from earsight.evaluation.probe import ProbeScores, describe_features, probe
from earsight.evaluation.retrieval import PooledScores, retrieve, retrieve_both_ways
from earsight.evaluation.rows import FLATTENED, POOLED, Row, make_rows
from earsight.evaluation.svm import SvmScores, svm

Space = tuple[str, str]
Spaces = frozenset[Space]


def retrieval_rows(
    features: Features, spaces: Spaces, baseline: Features | None = None
) -> list[Row]:
    """Retrieval in every direction that the method's spaces allow."""
    rows: list[Row] = []
    for query, gallery in sorted(spaces):
        scores = retrieve(features.embedding[query], features.embedding[gallery])
        before = (
            retrieve(baseline.embedding[query], baseline.embedding[gallery]) if baseline else None
        )
        rows += make_rows(
            scores, task="retrieve", modality=_direction(query, gallery), baseline=before
        )
    return rows


def pairing_rows(features: Features, spaces: Spaces, baseline: Features | None = None) -> list[Row]:
    """Per pair of modalities that are compared both ways, both directions held against chance."""
    rows: list[Row] = []
    for forth, back in _both_ways(spaces):
        scores = _paired(features, forth, back)
        if scores is None:
            continue
        before = _paired(baseline, forth, back) if baseline else None
        rows += make_rows(scores, task="retrieve", modality="both", baseline=before)
    return rows


def _both_ways(spaces: Spaces) -> Iterator[tuple[Space, Space]]:
    """Directions with their way back: from the one's gallery's modality to its query's."""
    by_modality = {
        (_modality(query), _modality(gallery)): (query, gallery) for query, gallery in spaces
    }
    for (first, second), forth in sorted(by_modality.items()):
        if first < second and (second, first) in by_modality:
            yield forth, by_modality[second, first]


def _direction(query: str, gallery: str) -> str:
    """From the query's modality to the gallery's, whichever encoders embed them."""
    return f"{_modality(query)}-{_modality(gallery)}"


def _modality(name: str) -> str:
    return name.removesuffix("_key")


def _paired(features: Features, forth: Space, back: Space) -> PooledScores | None:
    (query, gallery), (query_back, gallery_back) = (
        tuple(features.embedding[name] for name in space) for space in (forth, back)
    )
    return retrieve_both_ways(query, gallery, (query_back, gallery_back))


def geometry_rows(
    features: Features, spaces: Spaces, baseline: Features | None = None
) -> list[Row]:
    """Alignment and uniformity within the method's spaces, effective rank per modality."""
    # Alignment is symmetric: one direction of each pair.
    pairs = sorted({(max(pair), min(pair)) for pair in spaces})
    scores = describe_geometry(features.embedding, features.pooled, pairs)
    before = (
        describe_geometry(baseline.embedding, baseline.pooled, pairs)
        if baseline is not None
        else {}
    )
    rows: list[Row] = []
    for name, score in scores.items():
        rows += make_rows(score, task="geometry", modality=name, baseline=before.get(name))
    return rows


def class_retrieval_rows(
    splits: tuple[Features, Features],
    spaces: Spaces,
    labels: LabelChoice,
    *,
    seed: int,
    baseline: tuple[Features, Features] | None = None,
) -> list[Row]:
    """Retrieval of training clips of the same class by held-out ones, of every label column.

    Within a modality by pooled features, across by the embeddings that the method compares.

    Args:
        splits: features of the training split, the gallery, and of the held-out split.
        spaces: of the method.
        labels: the columns, with codes of the two splits' rows.
        seed: of the order of equal similarities.
        baseline: the same two splits' features at the random initialisation.
    """
    gallery, query = splits
    asked: list[tuple[str, Callable[[Features], torch.Tensor], Callable[[Features], torch.Tensor]]]
    asked = [(f"{name}-{name}", _pooled(name), _pooled(name)) for name in gallery.pooled]
    asked += [(_direction(q, g), _embedded(q), _embedded(g)) for q, g in sorted(spaces)]
    rows: list[Row] = []
    for direction, of_query, of_gallery in asked:
        for name in labels.train:
            known = torch.from_numpy(labels.train[name])
            wanted = torch.from_numpy(labels.held_out[name])
            scores, *before = (
                retrieve_classes(
                    of_query(queries),
                    of_gallery(items),
                    wanted[queries.row],
                    known[items.row],
                    seed=seed,
                )
                for items, queries in [(gallery, query), *([baseline] if baseline else [])]
            )
            rows += make_rows(
                scores,
                task="retrieve",
                modality=direction,
                label=name,
                baseline=before[0] if before else None,
            )
    return rows


def _pooled(name: str) -> Callable[[Features], torch.Tensor]:
    return lambda features: features.pooled[name]


def _embedded(name: str) -> Callable[[Features], torch.Tensor]:
    return lambda features: features.embedding[name]


def classification_rows(
    task: str,
    splits: tuple[Features, Features],
    labels: LabelChoice,
    *,
    blocks: Sequence[str | int],
    groups: NDArray[np.object_],
    seed: int,
    device: torch.device,
    baseline: tuple[Features, Features] | None = None,
    note: Note | None = None,
    words: Mapping[str, Sequence[str]] | None = None,
    categories: list[Category] | None = None,
) -> list[Row]:
    """A classifier of every label column, modality and block.

    Args:
        task: ``knn``, ``probe`` (logistic regression) or ``svm``.
        splits: features of the training and of the held-out split; for ``svm`` of single clips.
        labels: the columns, with codes of the two splits' rows.
        blocks: ``pooled``, ``flat`` and numbers of blocks; those that a modality lacks give no row.
        groups: of the training split's rows: none stands on both sides when C is chosen.
        seed: decides the tenth of the training split on which the probe's C is chosen.
        device: where classifiers are fitted.
        baseline: the same two splits' features at the random initialisation.
        note: told of the scores of every classifier.
        words: texts of the codes of every label column; needed for ``categories``.
        categories: where the accuracy of single categories is added, of whole encoders' features.
    """
    rows: list[Row] = []
    fitted, tested = splits
    sides = [splits, *([baseline] if baseline else [])]
    for modality, block in _described(fitted, blocks):
        pairs = [[_taken(one, modality, block).to(device) for one in side] for side in sides]
        shared = [describe_features(x) if task == "probe" else None for x, _ in pairs]
        for name in labels.train:
            known = torch.from_numpy(labels.train[name])[fitted.row]
            asked = torch.from_numpy(labels.held_out[name])[tested.row]
            classify = _classifier(task, name, known, asked, groups[fitted.row.numpy()], seed)
            scores = [classify(x, z, one) for (x, z), one in zip(pairs, shared, strict=True)]
            if note is not None:
                for at, one in enumerate(scores):
                    note(one, modality=modality, label=name, block=block, baseline=at > 0)
            of = {"task": task, "modality": modality, "label": name, "block": block}
            rows += make_rows(scores[0], **of, baseline=scores[1] if baseline else None)
            if categories is not None and words is not None and not block.isdigit():
                categories += judge(scores, counts_of(asked), words[name], **of)
    return rows


def _described(features: Features, blocks: Sequence[str | int]) -> Iterator[tuple[str, str]]:
    """Modality and block of everything wanted that is there."""
    for modality in features.pooled:
        for block in blocks:
            number = FLAT if block == FLATTENED else block
            if block == POOLED or number in features.blocks.get(modality, {}):
                yield modality, str(block)


def _taken(features: Features, modality: str, block: str) -> torch.Tensor:
    if block == POOLED:
        return features.pooled[modality]
    if block == FLATTENED:
        # Of single clips there are many: they stay as small as they are kept.
        return features.blocks[modality][FLAT]
    return features.blocks[modality][int(block)].float()


def _classifier(
    task: str,
    label: str,
    fitted: torch.Tensor,
    tested: torch.Tensor,
    groups: NDArray[np.object_],
    seed: int,
) -> Callable[[torch.Tensor, torch.Tensor, Spectrum | None], KnnScores | ProbeScores | SvmScores]:
    """A function of both splits' features; instances without the label are left out."""
    if fitted.ndim > 1:
        raise ValueError(
            "a label column holds several labels for one clip, which these classifiers cannot use; "
            "name others in evaluation.labels"
        )
    known, asked = fitted >= 0, tested >= 0
    if not bool(asked.any()):
        raise ValueError(
            f"no held-out instance has a label {label!r}; name others in evaluation.labels"
        )

    def classify(
        x: torch.Tensor, z: torch.Tensor, spectrum: Spectrum | None
    ) -> KnnScores | ProbeScores | SvmScores:
        sides = (x[known], fitted[known], z[asked], tested[asked])
        if task == "knn":
            return knn(*sides)
        own = groups[known.numpy()]
        try:
            if task == "svm":
                return svm(*sides, seed=seed, groups=own)
            return probe(*sides, seed=seed, groups=own, spectrum=spectrum)
        except ValueError as error:
            raise ValueError(f"label {label!r}: {error}") from error

    return classify
