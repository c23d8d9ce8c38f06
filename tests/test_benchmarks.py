"""Benchmarks run, at their quick sizes."""

import math
import os
from pathlib import Path

import pytest

from earsight.bench import bench, find

FOLDER = Path(__file__).parents[1] / "benchmarks"
SLOW = {"active", "cache", "embed", "mining_scale", "processes", "training"}
"""Half a minute to two each, for they start many processes: run where there is time."""


@pytest.mark.parametrize("name", find(FOLDER))
def test_a_benchmark_runs(name):
    if name in SLOW and "EARSIGHT_ALL_BENCHMARKS" not in os.environ:
        pytest.skip("takes long; EARSIGHT_ALL_BENCHMARKS=1 runs it")
    (outcome,) = bench([name], folder=FOLDER, quick=True).outcomes
    if outcome.report is None and outcome.reason.endswith("is missing: nothing measured"):
        pytest.skip(outcome.reason)
    assert outcome.report is not None, outcome.reason
    targets = outcome.report["targets"]
    assert bool(targets) != ("left_out" in outcome.report)
    assert all(math.isfinite(target["measured"]) for target in targets)
