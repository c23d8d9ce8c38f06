"""What each evaluation measures: from a run's encoders to rows (methods.md §8).

A task is a function of an evaluator and of encoders: those of the run and, if it is measured, the
random initialisation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from earsight.corpus.instances import Instances
from earsight.encoders.blocks import FLAT, has_blocks
from earsight.evaluation.categories import judge
from earsight.evaluation.class_retrieval import unmatched
from earsight.evaluation.classify import classify
from earsight.evaluation.features import Encoder, Features, Wanted
from earsight.evaluation.fits import note_fit
from earsight.evaluation.labels import LabelChoice, name_some
from earsight.evaluation.protocol import Evaluator
from earsight.evaluation.rows import FLATTENED, POOLED, Row, make_rows
from earsight.evaluation.scoring import (
    class_retrieval_rows,
    classification_rows,
    geometry_rows,
    pairing_rows,
    retrieval_rows,
)
from earsight.training.targets import Target, class_codes, label_codes, target_of

Measure = Callable[[Evaluator, Sequence[Encoder]], list[Row]]

GALLERY = ("retrieve", "pairing", "geometry")
"""Tasks that look at one embedding of the fixed gallery of held-out clips."""


def evaluate_tasks(
    evaluator: Evaluator, tasks: Sequence[str], encoders: Sequence[Encoder]
) -> list[Row]:
    """Rows of the tasks for the first encoder, beside the second (a baseline) if given.

    A task that these encoders or labels do not allow has no rows.

    Args:
        evaluator: of the run.
        tasks: names in ``GALLERY`` and ``TASKS``.
        encoders: to be measured.

    Raises:
        ValueError: nothing is held out, or a task cannot use what there is.
    """
    if not len(evaluator.data.held_out):
        raise ValueError(
            "no instance is held out; raise data.holdout, or name a test split in the labels"
        )
    rows = _in_gallery(evaluator, [task for task in tasks if task in GALLERY], encoders)
    others = [task for task in tasks if task not in GALLERY]
    return rows + [row for task in others for row in TASKS[task](evaluator, encoders)]


def _in_gallery(
    evaluator: Evaluator, tasks: Sequence[str], encoders: Sequence[Encoder]
) -> list[Row]:
    """Retrieval of pairs, and the embedding's geometry, in a fixed gallery."""
    if not tasks or evaluator.task != "audio-visual":
        return []
    spaces = encoders[0].method.spaces
    if not spaces and "pairing" in tasks:
        evaluator.tell_of(
            "pictures and sounds are not compared: this method trains no space in which they can be"
        )
    features = evaluator.gallery_features(encoders)
    before = features[1] if len(features) > 1 else None
    measures = {"retrieve": retrieval_rows, "pairing": pairing_rows, "geometry": geometry_rows}
    return [row for task in tasks for row in measures[task](features[0], spaces, before)]


def classes(evaluator: Evaluator, encoders: Sequence[Encoder]) -> list[Row]:
    """Retrieval of training clips of the same class by held-out ones."""
    if not evaluator.labels.train:
        return []
    wanted = Wanted(clips=evaluator.config.evaluation.clips)
    splits = evaluator.split_features(encoders, wanted, wanted)
    return class_retrieval_rows(
        splits[0],
        encoders[0].method.spaces if evaluator.task == "audio-visual" else frozenset(),
        _matched(evaluator, *splits[0]),
        seed=evaluator.config.seed,
        baseline=splits[1] if len(splits) > 1 else None,
    )


def _matched(evaluator: Evaluator, gallery: Features, queries: Features) -> LabelChoice:
    """The label columns with something to find; tells of queries whose classes are not there."""
    vocabulary, fold = evaluator.data.held_out.vocabulary, evaluator.config.data.fold
    where = f" of fold {fold}" if fold else ""
    kept = []
    for name, codes in evaluator.labels.held_out.items():
        known = evaluator.labels.train[name][gallery.row.numpy()]
        lost, classes, found = unmatched(codes[queries.row.numpy()], known)
        kept += [name] if found else []
        if lost:
            named = name_some([vocabulary[name][code] for code in classes])
            evaluator.tell_of(
                f"label {name}: {lost} held-out instances{where} are left out of "
                f"retrieval, as no training instance has their class ({named})"
                + ("" if found else ", and with them the label: nothing is left to find")
            )
    return replace(
        evaluator.labels,
        train={name: evaluator.labels.train[name] for name in kept},
        held_out={name: evaluator.labels.held_out[name] for name in kept},
    )


def knn(evaluator: Evaluator, encoders: Sequence[Encoder]) -> list[Row]:
    """Classes of the nearest neighbours, by pooled features."""
    return _classified(evaluator, "knn", encoders, (POOLED,))


