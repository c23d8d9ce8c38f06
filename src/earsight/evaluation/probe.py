"""The linear probe: what a linear classifier reads off frozen features."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from earsight import random
from earsight.evaluation.checks import check_features, check_labels, check_width
from earsight.evaluation.classification import score_classes
from earsight.evaluation.logistic import Fit, Spectrum, fit_path
from earsight.evaluation.rows import Metric

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Values of C, scikit-learn's inverse strength of regularisation, that are tried."""

Int = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ProbeScores:
    """Accuracy of a linear probe.

    Attributes:
        n: test samples.
        accuracy: share of them answered correctly.
        per_class: the same for each class of the test split.
        chance: share of the test split's most frequent class.
        C: the chosen inverse strength of regularisation.
        validation: accuracy with that C on the tenth of the training split it was chosen on.
        converged: whether every fit reached its optimum.
        train: training samples.
    """

    n: int
    accuracy: float
    per_class: Mapping[int, float]
    chance: float
    C: float
    validation: float
    converged: bool
    train: int

    def metrics(self) -> dict[str, Metric]:
        """``accuracy``."""
        return {"accuracy": Metric(value=self.accuracy, chance=self.chance)}

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def probe(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    *,
    seed: int,
    groups: ArrayLike | None = None,
    strengths: Sequence[float] = STRENGTHS,
    spectrum: Spectrum | None = None,
) -> ProbeScores:
    """Fit a linear probe on the training split and score it on the test split.

    Features are standardised by the mean and deviation of what is fitted on. Multinomial logistic
    regression is fitted on nine tenths of the training split for each C; the C most accurate on the
    other tenth (the smallest of equals) is fitted again on all of it. The fits are those of
    scikit-learn (:mod:`earsight.evaluation.logistic`), made where ``train`` lies, in float32 unless
    the features are float64.

    Args:
        train: ``(N, D)`` features.
        train_labels: ``(N,)`` integers from 0.
        test: ``(M, D)`` features.
        test_labels: ``(M,)`` integers from 0.
        seed: decides the tenth.
        groups: ``(N,)`` names or numbers of the groups that the tenth must not split.
        strengths: values of C.
        spectrum: of the features, where several labels are probed; it saves time alone.

    Raises:
        ValueError: sizes that do not fit, several labels a sample, features that are not finite,
            or fewer than two classes (or groups) to learn from.
    """
    check_width(train, test, "training and test features")
    x, z = check_features("training features", train), check_features("test features", test)
    y = check_labels("training labels", train_labels, len(train)).cpu()
    truth = check_labels("test labels", test_labels, len(test)).cpu()
    held = hold_out_tenth(y.numpy(), seed=seed, groups=groups)
    if len(torch.unique(y[~held])) < 2:
        raise ValueError(
            "the training split has samples of one class only (a tenth set aside); a classifier "
            "needs two classes of two samples or groups each: name other columns in "
            "evaluation.labels"
        )
    fitted, scaled = _standardise(x, z)
    spectrum = Spectrum.of(fitted) if spectrum is None else spectrum
    inverse, validation, chosen = _choose(x, y, torch.from_numpy(held), strengths, spectrum)
    (final,) = fit_path(fitted, y.to(x.device), [inverse], start=chosen, spectrum=spectrum)
    accuracy, per_class, chance = score_classes(final.predict(scaled).cpu(), truth)
    return ProbeScores(
        n=len(test),
        accuracy=accuracy,
        per_class=per_class,
        chance=chance,
        C=inverse,
        validation=validation,
        converged=chosen.converged and final.converged,
        train=len(train),
    )


def hold_out_tenth(labels: Int, *, seed: int, groups: ArrayLike | None = None) -> NDArray[np.bool_]:
    """Mark the tenth of a training split on which C is chosen, spread over the classes.

    Whole groups are set aside (a sample is its own group unless told): in random order, sorted by
    class (a group's is that of its first sample), every tenth from the fifth on.

    Args:
        labels: ``(N,)`` classes.
        seed: decides the order.
        groups: ``(N,)`` names or numbers.

    Returns:
        ``(N,)`` bool.

    Raises:
        ValueError: fewer than two groups, or another number of groups than of labels.
    """
    if groups is None:
        group, first = np.arange(len(labels)), np.arange(len(labels))
    else:
        names = np.asarray(groups)
        if names.shape != labels.shape:
            raise ValueError(f"{names.shape} groups given for {labels.shape} labels")
        _, first, group = np.unique(names, return_index=True, return_inverse=True)
    count = len(first)
    if count < 2:
        raise ValueError(f"a probe needs at least two training samples or groups, not {count}")
    order = random.permute(seed, "probe/tenth", np.arange(count), count)
    order = order[np.argsort(labels[first][order], kind="stable")]
    return np.isin(group, order[min(4, count - 1) :: 10])


def describe_features(features: Tensor) -> Spectrum:
    """What the probes of several labels on the same features ``(N, D)`` can share."""
    return Spectrum.of(_standardise(features, features[:0])[0])


def _choose(
    x: Tensor, y: Tensor, held: Tensor, strengths: Sequence[float], spectrum: Spectrum
) -> tuple[float, float, Fit]:
    """The C of highest accuracy on the held-out part, that accuracy, and the fit.

    The fit counts as converged if those of every C were.
    """
    if not strengths:
        raise ValueError("give at least one value of C")
    fitted, tested = _standardise(x[~held], x[held])
    truth = y[held].to(x.device)
    ascending = sorted(strengths)
    fits = list(fit_path(fitted, y[~held].to(x.device), ascending, spectrum=spectrum))
    accuracy = [float((fit.predict(tested) == truth).double().mean()) for fit in fits]
    best = max(range(len(fits)), key=lambda at: (accuracy[at], -at))
    converged = all(fit.converged for fit in fits)
    return ascending[best], accuracy[best], replace(fits[best], converged=converged)


def _standardise(x: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both by the mean and deviation of the first, taken in float64 where the device has it."""
    wide = x if x.device.type == "mps" else x.double()
    mean = wide.mean(dim=0)
    deviation = wide.std(dim=0, correction=0)
    # A constant feature says nothing; it must not be divided by the rounding of its mean.
    deviation[deviation <= 1e-12 * mean.abs()] = 1.0
    deviation[deviation == 0] = 1.0
    scaled = (((part - mean) / deviation).to(x.dtype) for part in (wide, test))
    fitted, tested = scaled
    return fitted, tested
