"""Multinomial logistic regression along a path of regularisation, by L-BFGS in torch.

The objective is that of scikit-learn's ``LogisticRegression``: for samples ``x_i`` of classes
``y_i``, ``C Σ_i −log softmax(W x_i + b)[y_i] + ½‖W‖²``, without a penalty on ``b``; for two
classes, whose classifier scikit-learn writes as one vector, ``½‖W_1 − W_0‖²``. Divided by ``C N``
it is the mean loss plus ``λ/2 ‖W‖²``.

Features of a network are nearly of low rank, which slows L-BFGS down. Its first guess of the
inverse Hessian, ``(c XᵀX/N + λ)⁻¹`` with ``c`` the mean of ``p (1 − p)``, is therefore taken from
the largest eigenvalues, found once for all fits on the same features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from earsight import random

TOLERANCE = 1e-4
"""Largest entry of the gradient (of the mean loss) at which a fit is done, as in scikit-learn."""

ITERATIONS = 2000
_MEMORY = 15
_SHRINK = 0.5
_DECREASE = 1e-4
_STEPS = 30
_RANK = 256


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fitted classifier.

    Attributes:
        classes: ``(K,)`` int64, the classes that were there to learn.
        weight: ``(K, D + 1)``, the bias last.
        converged: whether the optimum was reached.
    """

    classes: Tensor
    weight: Tensor
    converged: bool

    def predict(self, x: Tensor) -> Tensor:
        """Classes ``(M,)`` of samples ``(M, D)``."""
        logits = torch.addmm(self.weight[:, -1], x, self.weight[:, :-1].T)
        return self.classes[logits.argmax(dim=1)]


def fit_path(
    x: Tensor,
    labels: Tensor,
    strengths: Sequence[float],
    *,
    start: Fit | None = None,
    spectrum: "Spectrum | None" = None,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
) -> Iterator[Fit]:
    """A classifier for each C in turn, each fit starting from the one before.

    Args:
        x: ``(N, D)`` floating features, on the device where the work is done.
        labels: ``(N,)`` int64.
        strengths: values of C; ascending ones make the shortest way.
        start: where the first fit starts, if its classes are those of ``labels``; else from zero.
        spectrum: of these features or of others like them; None finds it. The optimum does not
            depend on it.
        tolerance: see :data:`TOLERANCE`.
        iterations: most steps of one fit.

    Raises:
        ValueError: a C that is not positive, or a single class.
    """
    if any(strength <= 0 for strength in strengths):
        raise ValueError(f"values of C must be positive, not {list(strengths)}")
    classes, target = torch.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError("a classifier needs samples of two classes")
    weight = x.new_zeros(len(classes), x.shape[1] + 1)
    if start is not None and torch.equal(start.classes, classes):
        weight = start.weight.clone()
    loss = MeanLoss(x, target)
    memory = Memory(Spectrum.of(x) if spectrum is None else spectrum)
    for strength in strengths:
        # Two rows stand for one vector w as ±w/2, whose penalty is half of what it is written as.
        penalty = (2.0 if len(classes) == 2 else 1.0) / (strength * len(x))
        weight, converged = _minimise(loss, penalty, weight, memory, tolerance, iterations)
        yield Fit(classes=classes, weight=weight, converged=converged)


class MeanLoss:
    """The mean cross-entropy and its gradient as functions of the weights ``(K, D + 1)``."""

    def __init__(self, x: Tensor, target: Tensor) -> None:
        # Classes lie in rows: a product with few columns takes twice as long as one with few rows.
        self.x = x
        self.target = target[None]
        self.one = torch.ones_like(self.target, dtype=x.dtype)
        self.curvature = 1.0

    def __call__(self, weight: Tensor) -> tuple[float, Tensor]:
        """The loss, and its gradient ``(K, D + 1)``; notes the mean of ``p (1 − p)``."""
        count = len(self.x)
        logp = torch.addmm(weight[:, -1:], weight[:, :-1], self.x.T).log_softmax(dim=0)
        # Single terms are small beside their sum: float32 would lose what a last step gains.
        total = -float(logp.gather(0, self.target).sum(dtype=_widest(logp)))
        p = logp.exp_()
        self.curvature = max(1e-4, float((p * (1 - p)).mean()))
        residual = p.scatter_add_(0, self.target, -self.one).div_(count)
        gradient = torch.empty_like(weight)
        torch.mm(residual, self.x, out=gradient[:, :-1])
        gradient[:, -1] = residual.sum(dim=1)
        return total / count, gradient


