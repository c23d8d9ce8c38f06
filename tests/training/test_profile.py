"""Where time and memory of a step go."""

import gzip
import json
import subprocess
import sys

import pytest
import torch

from earsight import api, cli
from earsight.training import spans
from earsight.training.spans import PARTS, Clock

XMOCO = ("method.name=xmoco", "method.dictionary=8", "method.momentum=0.9")


def test_time_in_a_part_within_another_counts_for_the_inner(monkeypatch):
    now = 0.0
    monkeypatch.setattr(spans.time, "perf_counter", lambda: now)
    clock = Clock(torch.device("cpu"))
    for _ in range(2):
        with clock("loss"):
            now += 1
            with clock("encoders, forward"):
                now += 10
            now += 2
        now += 100  # in no part
        with clock("backward"):
            now += 5
    assert clock.seconds == {"loss": 6.0, "encoders, forward": 20.0, "backward": 10.0}


def test_a_profile_shows_every_part_and_leaves_only_its_trace(corpus, small, tmp_path):
    config = api.configure("tiny", settings=[*small, f"data.corpus={corpus}"])
    found = api.profile(config, tmp_path / "trace.json.gz")
    assert tuple(found.parts) == tuple(part for part in PARTS if part != "key encoders")
    assert all(seconds >= 0 for seconds in found.parts.values())
    assert found.parts["backward"] > 0
    assert found.step_seconds > 0
    assert len(found.operations) == 8
    assert found.memory.peak > found.memory.weights > 0
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json.gz"]
    with gzip.open(tmp_path / "trace.json.gz") as file:
        events = json.load(file)["traceEvents"]
    assert {event["name"] for event in events} >= set(found.parts)
    text = str(found)
    assert "waiting for clips" in text
    assert "activations" in text
    with pytest.raises(ValueError, match=r"trace\.json\.gz exists already"):
        api.profile(config, tmp_path / "trace.json.gz")


def test_momentum_encoders_are_a_part_of_their_own(corpus, small, tmp_path):
    own = [s for s in small if "method." not in s]
    settings = [*own, *XMOCO, "train.accumulate=2", f"data.corpus={corpus}"]
    found = api.profile(api.configure("tiny", settings=settings), tmp_path / "trace.json")
    assert tuple(found.parts) == PARTS
    assert found.parts["key encoders"] > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [("none/trace.json", "there is no folder"), ("trace.txt", r"must end in \.json")],
)
def test_a_trace_that_cannot_be_written_is_refused_first(corpus, small, tmp_path, name, message):
    config = api.configure("tiny", settings=[*small, f"data.corpus={corpus}"])
    with pytest.raises(ValueError, match=message):
        api.profile(config, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_command_makes_no_run_and_prints_nothing_else(corpus, small, tmp_path):
    words = ["pretrain", "--preset", "tiny", "--corpus", str(corpus), "-o", str(tmp_path / "run")]
    words += ["--profile", str(tmp_path / "trace.json")]
    command = [sys.executable, "-W", "error", "-m", "earsight", *words, "--json", *small]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["memory"]["peak"] > 0
    assert found["parts"]["backward"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]


def test_one_thing_at_a_time(corpus, tmp_path, capsys):
    words = ["pretrain", "--preset", "tiny", "--corpus", str(corpus), "-o", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as left:
        cli.main([*words, "--dry-run", "--profile", str(tmp_path / "trace.json")])
    assert left.value.code == 2
    assert "choose one" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
