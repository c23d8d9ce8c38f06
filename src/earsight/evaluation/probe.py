"""The linear probe: what a linear classifier reads off frozen features."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor

from earsight import random
from earsight.evaluation.checks import check_features, check_labels, check_width
from earsight.evaluation.classification import score_classes
from earsight.evaluation.rows import Metric

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Values of C, scikit-learn's inverse strength of regularisation, that are tried."""

_ITERATIONS = (1000, 10000)

Float = NDArray[np.float64]
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
) -> ProbeScores:
    """Fit a linear probe on the training split and score it on the test split.

    Features are standardised by the mean and deviation of what is fitted on. Multinomial logistic
    regression is fitted by L-BFGS in float64 on nine tenths of the training split for each C; the C
    most accurate on the other tenth (the smallest of equals) is fitted again on all of it.

    Args:
        train: ``(N, D)`` features.
        train_labels: ``(N,)`` integers from 0.
        test: ``(M, D)`` features.
        test_labels: ``(M,)`` integers from 0.
        seed: decides the tenth.
        groups: ``(N,)`` names or numbers of the groups that the tenth must not split.
        strengths: values of C.

    Raises:
        ValueError: sizes that do not fit, several labels a sample, features that are not finite,
            or fewer than two classes (or groups) to learn from.
    """
    check_width(train, test, "training and test features")
    x = _numbers("training features", train)
    y = check_labels("training labels", train_labels, len(train)).cpu().numpy()
    truth = check_labels("test labels", test_labels, len(test)).cpu()
    held = hold_out_tenth(y, seed=seed, groups=groups)
    if len(np.unique(y[~held])) < 2:
        raise ValueError(
            "the training split has samples of one class only (a tenth set aside); a probe needs "
            "two classes of two samples or groups each"
        )
    inverse, validation, converged = _choose(x, y, held, strengths)
    predicted, final = _fit_predict(x, y, _numbers("test features", test), inverse)
    accuracy, per_class, chance = score_classes(torch.from_numpy(predicted), truth)
    return ProbeScores(
        n=len(test),
        accuracy=accuracy,
        per_class=per_class,
        chance=chance,
        C=inverse,
        validation=validation,
        converged=converged and final,
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


def _numbers(name: str, features: Tensor) -> Float:
    return check_features(name, features).double().cpu().numpy()


def _choose(
    x: Float, y: Int, held: NDArray[np.bool_], strengths: Sequence[float]
) -> tuple[float, float, bool]:
    """The C of highest accuracy on the held-out part, that accuracy, and whether all converged."""
    best, score, converged = 0.0, -1.0, True
    for inverse in sorted(strengths):
        predicted, reached = _fit_predict(x[~held], y[~held], x[held], inverse)
        accuracy = float(np.mean(predicted == y[held]))
        converged = converged and reached
        if accuracy > score:
            best, score = inverse, accuracy
    if best <= 0:
        raise ValueError(f"values of C must be positive, and at least one, not {list(strengths)}")
    return best, score, converged


def _fit_predict(x: Float, y: Int, test: Float, inverse: float) -> tuple[Int, bool]:
    """Classes of the test samples, and whether the fit reached its optimum."""
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    # A constant feature says nothing; it must not be divided by the rounding of its mean.
    deviation[deviation <= 1e-12 * np.abs(mean)] = 1.0
    deviation[deviation == 0] = 1.0
    model, converged = _fit((x - mean) / deviation, y, inverse)
    return np.asarray(model.predict((test - mean) / deviation), dtype=np.int64), converged


def _fit(x: Float, y: Int, inverse: float) -> tuple[LogisticRegression, bool]:
    """A fitted model; one that does not converge is given more iterations before it is told."""
    for iterations in _ITERATIONS:
        model = LogisticRegression(C=inverse, max_iter=iterations)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            # Where other work shares the cores, BLAS's waiting threads cost a hundredfold.
            with threadpool_limits(limits=1, user_api="blas"):
                model.fit(x, y)
        stopped = [w for w in caught if issubclass(w.category, ConvergenceWarning)]
        for other in caught:
            if other not in stopped:
                warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
        if not stopped:
            return model, True
    return model, False