def _widest(x: Tensor) -> torch.dtype:
    return torch.float32 if x.device.type == "mps" else torch.float64


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """The largest eigenvalues of ``XᵀX/N``.

    Attributes:
        vectors: ``(D, R)``, orthonormal.
        values: ``(R,)``, ascending; all others are taken for the least of them.
    """

    vectors: Tensor
    values: Tensor

    @staticmethod
    def of(x: Tensor) -> "Spectrum":
        """Of features ``(N, D)``, by subspace iteration from a fixed draw."""
        rank = min(_RANK, *x.shape)
        draw = torch.from_numpy(random.uniform(0, "spectrum", np.arange(x.shape[1] * rank)) - 0.5)
        basis = draw.view(x.shape[1], rank).to(x)
        for _ in range(2):
            basis = torch.linalg.qr(x.T @ (x @ basis)).Q
        projected = x @ basis
        values, turned = torch.linalg.eigh(projected.T @ projected / len(x))
        return Spectrum(vectors=basis @ turned, values=values.clamp_min(0))

    def solve(self, gradient: Tensor, curvature: float, penalty: float) -> Tensor:
        """``(c XᵀX/N + λ)⁻¹`` times each row of ``(K, D + 1)``; the bias has no penalty."""
        inverse = 1 / (curvature * self.values + penalty)
        rest = inverse[0]
        solved = rest * gradient
        inner = gradient[:, :-1] @ self.vectors
        solved[:, :-1] += (inner * (inverse - rest)) @ self.vectors.T
        solved[:, -1] = gradient[:, -1] / curvature
        return solved


class Memory:
    """Steps and what they changed in the gradient of the loss alone.

    Without the penalty's part, which is known, they hold for every C.
    """

    def __init__(self, spectrum: Spectrum) -> None:
        self.spectrum = spectrum
        self.steps: list[Tensor] = []
        self.changes: list[Tensor] = []
        self.penalty = 0.0
        self.pairs: list[tuple[Tensor, Tensor, float]] = []

    def add(self, step: Tensor, change: Tensor) -> None:
        """Add a pair; the oldest is forgotten."""
        self.steps = [*self.steps[1 - _MEMORY :], step]
        self.changes = [*self.changes[1 - _MEMORY :], change]
        self.pairs = [*self.pairs[1 - _MEMORY :], self._pair(step, change)]

    def _pair(self, step: Tensor, change: Tensor) -> tuple[Tensor, Tensor, float]:
        full = change + _penalty_slope(step, self.penalty)
        return step, full, _dot(step, full)

    def direction(self, gradient: Tensor, curvature: float, penalty: float) -> Tensor:
        """The quasi-Newton direction (Nocedal's two loops)."""
        if penalty != self.penalty:
            self.penalty = penalty
            both = zip(self.steps, self.changes, strict=True)
            self.pairs = [self._pair(step, change) for step, change in both]
        pairs = [pair for pair in self.pairs if pair[2] > 0]
        q, factors = gradient.clone(), []
        for step, full, inner in reversed(pairs):
            factors.append(_dot(step, q) / inner)
            q.sub_(full, alpha=factors[-1])
        q = self.spectrum.solve(q, curvature, penalty)
        for (step, full, inner), factor in zip(pairs, reversed(factors), strict=True):
            q.add_(step, alpha=factor - _dot(full, q) / inner)
        return -q


def _penalty_slope(weight: Tensor, penalty: float) -> Tensor:
    slope = penalty * weight
    slope[:, -1] = 0
    return slope


def _dot(one: Tensor, other: Tensor) -> float:
    return float(torch.dot(one.flatten(), other.flatten()))


def _minimise(
    loss: MeanLoss,
    penalty: float,
    weight: Tensor,
    memory: Memory,
    tolerance: float,
    iterations: int,
) -> tuple[Tensor, bool]:
    """The weights of least loss and penalty, and whether they were found."""

    def penalised(mean: float, weight: Tensor) -> float:
        return mean + 0.5 * penalty * float(weight[:, :-1].square().sum())

    mean, slope = loss(weight)
    for _ in range(iterations):
        gradient = slope + _penalty_slope(weight, penalty)
        if float(gradient.abs().max()) <= tolerance:
            return weight, True
        direction = memory.direction(gradient, loss.curvature, penalty)
        downhill = _dot(direction, gradient)
        value, length = penalised(mean, weight), 1.0
        # Where rounding hides what a step gains, the slope along it decides.
        noise = 16 * torch.finfo(weight.dtype).eps * max(abs(value), 1e-3)
        for _ in range(_STEPS):
            moved = weight + length * direction
            new_mean, new_slope = loss(moved)
            new = penalised(new_mean, moved)
            if new <= value + _DECREASE * length * downhill:
                break
            flat = abs(_dot(direction, new_slope + _penalty_slope(moved, penalty))) <= 0.9 * abs(
                downhill
            )
            if new <= value + noise and flat:
                break
            length *= _SHRINK
        else:
            return weight, False
        memory.add(moved - weight, new_slope - slope)
        weight, mean, slope = moved, new_mean, new_slope
    return weight, False
