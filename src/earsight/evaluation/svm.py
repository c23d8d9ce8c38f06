"""One-vs-all linear SVMs on frozen features, clips scored one by one and by sample (methods.md §8).

Features of the last layer before pooling have 113,152 values a clip at full size, many more than
there are clips. What a linear classifier can tell of ``S`` clips lies in ``S`` dimensions, so with
more features than clips the SVM is fitted on coordinates in these: rows of the Cholesky factor of
the clips' inner products, which have the same inner products.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from earsight.evaluation.checks import check_features, check_labels, check_width
from earsight.evaluation.classification import score_classes
from earsight.evaluation.probe import hold_out_tenth
from earsight.evaluation.rows import Metric

if TYPE_CHECKING:
    from sklearn.svm import LinearSVC

STRENGTHS = (1e-2, 1e-1, 1.0, 1e1, 1e2)
"""Values of C, for clips whose squared length is about one."""

_COLUMNS = 8192
_JITTERS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_ROUNDING = 1e-6
_ITERATIONS = 5000

Floats = NDArray[np.float32]
Int = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SvmScores:
    """Accuracy of linear SVMs.

    Attributes:
        n: test samples.
        sample: Sample@1, share of samples whose largest score, averaged over clips, is that of
            their class.
        clip: Clip@1, share of single clips answered correctly.
        per_class: Sample@1 of each class that was tested.
        chance: share of the test split's most frequent class.
        C: the chosen strength.
        validation: Sample@1 with that C on the tenth of the training split it was chosen on.
        converged: whether every fit reached its optimum.
        train: training samples.
    """

    n: int
    sample: float
    clip: float
    per_class: Mapping[int, float]
    chance: float
    C: float
    validation: float
    converged: bool
    train: int

    def metrics(self) -> dict[str, Metric]:
        """``Sample@1`` and ``Clip@1``."""
        return {
            "Sample@1": Metric(value=self.sample, chance=self.chance),
            "Clip@1": Metric(value=self.clip, chance=self.chance),
        }


def svm(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    *,
    seed: int,
    groups: ArrayLike | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> SvmScores:
    """Fit one SVM a class on all clips of the training samples, and score the test samples.

    Features are standardised by the training clips' mean and deviation, and scaled so that a clip's
    squared length is one on average. The SVMs have the squared hinge loss and an intercept
    (scikit-learn's ``LinearSVC``). C is the one of highest Sample@1 on a tenth of the training
    samples (the smallest of equals), fitted again on all.

    Args:
        train: ``(N, clips, D)`` features of each clip.
        train_labels: ``(N,)`` integers from 0.
        test: ``(M, clips', D)``.
        test_labels: ``(M,)`` integers from 0.
        seed: decides the tenth, and the order in which the solver goes.
        groups: ``(N,)`` names or numbers of the groups that the tenth must not split.
        strengths: values of C.

    Raises:
        ValueError: sizes that do not fit, features that are not finite, or fewer than two classes
            (or groups) to learn from.
    """
    check_width(train[:, 0], test[:, 0], "training and test features")
    truth = check_labels("training labels", train_labels, len(train)).cpu().numpy()
    asked = check_labels("test labels", test_labels, len(test)).cpu()
    if not strengths:
        raise ValueError("give at least one value of C")
    held = hold_out_tenth(truth, seed=seed, groups=groups)
    if len(np.unique(truth[~held])) < 2:
        raise ValueError(
            "the training split has samples of one class only (a tenth set aside); an SVM needs "
            "two classes of two samples or groups each"
        )
    x, z = _coordinates(train, test)
    inverse, validation, converged = _choose(x, truth, held, sorted(strengths), seed)
    final = _fit(x, truth, inverse, seed)
    scores = final.scores(z)
    sample, per_class, chance = score_classes(_answers(final, scores.mean(axis=1)), asked)
    single = _answers(final, scores) == asked[:, None]
    return SvmScores(
        n=len(test),
        sample=sample,
        clip=float(single.double().mean()),
        per_class=per_class,
        chance=chance,
        C=inverse,
        validation=validation,
        converged=converged and final.converged,
        train=len(train),
    )


@dataclass(frozen=True, kw_only=True)
class _Fit:
    machine: "LinearSVC"
    classes: Int
    converged: bool

    def scores(self, x: Floats) -> NDArray[np.float64]:
        """``(N, clips, classes)``: how far each clip lies on each class's side."""
        flat = self.machine.decision_function(x.reshape(-1, x.shape[-1]))
        # Of two classes there is one machine, whose sign tells.
        both = np.stack([-flat, flat], axis=1) if flat.ndim == 1 else flat
        return np.asarray(both.reshape(*x.shape[:-1], -1), np.float64)


def _answers(fit: _Fit, scores: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(fit.classes[scores.argmax(axis=-1)])


def _choose(
    x: Floats, truth: Int, held: NDArray[np.bool_], strengths: Sequence[float], seed: int
) -> tuple[float, float, bool]:
    """The C of highest Sample@1 on the held-out part, that figure, and whether all fits ended."""
    found = []
    for strength in strengths:
        fit = _fit(x[~held], truth[~held], strength, seed)
        answers = _answers(fit, fit.scores(x[held]).mean(axis=1)).numpy()
        found.append((float((answers == truth[held]).mean()), fit.converged))
    best = max(range(len(found)), key=lambda at: (found[at][0], -at))
    return strengths[best], found[best][0], all(converged for _, converged in found)


def _fit(x: Floats, truth: Int, strength: float, seed: int) -> _Fit:
    # What needs no SVM need not wait for it.
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from sklearn.svm import LinearSVC  # noqa: PLC0415

    clips = x.shape[1]
    machine = LinearSVC(C=strength, dual="auto", max_iter=_ITERATIONS, random_state=seed % 2**32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        machine.fit(x.reshape(-1, x.shape[-1]), np.repeat(truth, clips))
    converged = not any(issubclass(one.category, ConvergenceWarning) for one in caught)
    return _Fit(machine=machine, classes=machine.classes_, converged=converged)


def _coordinates(train: Tensor, test: Tensor) -> tuple[Floats, Floats]:
    """Both as ``(N, clips, d)`` float32, standardised, with ``d`` at most the training clips.

    Wherever the features lie, they are standardised and multiplied there, and the rest is done on
    the CPU.
    """
    x, z = train.flatten(0, 1), test.flatten(0, 1)
    if x.shape[1] > len(x):
        fitted, tested = _reduced(x, z)
    else:
        fitted, tested = (
            torch.cat(part, dim=1).cpu() for part in zip(*_standardised(x, z), strict=True)
        )
    length = fitted.double().square().sum(dim=1).mean().sqrt().clamp_min(1e-12)
    first = (fitted / length).reshape(*train.shape[:2], -1)
    second = (tested / length).reshape(*test.shape[:2], -1)
    return first.float().numpy(), second.float().numpy()


def _standardised(x: Tensor, z: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Columns of both, some at a time, by the mean and deviation of the first."""
    for fitted, tested in zip(*(torch.split(one, _COLUMNS, dim=1) for one in (x, z)), strict=True):
        wide = check_features("training features", fitted)
        mean, deviation = wide.mean(dim=0), wide.std(dim=0, correction=0)
        # A constant feature says nothing; it must not be divided by the rounding of its mean.
        deviation[deviation <= _ROUNDING * mean.abs()] = torch.inf
        other = check_features("test features", tested)
        yield (wide - mean) / deviation, (other - mean) / deviation


def _reduced(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates with the inner products that the standardised rows have among themselves."""
    inner = torch.zeros(len(x), len(x), dtype=torch.float64)
    across = torch.zeros(len(z), len(x), dtype=torch.float64)
    for fitted, tested in _standardised(x, z):
        inner += (fitted @ fitted.T).cpu()
        across += (tested @ fitted.T).cpu()
    factor = _factor(inner)
    return factor, torch.linalg.solve_triangular(factor, across.T, upper=False).T


def _factor(inner: Tensor) -> Tensor:
    """Lower triangle whose rows have these inner products, but for a millionth or little more.

    Centred rows are dependent, and so are those of an encoder that tells few clips apart: as much
    is added to their squared lengths as the factor needs.
    """
    length = inner.diagonal().mean().clamp_min(1e-12)
    for jitter in _JITTERS:
        added = jitter * length * torch.eye(len(inner), dtype=inner.dtype)
        factor, failed = torch.linalg.cholesky_ex(inner + added)
        if not failed:
            assert isinstance(factor, Tensor)
            return factor
    raise AssertionError("products of real vectors have a factor once a tenth is added")
