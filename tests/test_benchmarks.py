"""Benchmarks run, at their quick sizes."""

import math
from pathlib import Path

import pytest

from earsight.bench import bench, find

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("name", find(FOLDER))
def test_a_benchmark_runs(name):
    (outcome,) = bench([name], folder=FOLDER, quick=True).outcomes
    if outcome.report is None and outcome.reason.endswith("is missing: nothing measured"):
        pytest.skip(outcome.reason)
    assert outcome.report is not None, outcome.reason
    targets = outcome.report["targets"]
    assert bool(targets) != ("left_out" in outcome.report)
    assert all(math.isfinite(target["measured"]) for target in targets)
