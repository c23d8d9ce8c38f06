"""Retrieval against ranks counted one by one, ties, chance, and bad input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from earsight.evaluation import checks
from earsight.evaluation.retrieval import nearest, retrieve


def vectors(count: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def naive(query: np.ndarray, gallery: np.ndarray, truth: list[int], ks: list[int]) -> dict:
    """Every quantity in float64, from an explicit list of the ranks that random ties may bring."""
    recall = dict.fromkeys(ks, 0.0)
    ranks, logs = [], []
    for i, own in enumerate(truth):
        s = [float(query[i] @ g / (np.linalg.norm(query[i]) * np.linalg.norm(g))) for g in gallery]
        better = sum(x > s[own] + 1e-6 for x in s)
        equal = sum(abs(x - s[own]) <= 1e-6 for j, x in enumerate(s) if j != own)
        possible = range(better + 1, better + equal + 2)
        ranks.append(np.mean(possible))
        logs.append(np.mean(np.log(possible)))
        for k in ks:
            recall[k] += np.mean([rank <= k for rank in possible]) / len(truth)
    return {
        **{f"R@{k}": value for k, value in recall.items()},
        "median_rank": np.median(ranks),
        "mean_log_rank": np.mean(logs),
    }


@settings(max_examples=30, deadline=None)
@given(
    queries=st.integers(1, 12),
    gallery=st.integers(1, 15),
    dim=st.integers(1, 4),
    copies=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_equals_naive_ranks(queries: int, gallery: int, dim: int, copies: bool, seed: int) -> None:
    q, g = vectors(queries, dim, seed).double(), vectors(gallery, dim, seed + 1).double()
    if copies:  # one dimension and repeated rows: many exact ties
        g = g[torch.arange(gallery) // 2]
    truth = torch.randint(gallery, (queries,), generator=torch.Generator().manual_seed(seed))
    scores = retrieve(q, g, truth, ks=(1, 3, 5))
    expected = naive(q.numpy(), g.numpy(), truth.tolist(), [1, 3, 5])
    assert {name: m.value for name, m in scores.metrics().items()} == pytest.approx(expected)


def test_diagonal_is_the_default_truth() -> None:
    x = vectors(30, 8, 0)
    y = x + 0.6 * vectors(30, 8, 1)
    scores = retrieve(x, y)
    assert scores == retrieve(x, y, torch.arange(30))
    assert 0.1 < scores.recall[1] < 1
    assert retrieve(x, x).recall[1] == 1.0
    assert retrieve(x, x).median_rank == 1.0
    assert retrieve(x, x).mean_log_rank == 0.0


def test_chance_is_what_random_orders_bring() -> None:
    gallery = 40
    rng = np.random.default_rng(0)
    ranks = 1 + rng.permuted(np.tile(np.arange(gallery), (4000, 1)), axis=1)[:, 0]
    scores = retrieve(vectors(gallery, 4, 0), vectors(gallery, 4, 1))
    assert scores.recall_chance == {1: 1 / 40, 5: 5 / 40, 10: 10 / 40}
    assert np.mean(ranks <= 5) == pytest.approx(scores.recall_chance[5], abs=0.02)
    assert np.median(ranks) == pytest.approx(scores.median_rank_chance, abs=1.5)
    assert np.mean(np.log(ranks)) == pytest.approx(scores.mean_log_rank_chance, abs=0.06)
    assert retrieve(vectors(3, 4, 0), vectors(3, 4, 1)).recall_chance[10] == 1.0


@pytest.mark.parametrize("size", [2, 7, 64, 501])
@pytest.mark.parametrize("value", [1.0, 0.1, 0.0])
def test_a_constant_embedding_scores_chance(size: int, value: float) -> None:
    constant = torch.full((size, 96), value)
    for metric in retrieve(constant, constant).metrics().values():
        assert metric.value == pytest.approx(metric.chance)


def test_rounding_does_not_break_ties() -> None:
    one = normalize(vectors(1, 128, 3), dim=1).expand(300, -1)
    query, gallery = one * (1 + 1e-7 * vectors(300, 128, 4)), one.clone()
    assert retrieve(query, gallery).recall[1] == pytest.approx(1 / 300)


def test_half_of_the_gallery_equal_to_the_match() -> None:
    gallery = torch.eye(2).repeat_interleave(4, 0)
    scores = retrieve(torch.tensor([[1.0, 0.0]]), gallery, torch.tensor([2]), ks=(1, 2, 4))
    assert scores.recall == {1: 0.25, 2: 0.5, 4: 1.0}
    assert scores.median_rank == 2.5
    worst = retrieve(torch.tensor([[0.0, 1.0]]), gallery, torch.tensor([2]), ks=(4, 5))
    assert worst.recall == {4: 0.0, 5: 0.25}
    assert worst.mean_log_rank == pytest.approx(sum(math.log(r) for r in (5, 6, 7, 8)) / 4)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = vectors(23, 6, 0), vectors(23, 6, 1)
    whole, near = retrieve(x, y), nearest(x, y, 5)
    monkeypatch.setattr(checks, "chunk_rows", lambda columns: 4)
    assert retrieve(x, y) == whole
    assert torch.equal(nearest(x, y, 5)[0], near[0])


def test_half_precision_and_inference_tensors() -> None:
    with torch.inference_mode():
        x = vectors(20, 8, 0).bfloat16()
    assert retrieve(x, x).recall[1] == 1.0


def test_flat_numbers() -> None:
    flat = retrieve(vectors(4, 3, 0), vectors(4, 3, 1), ks=(1,)).as_dict()
    assert set(flat) == {
        *("R@1", "median_rank", "mean_log_rank", "gallery", "queries"),
        *("chance/R@1", "chance/median_rank", "chance/mean_log_rank"),
    }
    assert flat["chance/R@1"] == 0.25
    assert flat["gallery"] == flat["queries"] == 4


def test_nearest_is_sorted_and_cosine() -> None:
    query, gallery = vectors(5, 4, 0), vectors(9, 4, 1)
    rows, similarity = nearest(query * 7, gallery, 3)
    cosine = (normalize(query, dim=1) @ normalize(gallery, dim=1).T).numpy()
    assert np.array_equal(rows.numpy(), np.argsort(-cosine, axis=1)[:, :3])
    assert np.allclose(similarity.numpy(), -np.sort(-cosine, axis=1)[:, :3], atol=1e-6)
    assert nearest(query, gallery, 20)[0].shape == (5, 9)


@pytest.mark.parametrize(
    ("query", "gallery", "truth", "message"),
    [
        (torch.ones(2, 3), torch.ones(4, 3), None, "do not pair up"),
        (torch.ones(2, 3), torch.ones(2, 4), None, "one model"),
        (torch.ones(2, 3), torch.ones(2, 3), torch.tensor([0, 2]), "between 0 and 1"),
        (torch.ones(2, 3), torch.ones(2, 3), torch.tensor([0]), "2 integers"),
        (torch.ones(2, 3), torch.tensor([[1.0, 2, 3], [1, torch.nan, 3]]), None, "diverged"),
        (torch.ones(0, 3), torch.ones(0, 3), None, "at least 1"),
        (torch.ones(2), torch.ones(2, 3), None, r"\(N, D\)"),
    ],
)
def test_bad_input(
    query: torch.Tensor, gallery: torch.Tensor, truth: torch.Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        retrieve(query, gallery, truth)


def test_bad_cut_offs() -> None:
    with pytest.raises(ValueError, match="cut-offs"):
        retrieve(torch.eye(2), torch.eye(2), ks=(0, 1))
    with pytest.raises(ValueError, match="at least one"):
        nearest(torch.eye(2), torch.eye(2), 0)
