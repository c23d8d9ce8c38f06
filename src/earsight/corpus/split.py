"""Which instances a task can use, and which are held out: always whole groups."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from earsight.corpus.manifest import SPLIT, Corpus
from earsight.corpus.status import NO_AUDIO, OK, first_fault
from earsight.random import uniform

Bools = NDArray[np.bool_]
Task = Literal["audio-visual", "video", "audio"]

DUPLICATE = "duplicate"

FOLD = "fold"
"""The label column that numbers the folds of a cross-validation."""

_NUMBERED = re.compile(rf"{SPLIT}([1-9]\d*)")
_TRAIN = "train"
_HELD_OUT = (("val", "valid", "validation"), ("test",))
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Usable:
    """What a task can use.

    Attributes:
        mask: ``(R,)`` bool.
        left_out: reason → instances; the reasons are statuses, and ``duplicate``.
    """

    mask: Bools
    left_out: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Training and held-out instances; no group is in both where the split is made here.

    Attributes:
        train: ``(R,)`` bool.
        held_out: ``(R,)`` bool.
        source: how it was made, in words.
        unused: instances in neither.
    """

    train: Bools
    held_out: Bools
    source: str
    unused: int


def usable(
    corpus: Corpus,
    *,
    audio_missing: Literal["skip", "silence", "error"] = "skip",
    keep_duplicates: bool = False,
    task: Task = "audio-visual",
) -> Usable:
    """The instances that a task can use.

    ``audio-visual`` takes those that are ``ok``, and with ``silence`` those with pictures alone;
    ``video`` and ``audio`` ask nothing of the other modality. Every modality that is used must
    last as long as the scan's minimum duration.

    Raises:
        ValueError: ``audio_missing`` is ``error`` and instances lack sound; names the first.
    """
    content, least = corpus.content(), corpus.settings.min_duration
    fault = first_fault(content, least, picture=task != "audio", sound=task != "video")
    silent = fault == NO_AUDIO
    if audio_missing == "error" and silent.any():
        raise ValueError(_without_sound(corpus, silent))
    if audio_missing == "silence" and task == "audio-visual":
        fault = np.where(silent, first_fault(content, least, sound=False), fault)
    if not keep_duplicates:
        fault = np.where((fault == OK) & corpus.is_duplicate(), DUPLICATE, fault)
    mask = np.asarray(fault == OK, np.bool_)
    return Usable(mask=mask, left_out=dict(Counter(fault[~mask].tolist())))


def _without_sound(corpus: Corpus, silent: Bools) -> str:
    paths = list(dict.fromkeys(corpus.column("path")[silent]))
    named = ", ".join(paths[:_NAMED]) + (", …" if len(paths) > _NAMED else "")
    return (
        f"{int(silent.sum())} instances have no sound: {named}; set data.audio_missing to skip or "
        "silence, or remove the files and scan again"
    )


def unknown_splits(corpus: Corpus) -> dict[str, int]:
    """Names of splits that neither train nor are ever held out, with how many instances each."""
    if not corpus.has_splits:
        return {}
    known = {_TRAIN, *(name for kind in _HELD_OUT for name in kind)}
    counts = Counter(name for name in corpus.column(SPLIT).tolist() if name)
    return {name: count for name, count in counts.items() if name.lower() not in known}


