import math

import pytest

from earsight.config import OptimizerConfig
from earsight.training.schedule import learning_rate


def rates(config, steps=100, per_epoch=10):
    return [learning_rate(config, step, steps, per_epoch) for step in range(steps)]


def test_warm_up_rises_linearly_to_the_rate():
    found = rates(OptimizerConfig(lr=1.0, warmup_steps=4))
    assert found[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert found[-1] == 1.0


def test_multistep_falls_at_its_milestones():
    found = rates(OptimizerConfig(lr=1.0, schedule="multistep", milestones=(3, 6), gamma=0.5))
    assert (found[29], found[30], found[59], found[60]) == (1.0, 0.5, 0.5, 0.25)


def test_cosine_falls_to_nothing_after_the_last_step():
    found = rates(OptimizerConfig(lr=2.0, schedule="cosine", warmup_steps=20))
    assert found[20] == pytest.approx(2.0)
    assert found[60] == pytest.approx(1.0)
    assert found[99] == pytest.approx(1 + math.cos(math.pi * 79 / 80), abs=1e-9)
    assert found[99] < 0.001
