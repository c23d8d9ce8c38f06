"""Figures over folds and seeds, against means and deviations by hand."""

from dataclasses import replace

import numpy as np
import pytest

from earsight.evaluation.repeats import Repeat, combine
from earsight.evaluation.rows import Row

ACCURACY = Row(task="memory", modality="video", label="digit", metric="accuracy", value=0.5, n=10)


def repeat(seed, fold, value, own):
    rows = [replace(ACCURACY, value=value)]
    if own is not None:
        rows.append(replace(ACCURACY, metric="accuracy_deviation", value=own))
    return Repeat(seed=seed, fold=fold, rows=tuple(rows))


def by_name(rows):
    names = [row.metric for row in rows]
    assert len(set(names)) == len(names), "two figures of one name"
    return {row.metric: row for row in rows}


def test_means_of_folds_are_averaged_over_seeds():
    given = {(0, 1): 0.2, (0, 2): 0.4, (1, 1): 0.6, (1, 2): 0.7}
    found = by_name(combine([repeat(*at, value, None) for at, value in given.items()]))
    assert found["accuracy"].value == pytest.approx(np.mean([0.3, 0.65]))
    assert found["accuracy"].n == 20
    assert found["accuracy_deviation"].value == pytest.approx(np.std([0.3, 0.65], ddof=1))
    assert found["accuracy_low"].value < 0.475 < found["accuracy_high"].value


def test_a_deviation_that_was_measured_is_not_mixed_with_that_of_the_seeds():
    found = by_name(combine([repeat(0, 0, 0.4, 0.02), repeat(1, 0, 0.8, 0.04)]))
    assert set(found) == {"accuracy", "accuracy_deviation", "accuracy_low", "accuracy_high"}
    assert found["accuracy_deviation"].value == pytest.approx(0.03)