def split_by_group(groups: NDArray[np.object_], holdout: float, seed: int) -> Bools:
    """Hold out whole groups, each with probability ``holdout``.

    A group's fate depends on its name and the seed alone, so that it stays when others come and
    go. Where chance leaves a side empty, the group nearest to it goes there; with a ``holdout`` of
    0 or 1, or a single group, all go to one side.

    Args:
        groups: ``(R,)`` names.
        holdout: share of the groups, from 0 to 1.
        seed: of the draw.

    Returns:
        ``(R,)`` bool, true where held out.
    """
    if not len(groups):
        return np.zeros(0, bool)
    encoded = pa.array(groups.tolist(), pa.large_string()).dictionary_encode()
    names = encoded.dictionary.to_pylist()
    code = [int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big") for name in names]
    draw = uniform(seed, "split", np.array(code, np.uint64))
    out = draw < holdout
    if len(names) > 1 and 0 < holdout < 1:
        out[np.argmin(draw)] = True
        if out.all():
            out[np.argmax(draw)] = False
    return np.asarray(out[encoded.indices.to_numpy()], np.bool_)


def names_splits(label: str) -> bool:
    """Whether a label column tells official splits, and not what is in a clip."""
    return label == FOLD or _NUMBERED.fullmatch(label) is not None


def folds_of(corpus: Corpus) -> tuple[int, ...]:
    """The official splits that a corpus numbers, in order; none where it numbers none.

    They are the values of the label column ``fold``, if these are numbers from 1; else the columns
    ``split1``, ``split2``, ….
    """
    if FOLD not in corpus.label_names:
        columns = [_NUMBERED.fullmatch(name) for name in corpus.label_names]
        return tuple(sorted(int(column[1]) for column in columns if column))
    values = {text for text in corpus.labels(FOLD) if text}
    numbered = all(text.isdecimal() and int(text) > 0 for text in values)
    return tuple(sorted({int(text) for text in values})) if numbered else ()


def assign(
    corpus: Corpus, holdout: float, seed: int, mask: Bools | None = None, fold: int = 0
) -> Split:
    """Training and held-out instances.

    Where the labels name splits, ``train`` trains, and ``val`` (``valid``, ``validation``) is held
    out, or ``test`` where there is no validation split. Instances that no line of the labels puts
    in a split train too, unless something of their group is held out. Where only ``train`` is
    named, or nothing, groups are drawn by :func:`split_by_group`.

    With ``fold``, an official split decides instead: held out are the instances whose label
    ``fold`` is that number, and those with another train; or else the label column ``split<fold>``
    names what trains and what is held out, and instances without a value are in neither.

    Args:
        corpus: all instances.
        holdout: share of the groups, for the draw.
        seed: of the draw.
        mask: ``(R,)`` the instances that are used; all where None.
        fold: which official split, as :func:`folds_of` numbers them; 0 for none.

    Raises:
        ValueError: the splits' names are unknown, there is no such fold, or nothing is left to
            train on.
    """
    mask = np.ones(len(corpus), bool) if mask is None else mask
    if fold:
        return _official(corpus, mask, fold)
    group = corpus.column("group").astype(object)
    if not corpus.has_splits:
        return _drawn(group, mask, mask, holdout, seed, "groups drawn at random")
    names = np.array([(name or "").lower() for name in corpus.column(SPLIT)], dtype=object)
    given = set(names[mask].tolist())
    held = next((kind for kind in _HELD_OUT if given & set(kind)), ())
    if not given & {_TRAIN, "", *held}:
        raise ValueError(
            f"no instance is in a split named {_TRAIN!r}; the labels name "
            f"{', '.join(sorted(map(str, given)))}: rename one of them"
        )
    held_out = mask & np.isin(names, list(held))
    free = mask & (names == "") & ~np.isin(group, np.unique(group[held_out]))
    train = (mask & (names == _TRAIN)) | free
    if not train.any():
        raise ValueError("nothing is left to train on: every instance is held out by its split")
    if not held_out.any():
        return _drawn(group, train, mask, holdout, seed, "groups drawn from the training split")
    named = "/".join(sorted(given & set(held)))
    unused = int((mask & ~train & ~held_out).sum())
    return Split(train=train, held_out=held_out, source=f"the labels: {named}", unused=unused)


def in_folds(corpus: Corpus, mask: Bools | None = None) -> Bools:
    """The instances that any of the official splits trains on or holds out: ``(R,)`` bool."""
    mask = np.ones(len(corpus), bool) if mask is None else mask
    used = np.zeros(len(corpus), bool)
    for fold in folds_of(corpus):
        train, held_out = _sides(corpus, mask, fold)
        used |= train | held_out
    return used


def _official(corpus: Corpus, mask: Bools, fold: int) -> Split:
    folds = folds_of(corpus)
    if fold not in folds:
        there = f"it has {', '.join(map(str, folds))}" if folds else _no_folds(corpus)
        raise ValueError(f"the corpus has no official split {fold}; {there}")
    train, held_out = _sides(corpus, mask, fold)
    kind = FOLD if FOLD in corpus.label_names else "official split"
    source = f"{kind} {fold} of {len(folds)}"
    if not train.any() or not held_out.any():
        empty = "held out" if train.any() else "left to train on"
        raise ValueError(f"{source}: no clip that can be used is {empty}; choose another, or 0")
    unused = int((mask & ~train & ~held_out).sum())
    return Split(train=train, held_out=held_out, source=source, unused=unused)


def _sides(corpus: Corpus, mask: Bools, fold: int) -> tuple[Bools, Bools]:
    """What an official split trains on and what it holds out."""
    if FOLD in corpus.label_names:
        number = np.array([int(text or 0) for text in corpus.labels(FOLD)], np.int64)
        return mask & (number > 0) & (number != fold), mask & (number == fold)
    names = np.array([(name or "").lower() for name in corpus.labels(f"{SPLIT}{fold}")], object)
    others = [name for kind in _HELD_OUT for name in kind]
    return mask & (names == _TRAIN), mask & np.isin(names, others)


def _no_folds(corpus: Corpus) -> str:
    known = ", ".join(corpus.label_names) or "none"
    return (
        f"that takes a label column {FOLD!r} with numbers from 1, or columns 'split1', 'split2', "
        f"…, and its label columns are: {known} (data.fold=0 is the split of the labels)"
    )


def _drawn(
    group: NDArray[np.object_], pool: Bools, mask: Bools, holdout: float, seed: int, source: str
) -> Split:
    held_out = np.zeros(len(group), bool)
    held_out[pool] = split_by_group(group[pool], holdout, seed)
    unused = int((mask & ~pool).sum())
    return Split(train=pool & ~held_out, held_out=held_out, source=source, unused=unused)
