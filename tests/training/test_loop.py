"""The step and the loop, on a few rendered clips."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from earsight import api
from earsight.config import as_tree, parse
from earsight.training import step
from earsight.training.plan import Plan
from earsight.training.setup import build_parts, clip_settings, fit_inputs, open_data
from earsight.training.step import gradient_norm, make_optimizer, train_step
from earsight.training.window import NonFiniteError

CPU = torch.device("cpu")


@pytest.fixture
def ready(corpus, small):
    """Configuration, parts and training clips."""
    config = api.configure("tiny", settings=[*small, f"data.corpus={corpus}"])
    data = open_data(config)
    parts = build_parts(config, fit_inputs(config, data, 0), len(data.train), CPU)
    plan = Plan.of(config, len(data.train))
    return config, parts, api.training_clips(config, data, plan, parts)


def batches(clips):
    number = 0
    while True:
        yield clips[number]
        number += 1


def state_of(parts):
    return copy.deepcopy([parts.model.state_dict(), parts.optimizer.state_dict()["state"]])


def test_a_step_changes_weights_and_bank(ready):
    config, parts, clips = ready
    before, bank = state_of(parts)[0], copy.deepcopy(parts.method.state_dict())
    taken = train_step(config, parts, batches(clips), CPU)
    after = parts.model.state_dict()
    assert taken.finite
    assert {"loss", "gradient_norm"} <= set(taken.metrics)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    rows = taken.rows
    assert torch.equal(rows, taken.batches[0].row)
    visited = parts.method.state_dict()["bank.visited"]
    assert visited[rows].all()
    assert int(visited.sum()) == len(rows.unique())
    assert int(bank["bank.visited"].sum()) == 0


def test_a_loss_that_is_no_number_changes_no_weight(ready):
    config, parts, clips = ready
    train_step(config, parts, batches(clips), CPU)
    before = state_of(parts)
    poisoned = clips[1]
    view = {**poisoned.views[0], "audio": torch.full_like(poisoned.views[0]["audio"], torch.nan)}
    taken = train_step(config, parts, iter([replace(poisoned, views=(view,))]), CPU)
    assert not taken.finite
    parameters = dict(parts.model.named_parameters())
    for name, value in parameters.items():
        assert torch.equal(value, before[0][name]), name
    moments = parts.optimizer.state_dict()["state"]
    for number, state in before[1].items():
        assert all(torch.equal(state[k], moments[number][k]) for k in ("exp_avg", "exp_avg_sq"))


def test_accumulation_equals_the_whole_batch_without_batch_norm(ready, corpus, small):
    """Micro-batches see the bank as it was, so gradients are those of the whole batch."""
    _, whole, clips = ready
    # In bfloat16, where the processor has it, gradients would be rounded more than they differ.
    exact = [*small, f"data.corpus={corpus}", "train.precision=float32"]
    config = api.configure("tiny", settings=exact)
    halves = copy.deepcopy(whole)
    halves.optimizer = make_optimizer(config, halves.model, CPU)
    for parts in (whole, halves):
        parts.model.eval()
        # The partition is set by the first scores seen; fixed, both see the same.
        parts.method.partition.fill_(2.0)
    split = api.configure("tiny", settings=[*exact, "train.accumulate=2"])
    small_clips = copy.copy(clips)
    small_clips.batch = clips.batch // 2
    one = train_step(config, whole, batches(clips), CPU).metrics
    taken = train_step(split, halves, batches(small_clips), CPU)
    two = taken.metrics
    assert len(taken.batches) == 2
    assert float(two["loss"]) == pytest.approx(float(one["loss"]), rel=1e-5)
    assert float(two["gradient_norm"]) == pytest.approx(float(one["gradient_norm"]), rel=1e-4)
    first, second = (dict(p.model.named_parameters()) for p in (whole, halves))
    for name, value in first.items():
        torch.testing.assert_close(second[name].grad, value.grad, rtol=1e-3, atol=1e-5)


def test_clipping_scales_the_gradient(ready):
    config, parts, clips = ready
    limited = parse({**as_tree(config), "optimizer": {"clip_norm": 0.01}})
    metrics = train_step(limited, parts, batches(clips), CPU).metrics
    assert float(metrics["gradient_norm"]) > 0.01
    assert float(gradient_norm(parts.model)) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("size", "settings", "message"),
    [
        (5, {}, r"the corpus has 5 usable training instances, fewer than a batch of 8"),
        (50, {"epoch_samples": 6}, r"train\.epoch_samples has 6"),
    ],
)
def test_a_batch_needs_enough_instances(ready, size, settings, message):
    config = replace(ready[0], train=replace(ready[0].train, **settings))
    with pytest.raises(ValueError, match=message):
        Plan.of(config, size)


def test_a_run_stops_where_the_loss_is_no_number_and_names_the_clips(
    corpus, small, tmp_path, monkeypatch
):
    config = api.configure("tiny", settings=[*small, f"data.corpus={corpus}", "train.log_every=3"])
    real = step.prepare

    def poisoned(config, inputs, batch, *more):
        ready = real(config, inputs, batch, *more)
        if 8 in batch.index.tolist():
            ready.views[0]["audio"].fill_(torch.nan)
        return ready

    monkeypatch.setattr(step, "prepare", poisoned)
    with pytest.raises(NonFiniteError, match=r"[0-9a-f]{16} .*mp4.*new run") as caught:
        api.pretrain(config, tmp_path / "run", quiet=True)
    assert len(caught.value.rows) == 8
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["header"]
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_clip_settings_carry_the_seed(ready):
    assert clip_settings(ready[0]).seed == ready[0].seed


def test_a_finished_run_gone_on_with_has_its_figures(corpus, small, tmp_path):
    config = api.configure("tiny", settings=[*small, f"data.corpus={corpus}"])
    figures = api.pretrain(config, tmp_path / "run", quiet=True)
    assert figures
    assert api.pretrain(config, tmp_path / "run", quiet=True, resume=True) == figures


def test_settings_that_change_nothing_are_told(media, small, tmp_path):
    api.scan([str(media / "train")], tmp_path / "all.parquet", workers=0)
    settings = [*small, f"data.corpus={tmp_path / 'all.parquet'}", "data.holdout=0"]
    settings += ["optimizer.warmup_steps=500", "evaluation.every=1"]
    api.pretrain(api.configure("tiny", settings=settings), tmp_path / "run", quiet=True)
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "optimizer.warmup_steps" in log
    assert "evaluation.every: no instances are held out" in log


def test_a_run_may_be_made_beside_the_main_thread(corpus, small, tmp_path):
    config = api.configure("tiny", settings=[*small, f"data.corpus={corpus}"])
    with ThreadPoolExecutor(1) as pool:
        figures = pool.submit(api.pretrain, config, tmp_path / "run", quiet=True).result()
    assert figures
