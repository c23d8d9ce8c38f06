"""Benchmarks run, at their quick sizes."""

import json
import math
from pathlib import Path

import pytest

import forked
from earsight.bench import find

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("name", find(FOLDER))
def test_a_benchmark_runs(name, tmp_path):
    figures = tmp_path / "figures.json"
    done = forked.run([f"{FOLDER / name}.py", "--quick", "--json", figures], tmp_path)
    if done.stderr.rstrip().endswith("is missing: nothing measured"):
        pytest.skip(done.stderr)
    # 1 where a target is missed.
    assert done.returncode in {0, 1}, done.stderr
    assert figures.exists(), done.stderr
    report = json.loads(figures.read_text())
    assert bool(report["targets"]) != ("left_out" in report)
    assert all(math.isfinite(target["measured"]) for target in report["targets"])
