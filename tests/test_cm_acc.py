"""Momentum contrast end to end: trained, resumed bit for bit, evaluated in its own spaces."""

import pytest
import torch

from earsight import api
from earsight.errors import StoppedError
from earsight.training.resume import last_checkpoint

OWN = ("head.fcl=true", "method.dictionary=8", "method.momentum=0.9", "optimizer.milestones=[1]")
METHODS = {
    "smoco": (),
    "xmoco": ("method.union=0.2", "method.union_positives=true"),
    "random-pool": ("method.pool=24",),
    "ohem": ("method.pool=24", "method.choice_normalise=true"),
    "feature": ("method.pool=24", "method.pool_source=recent"),
    "cm-acc": ("method.pool=null",),
}


def momentum_config(corpus, small, name, *more):
    plain = [text for text in small if not text.startswith(("optimizer.", "method."))]
    own = [f"data.corpus={corpus}", f"method.name={name}", *OWN, *METHODS[name]]
    return api.configure("tiny", settings=[*plain, *own, *more])


@pytest.fixture(scope="module")
def runs(corpus, small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("momentum")
    for name in METHODS:
        api.pretrain(momentum_config(corpus, small, name), folder / name, quiet=True)
    return folder


@pytest.mark.parametrize("name", METHODS)
def test_stopped_and_resumed_it_ends_alike(runs, corpus, small, tmp_path, name):
    again = tmp_path / "again"

    def stop(step, of):
        if step == 3:
            raise StoppedError(15, "stopped")

    config = momentum_config(corpus, small, name, "train.checkpoint_every=1")
    with pytest.raises(StoppedError):
        api.pretrain(config, again, quiet=True, watch=stop)
    config = api.run_config(again, preset=None, config=None, corpus=None, settings=[], resume=True)
    api.pretrain(config, again, resume=True, quiet=True)
    whole, resumed = last_checkpoint(runs / name), last_checkpoint(again)
    assert whole["step"] == resumed["step"]
    for part in ("model", "method"):
        assert whole[part].keys() == resumed[part].keys()
        assert all(torch.equal(x, resumed[part][n]) for n, x in whole[part].items())


def test_the_pool_is_encoded_anew_each_epoch_and_its_cost_told(runs):
    log = (runs / "cm-acc" / "log.txt").read_text()
    assert log.count("clips encoded in") == 2
    assert "waiting for them" in log
    assert "clips encoded" in (runs / "xmoco" / "log.txt").read_text()


def test_retrieval_goes_from_queries_to_keys(runs):
    evaluation = api.evaluate(runs / "cm-acc", "retrieve")
    directions = {
        row.modality for row in evaluation.rows if row.label is None and row.metric == "R@1"
    }
    assert directions == {"video-audio", "audio-video"}
    (both,) = [r for r in evaluation.rows if (r.modality, r.metric) == ("both", "mean_log_rank")]
    ways = [r.value for r in evaluation.rows if r.metric == "mean_log_rank" and r is not both]
    assert both.value == pytest.approx(sum(ways) / 2)
    probed = api.evaluate(runs / "cm-acc", "probe", baseline=False)
    assert {row.modality for row in probed.rows} == {"video", "audio"}


def test_key_encoders_are_loaded_with_the_run(runs):
    loaded = api.load_run(runs / "xmoco", torch.device("cpu"))
    saved = last_checkpoint(runs / "xmoco")["method"]
    for name, x in loaded.encoder.method.keys.state_dict().items():
        assert torch.equal(x, saved[f"key_encoders.{name}"])


def test_smoco_retrieves_within_modalities_alone(runs):
    found = api.evaluate(runs / "smoco", "retrieve")
    directions = {row.modality for row in found.rows if row.task == "retrieve"}
    assert directions == {"video-video", "audio-audio"}
    assert any("trains no space" in note for note in found.details["notes"])


def test_what_does_not_fit_is_told_before_anything_is_made(corpus, small, tmp_path):
    config = momentum_config(corpus, small, "cm-acc", "method.dictionary=33", "method.pool=4")
    with pytest.raises(ValueError, match="2 settings cannot be used") as refused:
        api.pretrain(config, tmp_path / "run", quiet=True)
    assert "method.dictionary: 33 keys are more than the 32" in str(refused.value)
    assert "method.pool: 4 candidates are fewer than" in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "own"), [("smoco", ()), ("cm-acc", ("method.pool=16",))])
def test_a_dry_run_needs_no_dictionary(corpus, small, name, own):
    config = momentum_config(corpus, small, name, *own)
    found = api.dry_run(config)
    assert found.steps > 0
    method, epochs = config.method, config.train.epochs
    assert found.encoded == method.dictionary + epochs * getattr(method, "pool", 0)
    assert f"{found.encoded} clips encoded" in str(found)


def test_a_dictionary_that_the_batch_does_not_divide(corpus, small, tmp_path):
    config = momentum_config(corpus, small, "cm-acc", "method.dictionary=7")
    api.pretrain(config, tmp_path / "run", quiet=True)
    state = last_checkpoint(tmp_path / "run")["method"]
    assert (state["dictionaries.video.rows"] >= 0).all()
