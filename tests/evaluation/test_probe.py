"""The probe against scikit-learn's own pipeline; its held-out tenth; convergence; bad input."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from earsight.evaluation import probe as probe_module
from earsight.evaluation.logistic import fit_path
from earsight.evaluation.probe import hold_out_tenth, probe


def blobs(count: int, dim: int, classes: int, noise: float, seed: int) -> tuple:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(classes).normal(size=(classes, dim))
    labels = rng.integers(0, classes, count)
    x = centres[labels] + noise * rng.normal(size=(count, dim))
    return torch.from_numpy(5 + 3 * x).float(), torch.from_numpy(labels)


def pipeline(x: torch.Tensor, y: torch.Tensor, inverse: float) -> Any:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=inverse, max_iter=1000))
    return model.fit(x.double().numpy(), y.numpy())


def test_equals_scikit_learn() -> None:
    train, labels = blobs(300, 12, 5, 2.0, 0)
    test, truth = blobs(200, 12, 5, 2.0, 1)
    scores = probe(train, labels, test, truth, seed=3)
    held = torch.from_numpy(hold_out_tenth(labels.numpy(), seed=3))
    table = [
        (pipeline(train[~held], labels[~held], c).score(train[held], labels[held]), -c)
        for c in probe_module.STRENGTHS
    ]
    validation, negative = max(table)
    assert pytest.approx(-negative) == scores.C
    assert scores.validation == pytest.approx(validation)
    final = pipeline(train, labels, scores.C)
    predicted = final.predict(test.double().numpy())
    assert scores.accuracy == pytest.approx(np.mean(predicted == truth.numpy()))
    for index in range(5):
        own = truth.numpy() == index
        assert scores.per_class[index] == pytest.approx(np.mean(predicted[own] == index))
    assert scores.chance == truth.bincount().max().item() / 200
    assert scores.converged
    assert 0.3 < scores.accuracy < 1


def test_scale_and_shift_do_not_matter() -> None:
    train, labels = blobs(150, 6, 3, 2.0, 0)
    test, truth = blobs(80, 6, 3, 2.0, 1)
    scale, shift = 10 ** torch.linspace(-3, 3, 6), torch.linspace(-9, 9, 6)
    plain = probe(train.double(), labels, test.double(), truth, seed=0)
    moved = probe(
        train.double() * scale + shift, labels, test.double() * scale + shift, truth, seed=0
    )
    assert plain == moved


def test_constant_features_are_harmless() -> None:
    train, labels = blobs(100, 4, 2, 1.0, 0)
    test, truth = blobs(50, 4, 2, 1.0, 1)
    plain = probe(train, labels, test, truth, seed=0)
    extra = torch.cat([train, torch.full((100, 1), 0.1)], 1)
    same = probe(extra, labels, torch.cat([test, torch.full((50, 1), 0.1)], 1), truth, seed=0)
    assert same == plain
    nothing = probe(torch.ones(100, 2), labels, torch.ones(50, 2), truth, seed=0)
    assert nothing.accuracy <= nothing.chance


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(10, 300),
    classes=st.integers(1, 5),
    groups=st.integers(2, 40),
    seed=st.integers(0, 10**6),
)
def test_the_tenth(count: int, classes: int, groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    alone = hold_out_tenth(labels, seed=seed)
    assert np.array_equal(alone, hold_out_tenth(labels, seed=seed))
    assert abs(alone.sum() - count / 10) <= 1
    for index in range(classes):  # spread over the classes
        own = labels == index
        assert abs(alone[own].sum() - own.sum() / 10) <= 1
    names = np.array([f"file {i}" for i in rng.integers(0, groups, count)])
    if len(set(names)) < 2:
        return
    held = hold_out_tenth(labels, seed=seed, groups=names)
    assert held.any()
    assert not held.all()
    assert not set(names[held]) & set(names[~held])
    assert abs(len(set(names[held])) - len(set(names)) / 10) <= 1


def test_the_seed_decides_the_tenth() -> None:
    labels = np.arange(100) % 4
    assert not np.array_equal(hold_out_tenth(labels, seed=0), hold_out_tenth(labels, seed=1))


def test_groups_keep_copies_apart() -> None:
    # Twenty copies of noise with random labels: an ungrouped tenth rewards learning by heart.
    rng = np.random.default_rng(0)
    features = torch.from_numpy(np.repeat(rng.normal(size=(40, 60)), 20, axis=0))
    labels = torch.from_numpy(np.repeat(rng.integers(0, 2, 40), 20))
    groups = np.repeat(np.arange(40), 20)
    test, truth = torch.from_numpy(rng.normal(size=(50, 60))), torch.arange(50) % 2
    alone = probe(features, labels, test, truth, seed=0)
    grouped = probe(features, labels, test, truth, seed=0, groups=groups)
    assert alone.validation == 1.0
    assert grouped.validation < 0.95


def test_unconverged_fits_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    train, labels = blobs(150, 12, 4, 2.0, 0)
    assert probe(train, labels, train, labels, seed=0).converged

    def hurried(*arguments: Any, **options: Any) -> Any:
        return fit_path(*arguments, **options, iterations=1)

    monkeypatch.setattr(probe_module, "fit_path", hurried)
    assert not probe(train, labels, train, labels, seed=0).converged


def test_many_classes_and_wide_features_converge() -> None:
    train, labels = blobs(600, 256, 30, 6.0, 0)
    scores = probe(train, labels, train[:100], labels[:100], seed=0)
    assert scores.converged


@pytest.mark.parametrize(
    ("train", "labels", "message"),
    [
        (torch.eye(6), torch.zeros(6, dtype=torch.long), "one class"),
        (torch.eye(6)[:1], torch.zeros(1, dtype=torch.long), "at least two training samples"),
        (torch.eye(6), torch.zeros(6, 3, dtype=torch.long), "several a sample"),
        (torch.full((6, 6), torch.nan), torch.arange(6) % 2, "diverged"),
        (torch.eye(6)[:, :4], torch.arange(6) % 2, "one model"),
    ],
)
def test_bad_input(train: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        probe(train, labels, torch.eye(6), torch.arange(6) % 2, seed=0)


def test_bad_groups_and_strengths() -> None:
    train, labels = blobs(40, 3, 2, 2.0, 0)
    with pytest.raises(ValueError, match="groups given"):
        probe(train, labels, train, labels, seed=0, groups=["a", "b"])
    with pytest.raises(ValueError, match="two training samples or groups"):
        probe(train, labels, train, labels, seed=0, groups=["a"] * 40)
    with pytest.raises(ValueError, match="at least one"):
        probe(train, labels, train, labels, seed=0, strengths=[])
