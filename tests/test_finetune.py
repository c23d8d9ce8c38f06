"""Supervised runs and fine-tuning, on a few rendered clips."""

import itertools
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from earsight import api
from earsight.config import ConfigError
from earsight.errors import StoppedError
from earsight.evaluation.results import read_evaluation
from earsight.training import loop as loop_module
from earsight.training.checkpoint import (
    CheckpointError,
    checkpoint_path,
    load_checkpoint,
    save_checkpoint,
    steps_saved,
)
from earsight.training.setup import build_method, build_model, open_data
from earsight.training.targets import class_codes, target_of, with_classes

CPU = torch.device("cpu")
QUICK = ("train.epochs=2", "train.epoch_samples=16", "train.batch=8", "optimizer.warmup_steps=1")


def supervised(corpus, small, *settings):
    plain = [s for s in small if not s.startswith(("method", "optimizer"))]
    return api.configure(
        "tiny-supervised",
        settings=[*plain, "method.label=shape", f"data.corpus={corpus}", *settings],
    )


@pytest.fixture
def run(finished, tmp_path):
    """A finished run of its own for each test."""
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    return copy


def test_a_supervised_run_has_one_encoder_and_named_classes(corpus, small, tmp_path):
    config = supervised(corpus, small, "method.modality=audio")
    figures = api.pretrain(config, tmp_path / "run", quiet=True)
    assert set(figures) >= {"classify/audio/shape/Sample@1", "classify/audio/shape/Clip@1"}
    model = load_file(tmp_path / "run" / "encoders.safetensors")
    assert {name.split(".")[1] for name in model if name.startswith("model.")} == {
        "audio_encoder",
        "audio_head",
    }
    loaded = api.load_run(tmp_path / "run", CPU)
    classes = loaded.config.method.classes
    vocabulary = open_data(config).train.vocabulary["shape"]
    assert set(classes) <= set(vocabulary)
    assert loaded.encoder.model.audio_head.projection[0].out_features == len(classes)
    evaluation = api.evaluate(tmp_path / "run", "classify")
    assert {row.metric: row.value for row in evaluation.rows}["Sample@1"] == pytest.approx(
        figures["classify/audio/shape/Sample@1"]
    )
    probed = api.evaluate(tmp_path / "run", "probe", settings=["evaluation.blocks=[pooled]"])
    assert {row.modality for row in probed.rows} == {"audio"}
    found = api.evaluate(tmp_path / "run", "retrieve")
    assert {row.modality for row in found.rows} == {"audio-audio"}


def test_a_supervised_run_goes_on_with_its_own_labels_only(media, corpus, small, tmp_path):
    run, other = tmp_path / "run", tmp_path / "other.parquet"
    api.pretrain(supervised(corpus, small, "train.epochs=1"), run, quiet=True)
    lines = (media / "labels.csv").read_text().splitlines()
    at = lines[0].split(",").index("shape")
    rows = [line.split(",") for line in lines[1:]]
    for first, second in itertools.pairwise(rows):
        if first[at] != second[at]:
            first[at], second[at] = second[at], first[at]
            break
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join([lines[0], *map(",".join, rows)]))
    api.scan([str(media)], other, labels=labels, workers=0)
    more = api.run_config(run, preset=None, config=None, corpus=other, settings=[], resume=True)
    with pytest.raises(CheckpointError, match="2 instances have another shape"):
        api.pretrain(more, run, resume=True, quiet=True)
    saved = checkpoint_path(run, steps_saved(run)[-1])
    state = load_checkpoint(saved)
    del state["labels"]  # As of runs made before they were kept.
    save_checkpoint(saved, state)
    api.pretrain(more, run, resume=True, quiet=True)


def test_batches_carry_the_classes_of_their_rows(corpus, small):
    config = supervised(corpus, small)
    data = open_data(config)
    config = with_classes(config, data.train)
    parts = loop_module.Parts(
        model=None,
        wrapped=None,
        method=build_method(config, len(data.train), CPU),
        inputs=None,
        optimizer=None,
    )
    clips = api.training_clips(config, data, loop_module.Plan.of(config, len(data.train)), parts)
    batch = clips[0]
    names = data.train.vocabulary["shape"]
    for row, code in zip(batch.row.tolist(), batch.labels.tolist(), strict=True):
        assert names[data.train.labels["shape"][row]] == config.method.classes[code]


def test_instances_without_the_label_are_left_out_and_counted(media, small, tmp_path):
    lines = (media / "labels.csv").read_text().splitlines()
    at = lines[0].split(",").index("shape")
    for number in (1, 2, 3):
        cells = lines[number].split(",")
        cells[at] = ""
        lines[number] = ",".join(cells)
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    manifest = tmp_path / "c.parquet"
    api.scan([str(media)], manifest, labels=tmp_path / "labels.csv", workers=0)
    config = supervised(manifest, small)
    data = open_data(config)
    assert data.left_out["without shape"] == 3
    assert (data.train.labels["shape"] >= 0).all()
    assert len(data.train) == len(open_data(config, learning=False).train) - 3
    config = with_classes(config, data.train)
    codes = class_codes(open_data(config, learning=False).train, target_of(config))
    assert int((codes < 0).sum()) == 3


