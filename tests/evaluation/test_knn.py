"""The vote of the neighbours against a naive loop, ties, and bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from earsight.evaluation import checks
from earsight.evaluation.knn import knn, vote


def blobs(count: int, dim: int, classes: int, noise: float, seed: int) -> tuple:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(classes).normal(size=(classes, dim))
    labels = rng.integers(0, classes, count)
    x = centres[labels] + noise * rng.normal(size=(count, dim))
    return torch.from_numpy(x).float(), torch.from_numpy(labels)


def naive_vote(train: np.ndarray, labels: np.ndarray, one: np.ndarray, k: int) -> int:
    length = np.linalg.norm(train, axis=1) * np.linalg.norm(one)
    cosine = train @ one / length
    chosen = sorted(range(len(train)), key=lambda i: -cosine[i])[:k]
    votes: dict[int, list[float]] = {}
    for i in chosen:
        votes.setdefault(int(labels[i]), []).append(cosine[i])
    return max(votes, key=lambda c: (len(votes[c]), sum(votes[c])))


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 40),
    classes=st.integers(1, 6),
    k=st.integers(1, 25),
    seed=st.integers(0, 10**6),
)
def test_equals_naive_vote(count: int, classes: int, k: int, seed: int) -> None:
    train, labels = blobs(count, 5, classes, 1.0, seed)
    test, _ = blobs(9, 5, classes, 1.0, seed + 1)
    train, test = train.double(), test.double()
    expected = [naive_vote(train.numpy(), labels.numpy(), one, k) for one in test.numpy()]
    assert vote(train, labels, test, k=k).tolist() == expected


def test_equally_many_votes_go_to_the_nearer_class() -> None:
    def at(degrees: list[float]) -> torch.Tensor:
        angle = torch.deg2rad(torch.tensor(degrees))
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    train, labels = at([10, 12, -5, -30, 90]), torch.tensor([2, 2, 1, 1, 0])
    # Two votes each; class 2 is nearer in sum although class 1 holds the single nearest.
    assert vote(train, labels, at([0]), k=4).tolist() == [2]
    assert vote(train, labels, at([0]), k=1).tolist() == [1]


def test_scores() -> None:
    train, labels = blobs(200, 8, 4, 1.2, 0)
    test, truth = blobs(60, 8, 4, 1.2, 1)
    scores = knn(train, labels, test, truth, k=20)
    predicted = vote(train, labels, test, k=20)
    assert scores.accuracy == pytest.approx((predicted == truth).double().mean().item())
    assert 0.4 < scores.accuracy < 1
    for index, share in scores.per_class.items():
        own = truth == index
        assert share == pytest.approx((predicted[own] == index).double().mean().item())
    assert set(scores.per_class) == set(truth.tolist())
    assert scores.chance == pytest.approx(truth.bincount().max().item() / 60)
    assert (scores.n, scores.train, scores.k) == (60, 200, 20)
    assert scores.metrics()["accuracy"].chance == scores.chance


def test_constant_features_reach_no_more_than_chance() -> None:
    _, labels = blobs(100, 2, 5, 1.0, 0)
    _, truth = blobs(50, 2, 5, 1.0, 1)
    scores = knn(torch.ones(100, 2), labels, torch.ones(50, 2), truth)
    assert scores.accuracy <= scores.chance


def test_fewer_samples_than_neighbours() -> None:
    scores = knn(torch.eye(3), torch.arange(3), torch.eye(3), torch.arange(3), k=20)
    assert scores.k == 3
    assert scores.accuracy == 1.0


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train, labels = blobs(50, 8, 4, 1.5, 0)
    test, _ = blobs(31, 8, 4, 1.5, 1)
    whole = vote(train, labels, test)
    monkeypatch.setattr(checks, "chunk_rows", lambda columns: 7)
    assert torch.equal(vote(train, labels, test), whole)


def test_classes_of_the_test_split_only_are_errors() -> None:
    scores = knn(torch.eye(2), torch.tensor([0, 1]), torch.eye(2), torch.tensor([0, 7]), k=1)
    assert scores.per_class == {0: 1.0, 7: 0.0}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(3, 4, dtype=torch.long), "several a sample"),
        (torch.zeros(2, dtype=torch.long), r"shape \(3,\)"),
        (torch.zeros(3), "integers"),
        (torch.tensor([0, -1, 1]), "unlabelled"),
    ],
)
def test_bad_labels(labels: torch.Tensor, message: str) -> None:
    good = torch.arange(3)
    with pytest.raises(ValueError, match=message):
        knn(torch.eye(3), labels, torch.eye(3), good)
    with pytest.raises(ValueError, match=message):
        knn(torch.eye(3), good, torch.eye(3), labels)


def test_bad_sizes() -> None:
    with pytest.raises(ValueError, match="one model"):
        knn(torch.eye(3), torch.arange(3), torch.ones(1, 2), torch.arange(1))
    with pytest.raises(ValueError, match="1 or more"):
        knn(torch.eye(3), torch.arange(3), torch.eye(3), torch.arange(3), k=0)
