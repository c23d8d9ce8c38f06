"""Retrieval both ways against a random pairing, held against naive loops."""

import math

import numpy as np
import pytest
import torch

from earsight.evaluation.retrieval import retrieve, retrieve_both_ways


def unit(seed, count, dim=6):
    x = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=1)


def naive_log_rank(row, match):
    """The mean over the places that equal candidates share."""
    better = sum(s > row[match] + 1e-9 for s in row)
    equal = sum(abs(s - row[match]) <= 1e-9 for s in row)
    return np.mean([math.log(rank) for rank in range(better + 1, better + equal + 1)])


def tables(first, second):
    similarity = (first @ second.T).numpy()
    size = len(similarity)
    return np.array(
        [
            [
                (naive_log_rank(similarity[i], j) + naive_log_rank(similarity.T[j], i)) / 2
                for j in range(size)
            ]
            for i in range(size)
        ]
    )


@pytest.mark.parametrize("equal", [False, True])
def test_figures_are_those_of_every_pairing(equal):
    first, second = unit(0, 6), unit(1, 6)
    if equal:
        second[3] = second[1]
    scores = retrieve_both_ways(first, second)
    table = tables(first, second)
    assert scores.mean_log_rank == pytest.approx(table.diagonal().mean(), abs=1e-9)
    from itertools import permutations

    means = [
        np.mean([table[i, p] for i, p in enumerate(pairing)]) for pairing in permutations(range(6))
    ]
    assert np.mean(means) == pytest.approx(scores.mean_log_rank_chance, abs=1e-9)
    assert np.std(means) == pytest.approx(scores.deviation, rel=1e-9)


def test_it_is_the_mean_of_both_directions():
    first, second = unit(2, 50), unit(3, 50)
    both = retrieve_both_ways(first, second)
    ways = retrieve(first, second), retrieve(second, first)
    assert both.mean_log_rank == pytest.approx(np.mean([way.mean_log_rank for way in ways]))
    assert both.mean_log_rank_chance == pytest.approx(ways[0].mean_log_rank_chance)


def test_random_pairs_stay_within_two_deviations_as_often_as_they_should():
    apart = []
    for seed in range(200):
        first, second = unit(seed, 40).float(), unit(1000 + seed, 40).float()
        scores = retrieve_both_ways(first, second)
        apart.append((scores.mean_log_rank - scores.mean_log_rank_chance) / scores.deviation)
    assert np.mean(np.abs(apart) < 1.96) == pytest.approx(0.95, abs=0.04)


def test_too_few_or_too_many_pairs_are_left_out(monkeypatch):
    assert retrieve_both_ways(unit(0, 1), unit(1, 1)) is None
    monkeypatch.setattr("earsight.evaluation.retrieval._MOST_PAIRS", 10)
    assert retrieve_both_ways(unit(0, 11), unit(1, 11)) is None