def test_shares_are_nested_and_hold_every_class(corpus, small):
    keys, counts = {}, {}
    for share in (0.01, 0.3, 0.7, 1.0):
        train = open_data(supervised(corpus, small, f"data.share={share}")).train
        keys[share] = set(train.key.tolist())
        counts[share] = np.bincount(train.labels["shape"])
    assert keys[0.01] < keys[0.3] < keys[0.7] < keys[1.0]
    for share, count in counts.items():
        expected = [max(1, round(share * n)) if n else 0 for n in counts[1.0]]
        assert count.tolist() == expected
    other = open_data(supervised(corpus, small, "data.share=0.3", "seed=1")).train
    assert set(other.key.tolist()) != keys[0.3]
    with pytest.raises(ConfigError, match="share: must lie"):
        supervised(corpus, small, "data.share=0")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["method.label=colour"], "no column 'colour'"),
        (['method.classes=["a", "a"]'], "each once"),
        (['method.label=""'], "name the label column"),
    ],
)
def test_bad_targets(corpus, small, settings, message):
    with pytest.raises(ValueError, match=message):
        open_data(supervised(corpus, small, *settings))


def test_finetuning_starts_from_the_encoder_and_is_done_once(run, monkeypatch):
    starts = []
    real = loop_module.Loop.fit

    def noted(self):
        starts.append({n: x.clone() for n, x in self.parts.model.state_dict().items()})
        real(self)

    monkeypatch.setattr(loop_module.Loop, "fit", noted)
    asked = {"modality": "video", "label": "shape", "share": 0.5, "settings": QUICK, "quiet": True}
    first = api.finetune(run, **asked)
    pretrained = api.load_run(run, CPU).encoder.model.video_encoder.state_dict()
    assert all(torch.equal(starts[0][f"video_encoder.{n}"], x) for n, x in pretrained.items())
    assert {(row.task, row.modality, row.label, row.metric) for row in first.rows} == {
        ("finetune", "video", "shape", metric) for metric in ("Sample@1", "Clip@1")
    }
    assert read_evaluation(run / "evaluation" / f"{first.name}.json").rows == first.rows
    assert api.finetune(run, **asked).time == first.time
    assert len(starts) == 1
    with pytest.raises(ConfigError, match=r"optimizer\.lr"):
        api.finetune(run, **{**asked, "settings": (*QUICK, "optimizer.lr=0.5")})
    scratch = api.finetune(run, **asked, scratch=True)
    assert scratch.name != first.name
    config = api.load_run(run / scratch.weights, CPU).config
    fresh = build_model(config, CPU).state_dict()
    assert all(torch.equal(starts[1][n], x) for n, x in fresh.items())
    assert config.optimizer == api.load_run(run / first.weights, CPU).config.optimizer
    trained_further = run / "encoders.safetensors"
    trained_further.write_bytes(trained_further.read_bytes() + b" ")
    with pytest.raises(ValueError, match="has started from encoders that"):
        api.finetune(run, **asked)
    assert api.finetune(run, **asked, scratch=True).time == scratch.time


def test_a_stopped_finetuning_goes_on_to_the_same_figures(run, tmp_path, monkeypatch):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    asked = {"modality": "audio", "label": "material", "settings": QUICK, "quiet": True}
    whole = api.finetune(run, **asked)
    real = loop_module.Loop.save

    def stopping(self):
        real(self)
        raise StoppedError(15, "stopped")

    with monkeypatch.context() as patched:
        patched.setattr(loop_module.Loop, "save", stopping)
        with pytest.raises(StoppedError, match="same command again"):
            api.finetune(other, **asked)
    again = api.finetune(other, **asked)
    assert again.rows == whole.rows
    one, two = (
        load_file(r / e.weights / "encoders.safetensors") for r, e in ((run, whole), (other, again))
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_settings_of_its_own_are_refused(run):
    with pytest.raises(ConfigError, match="is decided by modality"):
        api.finetune(run, modality="video", label="shape", settings=["method.label=material"])


def test_probes_of_blocks_are_kept_and_need_no_media(finished, corpus, media, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("evaluation"))
    first = api.evaluate(run, "probe")
    blocks = {(row.modality, row.block) for row in first.rows}
    assert blocks == {
        (modality, block)
        for modality in ("video", "audio")
        for block in ("pooled", "1", "2", "3", "4")
    }
    files = sorted((run / "evaluation" / "features").iterdir())
    assert len(files) == 4
    read = json.loads((run / "evaluation" / "probe.json").read_text())
    assert {row["block"] for row in read["results"]} == {"pooled", "1", "2", "3", "4"}
    hidden = media.with_name("hidden")
    media.rename(hidden)
    try:
        second = api.evaluate(run, "probe", settings=["data.max_failures=1.0"])
        pooled = api.evaluate(run, "knn", settings=["data.max_failures=1.0"])
    finally:
        hidden.rename(media)
    assert second.rows == first.rows
    assert any("read from" in note for note in second.details["notes"])
    assert {row.block for row in pooled.rows} == {"pooled"}
    assert sorted((run / "evaluation" / "features").iterdir()) == files
    api.evaluate(run, "probe", settings=["evaluation.clips=2", "evaluation.blocks=[2]"])
    assert len(list((run / "evaluation" / "features").iterdir())) == 8
