"""The SVM protocol against scikit-learn on the same features."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from earsight.evaluation.svm import svm


def blobs(samples, clips, width, classes=4, noise=3.0, seed=0):
    """Clips of samples around class centres: ``(N, clips, D)`` features and labels."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, width))
    labels = np.arange(samples) % classes
    own = centres[labels] + draw.normal(size=(samples, width))
    clipped = own[:, None] + noise * draw.normal(size=(samples, clips, width))
    scaled = clipped * (1 + np.arange(width)) + 5
    return torch.tensor(scaled, dtype=torch.float32), torch.tensor(labels)


def by_sklearn(train, labels, test, strength):
    """Scores of the same SVM by scikit-learn alone, in float64."""
    flat = train.flatten(0, 1).double().numpy()
    scale = StandardScaler().fit(flat)
    length = np.sqrt((scale.transform(flat) ** 2).sum(1).mean())
    x = scale.transform(flat) / length
    z = scale.transform(test.flatten(0, 1).double().numpy()) / length
    model = LinearSVC(C=strength, dual="auto", max_iter=20000, tol=1e-6)
    model.fit(x, np.repeat(labels.numpy(), train.shape[1]))
    return model.decision_function(z).reshape(len(test), test.shape[1], -1)


@pytest.mark.parametrize(
    ("width", "noise"), [(12, 3.0), (900, 18.0)], ids=["few features", "more features than clips"]
)
def test_accuracy_is_that_of_scikit_learn(width, noise):
    train, labels = blobs(80, 3, width, noise=noise)
    test, asked = blobs(40, 3, width, noise=noise, seed=1)
    found = svm(train, labels, test, asked, seed=0, strengths=[0.1])
    scores = by_sklearn(train, labels, test, 0.1)
    sample = (scores.mean(1).argmax(1) == asked.numpy()).mean()
    clip = (scores.argmax(2) == asked.numpy()[:, None]).mean()
    assert found.sample == pytest.approx(sample)
    assert found.clip == pytest.approx(clip, abs=0.009)
    assert found.converged
    assert (found.n, found.train, found.chance) == (40, 80, 0.25)
    assert 1 > found.sample > found.clip > 0.3


def test_two_classes_have_one_machine_and_two_sides():
    train, labels = blobs(40, 2, 6, noise=0.5, classes=2)
    test, asked = blobs(40, 2, 6, noise=0.5, classes=2, seed=1)
    found = svm(train, labels + 3, test, asked + 3, seed=0)
    assert found.sample > 0.7
    assert set(found.per_class) == {3, 4}


def test_the_strength_is_chosen_on_whole_groups_of_the_training_split():
    train, labels = blobs(80, 2, 10)
    found = svm(train, labels, train, labels, seed=0, groups=np.arange(80) // 8)
    assert found.C in (1e-2, 1e-1, 1.0, 1e1, 1e2)
    assert 0 <= found.validation <= 1


def test_a_constant_feature_changes_nothing():
    train, labels = blobs(60, 2, 8)
    test, asked = blobs(60, 2, 8, seed=1)
    plain = svm(train, labels, test, asked, seed=0)
    extra = [torch.cat([x, torch.full_like(x[..., :1], 1e6)], dim=2) for x in (train, test)]
    found = svm(extra[0], labels, extra[1], asked, seed=0)
    assert (found.sample, found.clip) == (plain.sample, plain.clip)


def test_one_class_is_refused():
    train, labels = blobs(20, 2, 4)
    with pytest.raises(ValueError, match="one class only"):
        svm(train, labels * 0, train, labels, seed=0)


def test_clips_of_few_dimensions_are_told_apart():
    # Their inner products, as float32 gives them, have no factor until enough is added.
    train, labels = blobs(400, 1, 2, noise=0.1)
    test, asked = blobs(40, 1, 2, noise=0.1, seed=1)
    wider = torch.randn(2, 3000, generator=torch.Generator().manual_seed(0))
    found = svm(train @ wider, labels, test @ wider, asked, seed=0, strengths=[1.0])
    narrow = svm(train, labels, test, asked, seed=0, strengths=[1.0])
    assert found.sample == pytest.approx(narrow.sample, abs=0.051)


def test_any_seed_of_a_run_is_taken():
    x, labels = blobs(40, 1, 6)
    assert svm(x, labels, x, labels, seed=2**63 - 1, strengths=[0.1]).n == 40
