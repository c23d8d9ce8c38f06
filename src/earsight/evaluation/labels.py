"""Which label columns a classifier can be held against, and why not the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.split import names_splits
from earsight.evaluation.probe import hold_out_tenth

Labels = Mapping[str, NDArray[np.int64] | NDArray[np.uint8]]
"""Codes by label column, one per row; −1 where an instance has none (several: one column each)."""

_SPLITS = "it tells official splits, not what is in a clip"


@dataclass(frozen=True, kw_only=True)
class LabelChoice:
    """The label columns to classify by.

    Attributes:
        train: codes of the training split.
        held_out: codes of the held-out split.
        left_out: why a column is not among them, by its name.
    """

    train: Labels
    held_out: Labels
    left_out: Mapping[str, str]

    def __str__(self) -> str:
        """What was left out, in one line; empty if nothing was."""
        return "; ".join(f"label {name} left out: {why}" for name, why in self.left_out.items())


def choose_labels(
    train: Labels,
    held_out: Labels,
    wanted: Sequence[str],
    groups: NDArray[np.object_] | None = None,
) -> LabelChoice:
    """The columns named in ``wanted``; without names, those that both splits can be scored by.

    A column that names files, takes or sources tells nothing about encoders: its values differ
    between the splits, and a classifier of a thousand of them takes minutes. Nor does one that
    numbers official splits, or one of whose classes training lacks all but one when a tenth of its
    groups (``(N,)`` names; each row is its own unless given) is set aside.

    Raises:
        ValueError: a wanted column that the corpus lacks.
    """
    unknown = [name for name in wanted if name not in train]
    if unknown:
        raise ValueError(
            f"evaluation.labels: the corpus has no column {unknown[0]!r}; "
            f"it has {', '.join(train) or 'none'} (scan with --labels)"
        )
    reasons = {
        name: _SPLITS if names_splits(name) else _unfit(codes, held_out[name], groups)
        for name, codes in train.items()
    }
    left_out = {} if wanted else {name: why for name, why in reasons.items() if why}
    chosen = wanted or [name for name in train if name not in left_out]
    return LabelChoice(
        train={name: train[name] for name in chosen},
        held_out={name: held_out[name] for name in chosen},
        left_out=left_out,
    )


def _unfit(
    train: NDArray[np.integer],
    held_out: NDArray[np.integer],
    groups: NDArray[np.object_] | None,
) -> str:
    """Why no classifier of single labels can be scored by these codes; empty if one can."""
    if train.ndim > 1:
        return (
            "it holds several labels for one clip, which retrieval alone can use, if it is named "
            "in evaluation.labels"
        )
    known, asked = train[train >= 0], held_out[held_out >= 0]
    classes = np.unique(known)
    if len(classes) < 2:
        return "fewer than two of its classes are in the training split"
    if _left(train, groups) < 2:
        return "of all classes but one too few training clips (or groups) are there to learn from"
    seen = np.isin(asked, classes).mean() if len(asked) else 0.0
    if seen < 0.5:
        return f"the training split has only {100 * seen:.0f} % of what is held out"
    return ""


def _left(train: NDArray[np.integer], groups: NDArray[np.object_] | None) -> int:
    """Classes left to learn from: a seed only decides which rows of a class are set aside."""
    known = train >= 0
    own = np.flatnonzero(known) if groups is None else groups[known]
    if len(np.unique(own)) < 2:
        return 0
    held = hold_out_tenth(train[known].astype(np.int64), seed=0, groups=own)
    return len(np.unique(train[known][~held]))


def fit_in_all(choices: Mapping[int, LabelChoice]) -> dict[int, LabelChoice]:
    """The choices of several folds without the columns that any of them leaves out.

    A mean over some of the folds would not be comparable with the others.

    Args:
        choices: by the fold's number.
    """
    reasons: dict[str, dict[str, list[int]]] = {}
    for fold, choice in choices.items():
        for name, why in choice.left_out.items():
            reasons.setdefault(name, {}).setdefault(why, []).append(fold)
    left_out = {
        name: "; ".join(
            why if len(folds) == len(choices) else f"in fold {', '.join(map(str, folds))}, {why}"
            for why, folds in found.items()
        )
        for name, found in reasons.items()
    }
    return {
        fold: LabelChoice(
            train={name: x for name, x in choice.train.items() if name not in left_out},
            held_out={name: x for name, x in choice.held_out.items() if name not in left_out},
            left_out=left_out,
        )
        for fold, choice in choices.items()
    }


def unlabelled(sides: Mapping[str, Labels], where: str = "") -> list[str]:
    """What to tell of instances that lack a label, by column; nothing where all have one.

    Args:
        sides: what instances are called, such as ``held-out``, to their codes by column.
        where: to add to that, such as `` of fold 2``.
    """
    said = []
    for name in next(iter(sides.values())):
        without = {side: ~has_label(codes[name]) for side, codes in sides.items()}
        if any(missing.any() for missing in without.values()):
            counts = [
                f"{int(missing.sum())} of {len(missing)} {side}"
                for side, missing in without.items()
            ]
            said.append(
                f"label {name}: {' and '.join(counts)} instances{where} have none and are left out"
            )
    return said


def has_label(codes: NDArray[np.integer]) -> NDArray[np.bool_]:
    """``(N,)``: which instances have a label, or of several any."""
    return np.asarray(codes >= 0 if codes.ndim == 1 else codes.any(axis=1), np.bool_)


def name_some(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def class_counts(labels: Labels) -> dict[str, int]:
    """Label column to how many classes there are."""
    return {
        name: codes.shape[1] if codes.ndim > 1 else len(np.unique(codes[codes >= 0]))
        for name, codes in labels.items()
    }
