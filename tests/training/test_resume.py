"""Killed at any step and resumed, a run logs and learns what it would have uninterrupted."""

import json
import os
import signal
import time
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import forked
from earsight import api
from earsight.api import learn
from earsight.config import ConfigError, as_tree, parse
from earsight.errors import StoppedError
from earsight.training.alone import BusyError, alone_in
from earsight.training.checkpoint import CheckpointError, steps_saved
from earsight.training.resume import check_settings
from earsight.training.run_folder import read_config
from forked import Forked

SETTINGS = ("train.checkpoint_every=3", "train.log_every=2", "train.epochs=3")


def command(run, corpus, small, *extra):
    arguments = ["--preset", "tiny", "--corpus", str(corpus), *small, *SETTINGS]
    if "--resume" in extra:
        arguments = []
    return ["-m", "earsight", "pretrain", "-o", str(run), *arguments, *extra]


def train_lines(run, kinds=("train",)):
    """The training lines, or others, without what is timed."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timed = {"time", "clips_per_second", "wait"}
    return [
        {k: v for k, v in line.items() if k not in timed} for line in lines if line["kind"] in kinds
    ]


def start_and_signal(arguments, run, number, at_step):
    """Start training, send a signal once the step is logged, and return the exit code."""
    process = Forked(arguments)
    metrics = run / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and f'"step": {at_step}' in metrics.read_text():
            break
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def finish(arguments):
    """Train to the end."""
    done = forked.run(arguments)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def uninterrupted(corpus, small, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    finish(command(run, corpus, small))
    return run


@pytest.mark.parametrize(("at_step", "workers"), [(4, 0), (6, 2)])
def test_killed_and_resumed_equals_uninterrupted(
    uninterrupted, corpus, small, tmp_path, at_step, workers
):
    run = tmp_path / "run"
    code, _ = start_and_signal(command(run, corpus, small), run, signal.SIGKILL, at_step)
    assert code == -signal.SIGKILL
    assert steps_saved(run)
    resume = command(run, corpus, small, "--resume", f"data.workers={workers}")
    finish(resume)
    assert train_lines(run) == train_lines(uninterrupted)
    learned, expected = (load_file(r / "encoders.safetensors") for r in (run, uninterrupted))
    assert learned.keys() == expected.keys()
    assert all(torch.equal(learned[name], expected[name]) for name in learned)
    about, wanted = (inputs_of(r / "encoders.safetensors") for r in (run, uninterrupted))
    assert about == wanted
    assert about["audio_statistics_clips"] > 0


def inputs_of(path):
    """What a file of encoders says of their inputs."""
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["inputs"])


def test_killed_before_the_first_checkpoint_starts_over(uninterrupted, corpus, small, tmp_path):
    run = tmp_path / "run"
    start_and_signal(command(run, corpus, small), run, signal.SIGKILL, 2)
    for file in (run / "checkpoints").glob("*"):
        file.unlink()
    finish(command(run, corpus, small, "--resume"))
    assert train_lines(run) == train_lines(uninterrupted)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_leaves(uninterrupted, corpus, small, tmp_path, number, code):
    run = tmp_path / "run"
    found, errors = start_and_signal(command(run, corpus, small), run, number, 2)
    assert found == code
    assert "--resume goes on" in errors
    assert "Traceback" not in errors
    assert steps_saved(run)
    finish(command(run, corpus, small, "--resume"))
    assert train_lines(run) == train_lines(uninterrupted)


@pytest.fixture(scope="module")
def evaluating(corpus, small, tmp_path_factory):
    """Settings that evaluate after both epochs of 4 steps, a run of them and its last figures."""
    run = tmp_path_factory.mktemp("evaluated") / "run"
    settings = [*small, f"data.corpus={corpus}", "evaluation.every=1"]
    config = api.configure("tiny", settings=settings)
    return config, run, api.pretrain(config, run, quiet=True)


@pytest.mark.parametrize(("happens", "epoch"), [("signal", 1), ("crash", 1), ("crash", 2)])
def test_stopped_in_an_evaluation_it_is_made_and_nothing_learned_twice(
    evaluating, tmp_path, monkeypatch, happens, epoch
):
    config, whole, figures = evaluating
    run, real = tmp_path / "run", learn.online

    def online(*arguments):
        evaluate = real(*arguments)

        def stopping(now):
            if now == epoch and happens == "crash":
                raise KeyboardInterrupt
            if now == epoch:
                os.kill(os.getpid(), signal.SIGTERM)
            return evaluate(now)

        return stopping

    error, told = {
        "signal": (StoppedError, "SIGTERM after step 4;"),
        "crash": (KeyboardInterrupt, None),
    }[happens]
    monkeypatch.setattr(learn, "online", online)
    with pytest.raises(error, match=told):
        api.pretrain(config, run, quiet=True)
    monkeypatch.undo()
    assert steps_saved(run)[-1] == 4 * epoch
    assert api.pretrain(config, run, resume=True, quiet=True) == figures
    kinds = ("train", "evaluation")
    assert train_lines(run, kinds) == train_lines(whole, kinds)
    assert sum(line["kind"] == "evaluation" for line in train_lines(whole, kinds)) == 2


def test_a_run_that_another_process_trains_is_left_alone(finished):
    config = read_config(finished)
    before = (finished / "metrics.jsonl").read_bytes()
    with alone_in(finished), pytest.raises(BusyError, match="another process is training it"):
        api.pretrain(config, finished, resume=True, quiet=True)
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_another_configuration_is_refused_with_every_difference(finished, small):
    config = api.run_config(
        finished,
        preset=None,
        config=None,
        corpus=None,
        settings=["method.negatives=4", "optimizer.lr=0.5", "log.tensorboard=true"],
        resume=True,
    )
    with pytest.raises(ConfigError) as caught:
        api.pretrain(config, finished, resume=True, quiet=True)
    assert [fault.split(":")[0] for fault in caught.value.faults] == [
        "method.negatives",
        "optimizer.lr",
    ]


def test_ranks_may_begin_to_share_a_bank_but_not_change_its_precision(finished):
    settings = ["method.bank=sharded", "method.storage=float16"]
    changed = api.run_config(
        finished, preset=None, config=None, corpus=None, settings=settings, resume=True
    )
    with pytest.raises(ConfigError) as caught:
        check_settings(read_config(finished), changed)
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["method.storage"]


def test_another_corpus_is_refused(finished, media, tmp_path):
    other = tmp_path / "other.parquet"
    fewer = [str(media / "train" / f"{n:04d}.mp4") for n in range(20)]
    api.scan(fewer, other, workers=0)
    config = api.run_config(
        finished, preset=None, config=None, corpus=other, settings=[], resume=True
    )
    with pytest.raises(CheckpointError, match=r"the corpus has changed .*lost.*gained"):
        api.pretrain(config, finished, resume=True, quiet=True)


def test_a_finished_run_resumes_to_more_epochs(corpus, small, tmp_path):
    run = tmp_path / "run"
    config = api.configure("tiny", settings=[*small, f"data.corpus={corpus}", "train.epochs=1"])
    api.pretrain(config, run, quiet=True)
    more = api.run_config(
        run, preset=None, config=None, corpus=None, settings=["train.epochs=2"], resume=True
    )
    api.pretrain(more, run, resume=True, quiet=True)
    assert [line["step"] for line in train_lines(run)] == list(range(1, 9))


def test_a_run_that_goes_on_has_no_encoders_until_it_ends_again(corpus, small, tmp_path):
    run = tmp_path / "run"
    config = api.configure("tiny", settings=[*small, f"data.corpus={corpus}", "train.epochs=1"])
    api.pretrain(config, run, quiet=True)
    api.load(run, device="cpu")
    more = api.run_config(
        run, preset=None, config=None, corpus=None, settings=["train.epochs=2"], resume=True
    )

    def stop(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.pretrain(more, run, resume=True, quiet=True, watch=stop)
    with pytest.raises(ValueError, match="finished"):
        api.load(run, device="cpu")


def test_a_cache_on_the_device_is_not_begun_or_ended_midway(finished):
    before = read_config(finished)
    check_settings(before, replace(before, data=replace(before.data, cache="disk")))
    resized = replace(before, data=replace(before.data, cache="device"))
    for old, new in ((before, resized), (resized, before)):
        with pytest.raises(ConfigError, match=r"data\.cache"):
            check_settings(old, new)


DROPPED = """
from torch import nn
from earsight.config import AUDIO_ENCODERS, section
from earsight.encoders.conv2d_audio import Conv2DAudio


