"""Retrieval by class against loops and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from earsight.evaluation.class_retrieval import retrieve_classes


def sample(queries=30, gallery=50, classes=4, seed=0):
    draw = torch.Generator().manual_seed(seed)
    q = torch.randn(queries, 8, generator=draw, dtype=torch.float64)
    g = torch.randn(gallery, 8, generator=draw, dtype=torch.float64)
    return q, g, torch.arange(queries) % classes, torch.arange(gallery) % classes


def by_loop(q, g, asked, known, k):
    """Recall, ranks and average precision, one query at a time."""
    recall, ranks, precision = [], [], []
    for x, label in zip(q, asked, strict=True):
        scores = torch.nn.functional.cosine_similarity(x[None], g).numpy()
        right = (known == label).numpy()
        order = np.argsort(-scores)
        ranks.append(1 + int(np.flatnonzero(right[order])[0]))
        recall.append(ranks[-1] <= k)
        precision.append(average_precision_score(right, scores))
    return np.mean(recall), np.median(ranks), np.mean(precision)


def test_figures_are_those_of_a_loop_and_of_scikit_learn():
    q, g, asked, known = sample()
    found = retrieve_classes(q, g, asked, known)
    for k in (1, 5, 10):
        recall, median, precision = by_loop(q, g, asked, known, k)
        assert found.recall[k] == pytest.approx(recall)
        assert found.median_rank == pytest.approx(median)
        assert found.precision == pytest.approx(precision)


def test_random_features_are_at_chance():
    classes, size = 6, 60
    names = ("R@1", "R@5", "median_rank", "mAP")
    values = {name: [] for name in names}
    for seed in range(60):
        found = retrieve_classes(*sample(60, size, classes, seed), seed=seed).metrics()
        for name in names:
            values[name].append(found[name].value)
    for name in names:
        mean, chance = np.mean(values[name]), found[name].chance
        error = np.std(values[name]) / np.sqrt(60)
        assert abs(mean - chance) < 4 * error + (0.5 if name == "median_rank" else 0)


def test_equal_similarities_are_no_better_than_chance():
    asked, known = torch.arange(40) % 4, torch.arange(400) % 4
    found = retrieve_classes(torch.ones(40, 3), torch.ones(400, 3), asked, known, seed=1)
    assert found.precision == pytest.approx(0.25, abs=0.06)


def test_several_labels_agree_where_one_is_shared():
    q, g, asked, known = sample()
    one = torch.nn.functional.one_hot
    several = retrieve_classes(q, g, one(asked, 4), one(known, 4))
    assert several.metrics() == retrieve_classes(q, g, asked, known).metrics()


def test_items_without_a_label_are_left_out_of_the_gallery():
    q, g, asked, known = sample()
    some = torch.arange(len(g)) % 3 > 0
    alone = retrieve_classes(q, g[some], asked, known[some]).metrics()
    assert retrieve_classes(q, g, asked, torch.where(some, known, -1)).metrics() == alone
    one = torch.nn.functional.one_hot
    several = one(known, 4) * some[:, None]
    assert retrieve_classes(q, g, one(asked, 4), several).metrics() == alone
    with pytest.raises(ValueError, match="nothing in the gallery has a label"):
        retrieve_classes(q, g, asked, torch.full_like(known, -1))


def test_queries_without_an_item_of_their_class_are_left_out():
    q, g, asked, known = sample()
    asked = torch.where(asked == 3, -1, asked)
    assert retrieve_classes(q, g, asked, known).n == int((asked >= 0).sum())
    with pytest.raises(ValueError, match="no query"):
        retrieve_classes(q, g, asked + 100, known)
