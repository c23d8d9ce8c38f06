"""Fits against scikit-learn's, run to a much closer optimum."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from earsight.evaluation.logistic import Spectrum, fit_path

STRENGTHS = (1e-4, 1e-2, 1.0)


def features(count: int, dim: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Standardised features of nearly low rank, as those of a network."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    hidden = rng.normal(size=(count, 8)) + np.eye(classes, 8)[labels]
    mixed = hidden @ rng.normal(size=(8, dim)) + 0.1 * rng.normal(size=(count, dim))
    x = (mixed - mixed.mean(0)) / mixed.std(0)
    return torch.from_numpy(x), torch.from_numpy(labels)


def oracle(x: torch.Tensor, y: torch.Tensor, strength: float) -> LogisticRegression:
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=100_000)
    return model.fit(x.numpy(), y.numpy())


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(("count", "dim"), [(120, 10), (60, 90)])
def test_equals_scikit_learn(classes: int, count: int, dim: int) -> None:
    x, y = features(count, dim, classes, 0)
    for strength, fit in zip(STRENGTHS, fit_path(x, y, STRENGTHS, tolerance=1e-9), strict=True):
        expected = oracle(x, y, strength)
        assert fit.converged
        weight, bias = fit.weight[:, :-1], fit.weight[:, -1]
        if classes == 2:
            weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
        else:
            # Equal shifts of all biases change no probability.
            bias = bias - bias.mean()
        np.testing.assert_allclose(weight.numpy(), expected.coef_, atol=1e-5)
        shifted = expected.intercept_ - (0 if classes == 2 else expected.intercept_.mean())
        np.testing.assert_allclose(bias.numpy(), shifted, atol=1e-5)
        assert np.array_equal(fit.predict(x).numpy(), expected.predict(x.numpy()))


def test_float32_at_the_default_tolerance_answers_alike() -> None:
    x, y = features(400, 300, 5, 0)
    test, _ = features(1000, 300, 5, 1)
    (fit,) = fit_path(x.float(), y, [1e-2])
    expected = oracle(x, y, 1e-2)
    agreed = fit.predict(test.float()).numpy() == expected.predict(test.numpy())
    assert fit.converged
    assert agreed.mean() > 0.995


def test_neither_the_path_nor_the_spectrum_changes_the_optimum() -> None:
    x, y = features(150, 40, 4, 0)
    other, _ = features(150, 40, 4, 7)
    *_, along = fit_path(x, y, STRENGTHS, tolerance=1e-9)
    (alone,) = fit_path(x, y, STRENGTHS[-1:], tolerance=1e-9, spectrum=Spectrum.of(other))
    torch.testing.assert_close(along.weight[:, :-1], alone.weight[:, :-1], atol=1e-6, rtol=1e-5)


def test_the_spectrum_holds_the_largest_eigenvalues() -> None:
    x, _ = features(200, 30, 3, 0)
    spectrum = Spectrum.of(x)
    expected = torch.linalg.eigvalsh(x.T @ x / len(x))
    torch.testing.assert_close(spectrum.values, expected)
    gradient = torch.randn(4, 31, dtype=torch.float64)
    solved = spectrum.solve(gradient, 0.2, 0.3)
    matrix = 0.2 * x.T @ x / len(x) + 0.3 * torch.eye(30, dtype=torch.float64)
    torch.testing.assert_close(solved[:, :-1] @ matrix, gradient[:, :-1])
    torch.testing.assert_close(solved[:, -1], gradient[:, -1] / 0.2)


def test_classes_keep_their_numbers() -> None:
    x, y = features(100, 6, 3, 0)
    (fit,) = fit_path(x, 10 * y + 3, [1.0])
    assert fit.classes.tolist() == [3, 13, 23]
    assert set(fit.predict(x).tolist()) <= {3, 13, 23}


def test_bad_input() -> None:
    x, y = features(20, 3, 2, 0)
    with pytest.raises(ValueError, match="positive"):
        next(fit_path(x, y, [0.0]))
    with pytest.raises(ValueError, match="two classes"):
        next(fit_path(x, torch.zeros(20, dtype=torch.long), [1.0]))