def probe(evaluator: Evaluator, encoders: Sequence[Encoder]) -> list[Row]:
    """Logistic regression on pooled features and on blocks."""
    return _classified(evaluator, "probe", encoders, evaluator.blocks)


def svm(evaluator: Evaluator, encoders: Sequence[Encoder]) -> list[Row]:
    """One-vs-all linear SVMs on features of single clips."""
    layer = evaluator.config.evaluation.svm_layer
    return _classified(evaluator, "svm", encoders, (layer,))


def classifier(evaluator: Evaluator, encoders: Sequence[Encoder]) -> list[Row]:
    """The classifier that a supervised run has learned, on the held-out clips."""
    target, held_out = target_of(evaluator.config), evaluator.data.held_out
    if target is None:
        return []
    codes = class_codes(held_out, target)
    rows = np.flatnonzero(codes >= 0).astype(np.int64)
    strange = _strange(held_out, target)
    if not len(rows):
        raise ValueError(
            f"no held-out instance has a {target.label} that the classifier knows: it has learned "
            f"{name_some(target.classes)}, and they have {strange or 'none'}; evaluate on a corpus "
            "with the labels that it was trained on, or by knn, probe or svm, which learn its own"
        )
    if len(rows) < len(held_out):
        evaluator.tell_of(
            f"{len(held_out) - len(rows)} held-out instances left out: without a "
            f"{target.label} that the classifier knows"
            + (f" (it has not learned {strange})" if strange else "")
        )
    blocks: Sequence[str | int] = evaluator.config.method.blocks
    scores = classify(
        encoders[0].model,
        target.modality,
        evaluator.inputs,
        evaluator.batches(held_out, rows, evaluator.config.evaluation.clips),
        torch.from_numpy(codes),
        evaluator.device,
        heads=max(1, len(blocks)),
    )
    evaluator.tell_failures(scores[0].failures)
    if evaluator.categories is not None and not blocks:
        evaluator.categories.extend(
            judge(
                scores[:1],
                scores[0].counts,
                target.classes,
                task="classify",
                modality=target.modality,
                label=target.label,
                block=None,
            )
        )
    return [
        row
        for one, block in zip(scores, blocks or (None,), strict=True)
        for row in make_rows(
            one,
            task="classify",
            modality=target.modality,
            label=target.label,
            block=None if block is None else str(block),
        )
    ]


def _strange(held_out: Instances, target: Target) -> str:
    """The first classes of the instances that are none of the target's."""
    codes, names = label_codes(held_out, target.label), held_out.vocabulary[target.label]
    there = [names[code] for code in np.unique(codes[codes >= 0])]
    return name_some([name for name in there if name not in target.classes])


TASKS: Mapping[str, Measure] = {
    "classes": classes,
    "knn": knn,
    "probe": probe,
    "svm": svm,
    "classify": classifier,
}


def _classified(
    evaluator: Evaluator, task: str, encoders: Sequence[Encoder], taken: Sequence[str | int]
) -> list[Row]:
    if not evaluator.labels.train:
        return []
    settings = evaluator.config.evaluation
    wanted = Wanted(
        clips=settings.clips, blocks=_numbered(evaluator, encoders[0], taken), mean=task != "svm"
    )
    fitted = replace(wanted, clips=settings.svm_clips) if task == "svm" else wanted
    splits = evaluator.split_features(encoders, fitted, wanted)
    return classification_rows(
        task,
        splits[0],
        evaluator.labels,
        blocks=taken,
        groups=evaluator.data.train.group,
        seed=evaluator.config.seed,
        device=evaluator.device,
        baseline=splits[1] if len(splits) > 1 else None,
        note=partial(
            note_fit,
            evaluator.fits,
            task=task,
            seed=evaluator.config.seed,
            fold=evaluator.config.data.fold,
        ),
        words=evaluator.data.held_out.vocabulary,
        categories=evaluator.categories,
    )


def _numbered(
    evaluator: Evaluator, encoder: Encoder, taken: Sequence[str | int]
) -> tuple[int, ...]:
    """The blocks to take activations of; says which encoders have none."""
    wanted = tuple(FLAT if one == FLATTENED else int(one) for one in taken if one != POOLED)
    encoders = {n: x for n, x in encoder.model.encoders.items() if n in evaluator.modalities}
    without = [name for name, module in encoders.items() if not has_blocks(module)]
    if POOLED not in taken and len(without) == len(encoders):
        raise ValueError(
            f"the encoder of {' and '.join(without)} gives out no blocks (it has no "
            "forward_features); take pooled features, by evaluation.blocks=[pooled], or of an SVM "
            "by evaluation.svm_layer=pooled"
        )
    if wanted and without:
        evaluator.tell_of(
            f"the encoder of {' and '.join(without)} gives out no blocks (it has no "
            "forward_features), so that only its pooled features can be classified"
        )
    return wanted
