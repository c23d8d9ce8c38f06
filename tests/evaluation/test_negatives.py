"""Figures of chosen negatives against naive computations on the same tensors."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from earsight.evaluation import negatives
from earsight.evaluation.negatives import (
    DRAWS,
    Direction,
    Encoded,
    categories,
    directions,
    draw,
    gradient_norms,
    posed,
    pretext_accuracy,
    sizes_for,
    unique_categories,
    with_product,
)
from earsight.methods.choice import RULES, Queries
from earsight.methods.momentum import PosteriorConfig

CLIPS, D, H, SEED = 70, 5, 4, 3
NORMALISED = PosteriorConfig(choice_normalise=True, choice_temperature=0.3)


@pytest.fixture
def encoded():
    g = torch.Generator().manual_seed(0)

    def made(size):
        return torch.randn(CLIPS, size, generator=g)

    weights = {name: torch.randn(D, H, generator=g) for name in ("video", "audio")}
    inputs = {name: made(H) for name in weights}
    return Encoded(
        step=7,
        keys={name: made(D) for name in weights},
        queries={name: Queries(inputs[name] @ w.T, inputs[name]) for name, w in weights.items()},
    )


def test_batch_and_pool_are_apart_and_the_same_again():
    for size in (8, 16):
        batch, pool = draw(200, size, 4, SEED)
        assert (len(batch), len(pool)) == (size, min(16 * size, 200 - size))
        assert len({*batch.tolist(), *pool.tolist()}) == len(batch) + len(pool)
        again = draw(200, size, 4, SEED)
        assert torch.equal(batch, again[0])
        assert torch.equal(pool, again[1])
    assert not torch.equal(draw(200, 8, 4, SEED)[0], draw(200, 8, 5, SEED)[0])


def test_as_many_are_chosen_as_leave_something_to_choose():
    assert [sizes_for(clips) for clips in (23, 24, 48, 96)] == [[], [8], [8, 16], [8, 16, 32]]


def test_products_hold_every_combination_and_miss_what_one_misses():
    digit, speaker = np.array([0, 0, 1, 1, -1, 0]), np.array([0, 1, 0, 0, 0, -1])
    found = with_product({"digit": digit, "speaker": speaker})
    product = found["digit × speaker"]
    assert list(found) == ["digit", "speaker", "digit × speaker"]
    assert (product >= 0).tolist() == [True, True, True, True, False, False]
    assert product[2] == product[3]
    assert categories(product) == 3
    assert list(with_product({"digit": digit})) == ["digit"]


def test_unique_categories_are_counted_among_the_chosen(encoded):
    labels = {"kind": np.random.default_rng(0).integers(-1, 6, CLIPS)}
    found = unique_categories(encoded, labels, settings=NORMALISED, within=False, seed=SEED)
    assert len(found) == 2 * 2 * len(RULES)
    for one in found:
        counts = []
        for number in range(DRAWS):
            batch, pool = draw(CLIPS, one.size, number, SEED)
            chosen = RULES[one.rule](
                posed(
                    encoded,
                    one.direction,
                    batch,
                    pool,
                    settings=NORMALISED,
                    number=number,
                    seed=SEED,
                )
            )
            assert len(set(chosen.tolist())) == one.size
            kinds = {int(labels["kind"][row]) for row in pool[chosen]}
            counts.append(len(kinds - {-1}))
        assert one.value == pytest.approx(np.mean(counts))
        assert one.error == pytest.approx(np.std(counts, ddof=1) / np.sqrt(DRAWS))
        assert (one.step, one.categories) == (7, 6)


def test_hard_examples_are_those_of_highest_loss(encoded):
    batch, pool = draw(CLIPS, 8, 0, SEED)
    direction = Direction("audio", "video")
    settings = PosteriorConfig()
    chosen = RULES["ohem"](
        posed(encoded, direction, batch, pool, settings=settings, number=0, seed=SEED)
    )
    scores = encoded.keys["video"][pool] @ encoded.queries["audio"].outputs[batch].T
    losses = F.cross_entropy(scores, scores.argmax(dim=1), reduction="none")
    assert set(chosen.tolist()) == set(losses.argsort(descending=True)[:8].tolist())


@pytest.mark.parametrize("settings", [PosteriorConfig(), NORMALISED], ids=["plain", "normalised"])
@pytest.mark.parametrize("direction", directions(False) + directions(True), ids=str)
def test_norms_are_those_of_the_gradients(encoded, settings, direction, monkeypatch):
    monkeypatch.setattr(negatives, "DRAWS", 2)
    found = gradient_norms(encoded, direction, settings=settings, seed=SEED)
    size = sizes_for(CLIPS)[-1]
    chosen, random, residuals = [], [], []
    for number in range(2):
        batch, pool = draw(CLIPS, size, number, SEED)
        norms = []
        for row in pool:
            norm, residual = naive_gradient(encoded, direction, settings, batch, int(row))
            norms.append(norm)
            residuals.append(residual)
        for rule, every in (("cm-acc", chosen), ("random-pool", random)):
            at = RULES[rule](
                posed(
                    encoded,
                    direction,
                    batch,
                    pool,
                    settings=settings,
                    number=number,
                    seed=SEED,
                )
            )
            every += [norms[n] for n in at]
    assert found.chosen.numpy() == pytest.approx(np.array(chosen), rel=1e-3, abs=1e-4)
    assert found.random.numpy() == pytest.approx(np.array(random), rel=1e-3, abs=1e-4)
    assert found.residuals.numpy() == pytest.approx(np.array(residuals), rel=1e-4, abs=1e-6)
    assert [norm for _, norm in found.best] == sorted(found.chosen[:size].tolist(), reverse=True)
    assert [norm for _, norm in found.others] == found.random[:size].tolist()


def naive_gradient(encoded, direction, settings, batch, row):
    """Norm of the gradient of eq. 5 by autograd, and of the residual, in float64."""
    queries = encoded.queries[direction.query]
    inputs = queries.inputs.double()
    # The layer that made the outputs, found again.
    weight = torch.linalg.lstsq(inputs, queries.outputs.double()).solution.T.requires_grad_()
    q, k = inputs[batch] @ weight.T, encoded.keys[direction.key][row].double()
    if settings.choice_normalise:
        q, k = F.normalize(q, dim=1), F.normalize(k, dim=0)
    scores = q @ k / settings.choice_temperature
    label = scores.argmax()
    (gradient,) = torch.autograd.grad(F.cross_entropy(scores, label), weight)
    residual = scores.detach().softmax(dim=0) - F.one_hot(label, len(batch))
    return float(gradient.norm()), float(residual.norm())


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_pretext_accuracy_is_the_share_of_all_dictionaries(count, normalise, monkeypatch):
    monkeypatch.setattr(negatives, "_QUERIES", 4)
    g = torch.Generator().manual_seed(1)
    keys = torch.randn(9, D, generator=g)
    queries = keys + torch.randn(9, D, generator=g)
    keys[5] = keys[4]
    found = pretext_accuracy(queries, keys, count, normalise=normalise)
    scores = queries @ keys.T
    if normalise:
        scores = F.normalize(queries, dim=1) @ F.normalize(keys, dim=1).T
    for row in range(9):
        others = [other for other in range(9) if other != row]
        won = [
            all(scores[row, row] > scores[row, other] for other in chosen)
            for chosen in combinations(others, count)
        ]
        assert float(found[row]) == pytest.approx(np.mean(won), abs=1e-9)