@section
class DroppedConfig:
    name: str = "dropped"


class Dropped(Conv2DAudio):
    def __init__(self):
        super().__init__(width=4, strides=(2, 2, 2, 2))
        self.drop = nn.Dropout(0.5)

    def pool(self, activation):
        return self.drop(super().pool(activation))


@AUDIO_ENCODERS.register("dropped", DroppedConfig)
def build(settings):
    return Dropped()
"""


def test_what_an_encoder_draws_is_drawn_again(corpus, small, tmp_path, monkeypatch):
    (tmp_path / "dropped_sound.py").write_text(DROPPED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    plain = [text for text in small if not text.startswith("audio_encoder")]
    own = ["plugins=[dropped_sound]", "audio_encoder.name=dropped", "data.workers=1"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    finish(command(whole, corpus, plain, *own))
    start_and_signal(command(stopped, corpus, plain, *own), stopped, signal.SIGTERM, 2)
    assert not (stopped / "encoders.safetensors").exists()
    finish(command(stopped, corpus, plain, "--resume"))
    assert train_lines(stopped) == train_lines(whole)


def test_what_key_encoders_draw_for_a_pool_is_the_seeds_alone(corpus, small, tmp_path, monkeypatch):
    (tmp_path / "dropped_keys.py").write_text(DROPPED.replace('"dropped"', '"dropped-keys"'))
    monkeypatch.syspath_prepend(tmp_path)
    plain = [text for text in small if not text.startswith(("audio_encoder", "method."))]
    own = ["plugins=[dropped_keys]", "audio_encoder.name=dropped-keys", "train.epochs=1"]
    pool = ["method.name=cm-acc", "method.dictionary=8", "method.pool=24", "method.momentum=0.9"]
    config = api.configure("tiny", settings=[*plain, *own, *pool, f"data.corpus={corpus}"])
    runs = [tmp_path / "one", tmp_path / "other"]
    for number, run in enumerate(runs):
        torch.manual_seed(number)
        api.pretrain(config, run, quiet=True)
    assert train_lines(runs[0]) == train_lines(runs[1])


def test_resuming_takes_no_preset(finished):
    with pytest.raises(ConfigError, match="leave --preset, --config and --from out"):
        api.run_config(finished, preset="tiny", config=None, corpus=None, settings=[], resume=True)


def test_settings_that_are_newer_than_a_run_had_their_defaults():
    config = api.configure("tiny", settings=["data.corpus=c.parquet"])
    before = as_tree(config)
    del before["video"]["short_side"]
    check_settings(parse(before), config)
    other = replace(config, video=replace(config.video, short_side=72))
    with pytest.raises(ConfigError, match="short_side"):
        check_settings(parse(before), other)
