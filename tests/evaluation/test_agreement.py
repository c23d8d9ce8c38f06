"""Precision of positives, calibration and memory features against naive computations."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from earsight.evaluation.agreement import (
    counts_up_to,
    precision_rows,
    precisions,
    same_label_chance,
)
from earsight.evaluation.memory import memory_rows, split_groups


def test_precisions_equal_a_naive_loop():
    g = np.random.default_rng(0)
    codes = g.integers(-1, 3, 30)
    queries = np.arange(0, 30, 2)
    positives = np.stack([g.permutation(30)[:6] for _ in queries])
    positives[3, 4:] = -1
    values, n = precisions(torch.from_numpy(positives), queries, codes)
    for count, value in zip((1, 2, 4, 6), values, strict=True):
        shares = []
        for query, found in zip(queries, positives, strict=True):
            known = [p for p in found[:count] if p >= 0 and codes[p] >= 0]
            if codes[query] >= 0 and known:
                shares.append(np.mean([codes[p] == codes[query] for p in known]))
        assert value == pytest.approx(np.mean(shares))
    assert n == sum(
        codes[q] >= 0 and any(p >= 0 and codes[p] >= 0 for p in found)
        for q, found in zip(queries, positives, strict=True)
    )


def test_chance_is_that_of_random_positives():
    codes = np.array([0, 0, 0, 1, 1, -1])
    pairs = [(a, b) for a in range(5) for b in range(5) if a != b]
    expected = np.mean([codes[a] == codes[b] for a, b in pairs])
    assert same_label_chance(codes) == pytest.approx(expected)
    assert same_label_chance(np.array([-1, 2])) == 0.0


def test_rows_name_criterion_label_and_count():
    positives = torch.tensor([[1, 2, 3], [0, 2, 3]])
    rows = precision_rows("min", positives, np.array([0, 1]), {"kind": np.array([0, 0, 1, 0])})
    assert [(row.modality, row.label, row.metric) for row in rows] == [
        ("min", "kind", f"precision@{count}") for count in (1, 2, 3)
    ]
    assert [row.value for row in rows] == pytest.approx([1.0, 0.5, 2 / 3])
    assert counts_up_to(1) == [1]
    assert counts_up_to(32) == [1, 2, 4, 8, 16, 32]


def test_splits_keep_groups_whole_and_take_about_their_share():
    groups = np.array([f"g{n // 4}" for n in range(400)], dtype=object)
    splits = [split_groups(groups, 0.3, 7, number) for number in range(5)]
    for split in splits:
        assert split.sum() == 120
        assert not set(groups[split]) & set(groups[~split])
    assert len({tuple(split) for split in splits}) == 5
    uneven = np.array(["a"] * 9 + ["b"], dtype=object)
    assert split_groups(uneven, 0.3, 0, 0).sum() in (1, 9)
    with pytest.raises(ValueError, match="two groups"):
        split_groups(np.array(["a", "a"], dtype=object), 0.3, 0, 0)


def test_memory_features_tell_classes_where_they_differ():
    g = torch.Generator().manual_seed(0)
    codes = np.arange(120) % 3
    centres = torch.randn(3, 8, generator=g)
    video = F.normalize(centres[codes] + 0.1 * torch.randn(120, 8, generator=g), dim=1)
    audio = F.normalize(torch.randn(120, 8, generator=g), dim=1)
    groups = np.array([str(n) for n in range(120)], dtype=object)
    rows = memory_rows({"video": video, "audio": audio}, {"kind": codes}, groups, seed=3)
    found = {(row.modality, row.metric): row.value for row in rows}
    assert set(found) == {
        (name, metric)
        for name in ("video", "audio", "both")
        for metric in ("accuracy", "accuracy_deviation")
    }
    assert found["video", "accuracy"] > 0.95
    assert found["video", "accuracy_deviation"] < 0.05
    assert 0.15 < found["audio", "accuracy"] < 0.55
    assert found["both", "accuracy"] > 0.9
