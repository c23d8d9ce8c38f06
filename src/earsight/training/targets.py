"""The classes that a method learns: its label column, and which instances have one of them.

A method that learns from labels has three settings of these names: ``label``, the column;
``modality``, the one it classifies; and ``classes``, the names of the classes in the order of the
classifier's outputs, which are filled in when a run starts.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from earsight import random
from earsight.config import RunConfig
from earsight.corpus.instances import Instances

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is classified.

    Attributes:
        label: the column.
        modality: ``video`` or ``audio``.
        classes: their names, in the order of the outputs; empty before the run has started.
    """

    label: str
    modality: str
    classes: tuple[str, ...]


def target_of(config: RunConfig) -> Target | None:
    """What the run's method classifies, None where it uses no labels."""
    method = config.method
    if not hasattr(method, "label"):
        return None
    return Target(label=method.label, modality=method.modality, classes=method.classes)


def label_codes(chosen: Instances, label: str) -> Ints:
    """``(N,)`` codes of single labels, -1 where there is none.

    Raises:
        ValueError: the corpus has no such column, or one with several labels for one clip.
    """
    if label not in chosen.labels:
        raise ValueError(
            f"method.label: the corpus has no column {label!r}; it has "
            f"{', '.join(chosen.labels) or 'none'} (scan with --labels)"
        )
    codes = chosen.labels[label]
    if codes.ndim > 1:
        raise ValueError(
            f"method.label: column {label!r} holds several labels for one clip; name one with a "
            "single label each"
        )
    return codes.astype(np.int64)


def class_codes(chosen: Instances, target: Target) -> Ints:
    """``(N,)`` places among the target's classes, -1 for no label or another."""
    codes = label_codes(chosen, target.label)
    place = {name: number for number, name in enumerate(target.classes)}
    vocabulary = chosen.vocabulary[target.label]
    places = np.array([*(place.get(name, -1) for name in vocabulary), -1], np.int64)
    return places[codes]


def with_classes(config: RunConfig, train: Instances) -> RunConfig:
    """The configuration with the classes of its method's labels, those of the training split.

    Raises:
        ValueError: the labels cannot be used, or name fewer than two classes.
    """
    target = target_of(config)
    if target is None or target.classes:
        return config
    codes = label_codes(train, target.label)
    classes = tuple(train.vocabulary[target.label][code] for code in np.unique(codes[codes >= 0]))
    if len(classes) < 2:
        raise ValueError(
            f"method.label: the training split has {len(classes)} classes of {target.label!r}; "
            "a classifier needs two"
        )
    return replace(config, method=replace(config.method, classes=classes))


def labelled(train: Instances, target: Target) -> tuple[Instances, int]:
    """The instances with a class of the target (any label where none are named), and how many not.

    Raises:
        ValueError: none has one.
    """
    codes = class_codes(train, target) if target.classes else label_codes(train, target.label)
    known = np.flatnonzero(codes >= 0).astype(np.int64)
    if not len(known):
        raise ValueError(f"method.label: no training instance has a {target.label!r} to learn")
    return train.take(known), len(train) - len(known)


def take_share(train: Instances, label: str | None, share: float, seed: int) -> Instances:
    """A share of the instances of each class, at least one, in their order.

    The order in which instances are taken depends on their keys and the seed alone, so that a
    smaller share lies within a larger one.

    Args:
        train: the instances.
        label: the column that names the classes; None takes all for one class.
        share: from 0, excluded, to 1.
        seed: of the order.
    """
    classes = np.zeros(len(train), np.int64) if label is None else label_codes(train, label)
    place = random.uniform(seed, "share", train.key)
    kept = []
    for code in np.unique(classes):
        own = np.flatnonzero(classes == code)
        count = max(1, round(share * len(own)))
        kept.append(own[np.argsort(place[own], kind="stable")[:count]])
    return train.take(np.sort(np.concatenate(kept)).astype(np.int64))
