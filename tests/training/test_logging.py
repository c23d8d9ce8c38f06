"""Where a run writes: lines, a log, and the extras that are asked for."""

import importlib.util
import json
import warnings

import pytest

from earsight import api
from earsight.config import LogConfig
from earsight.training.logging import RunLog, cut_metrics, require_extras


def test_lines_past_a_step_and_torn_lines_are_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n{"step": 4}\n{"step": 5}\n{"step": 6, "lo')
    cut_metrics(path, 4)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 4]


def test_a_log_writes_lines_and_text(tmp_path, capsys):
    log = RunLog(tmp_path, LogConfig(), steps=10)
    log.note("something happened")
    log.metrics("train", 3, 0.33333333, {"loss": 1.5})
    log.progress(3, "loss 1.5")
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[1] == {"kind": "train", "step": 3, "epoch": 0.3333, "loss": 1.5}
    assert (tmp_path / "log.txt").read_text().endswith("something happened\n")
    shown = capsys.readouterr().err
    assert "something happened" in shown
    assert "step 3/10  loss 1.5" in shown


def test_tensorboard_gets_every_figure(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log = RunLog(tmp_path, LogConfig(tensorboard=True), steps=1, quiet=True)
        log.metrics("train", 1, 1.0, {"loss": 2.0})
        log.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()


@pytest.mark.skipif(
    importlib.util.find_spec("wandb") is not None, reason="the extra is installed here"
)
def test_an_extra_that_is_not_installed_is_named_before_anything_is_made(corpus, small, tmp_path):
    with pytest.raises(ValueError, match=r"pip install 'earsight\[wandb\]'"):
        require_extras(LogConfig(wandb=True))
    config = api.configure("tiny", settings=[*small, f"data.corpus={corpus}", "log.wandb=true"])
    with pytest.raises(ValueError, match=r"earsight\[wandb\]"):
        api.pretrain(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
