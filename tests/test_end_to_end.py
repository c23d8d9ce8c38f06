"""A tiny run leaves exactly the files it should, and its evaluation reads them alone."""

import json
import sys

import pytest
import torch
import yaml

from earsight import api
from earsight.corpus.manifest import read
from earsight.evaluation.results import read_evaluation


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_run_leaves_exactly_these_files(finished):
    left = [name for name in files(finished) if not name.startswith("evaluation/")]
    assert left == [
        ".lock",
        "checkpoints/step-000000004.pt",
        "checkpoints/step-000000008.pt",
        "config.yaml",
        "encoders.safetensors",
        "log.txt",
        "metrics.jsonl",
    ]


def test_metrics_say_what_happened(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert lines[0] == {"kind": "header", "schema": 1, "step": 0}
    train = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in train] == list(range(1, 9))
    wanted = {"loss", "lr", "gradient_norm", "clips_per_second", "wait", "time", "failures"}
    assert all(wanted <= set(line) for line in train)
    assert all(line["lr"] > 0 for line in train)
    (last,) = [line for line in lines if line["kind"] == "evaluation"]
    assert last["step"] == 8
    assert last["retrieval/video-audio/chance/R@1"] == pytest.approx(1 / 12)
    assert 0 <= last["probe/audio/material/accuracy"] <= 1


def test_the_log_names_versions_and_machine(finished):
    text = (finished / "log.txt").read_text()
    for wanted in ("earsight", "torch", "processor", "instances to train on", "done"):
        assert wanted in text


def test_the_configuration_is_resolved(finished, corpus):
    tree = yaml.safe_load((finished / "config.yaml").read_text())
    assert tree["schema"] == 1
    assert tree["data"]["corpus"] == str(corpus)
    assert tree["method"]["temperature"] == 0.07


def test_a_corpus_that_a_setting_names_is_found_from_everywhere(
    corpus, small, tmp_path, monkeypatch
):
    monkeypatch.chdir(corpus.parent)
    config = api.configure("tiny", settings=[*small, f"data.corpus={corpus.name}"])
    api.pretrain(config, tmp_path / "run", quiet=True)
    monkeypatch.chdir(tmp_path)
    tree = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert tree["data"]["corpus"] == str(corpus.resolve())


def test_a_run_repeats_itself(finished, corpus, small, tmp_path):
    config = api.configure("tiny", settings=[*small, f"data.corpus={corpus}"])
    api.pretrain(config, tmp_path / "again", quiet=True)
    one, two = (
        api.load_run(run, torch.device("cpu")).encoder.model.state_dict()
        for run in (finished, tmp_path / "again")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("task", ["retrieve", "knn", "probe"])
def test_each_evaluation_stands_beside_baseline_and_chance(finished, task):
    evaluation = api.evaluate(finished, task)
    read = read_evaluation(finished / "evaluation" / f"{task}.json")
    assert read.rows == evaluation.rows
    assert all(row.baseline is not None for row in evaluation.rows)
    scored = [row for row in evaluation.rows if row.task != "geometry"]
    assert {row.metric for row in scored if row.chance is None} <= {"mean_log_rank_deviation"}
    if task == "retrieve":
        pairs = {row.modality for row in scored if row.label is None}
        assert pairs == {"video-audio", "audio-video", "both"}
        assert {row.modality for row in scored if row.label} == {
            *("video-audio", "audio-video"),
            *("video-video", "audio-audio"),
        }
        assert {row.n for row in scored} == {12}
    else:
        assert {(row.modality, row.label) for row in scored} == {
            (modality, label) for modality in ("video", "audio") for label in ("shape", "material")
        }


def test_the_baseline_is_the_run_before_its_first_step(finished, corpus, small, tmp_path):
    """Its figures are those of a model that is built anew from the seed."""
    with_baseline = api.evaluate(finished, "probe")
    alone = api.evaluate(finished, "probe", baseline=False)
    assert [row.value for row in alone.rows] == [row.value for row in with_baseline.rows]
    assert all(row.baseline is None for row in alone.rows)
    assert any(row.value != row.baseline for row in with_baseline.rows)


def test_self_avid_retrieves_within_modalities_alone(corpus, small, tmp_path):
    config = api.configure(
        "tiny-self", settings=[*small, f"data.corpus={corpus}", "train.epochs=1"]
    )
    figures = api.pretrain(config, tmp_path / "run", quiet=True)
    assert not any(name.startswith("retrieval") for name in figures)
    found = api.evaluate(tmp_path / "run", "retrieve")
    directions = {row.modality for row in found.rows if row.task == "retrieve"}
    assert directions == {"video-video", "audio-audio"}
    assert any("trains no space" in note for note in found.details["notes"])
    unlabelled = tmp_path / "unlabelled.parquet"
    api.scan([str(next(iter(read(corpus).roots.values())))], unlabelled, workers=0)
    with pytest.raises(ValueError, match="trains no space"):
        api.evaluate(tmp_path / "run", "retrieve", corpus=unlabelled)


def test_an_evaluation_changes_nothing_that_was_learned(finished):
    with pytest.raises(ValueError, match="decides what was learned"):
        api.evaluate(finished, "knn", settings=["method.temperature=0.5"])


def test_a_second_run_is_no_setting(finished):
    with pytest.raises(ValueError, match=r"'runs/b': settings are written section\.name=value"):
        api.evaluate(finished, "knn", settings=["runs/b"])


def test_labels_that_are_not_there_are_named(finished):
    with pytest.raises(ValueError, match=r"no column 'colour'.*material"):
        api.evaluate(finished, "knn", settings=["evaluation.labels=[colour]"])


@pytest.mark.parametrize("dry", [True, False], ids=["dry run", "run"])
def test_what_a_run_refuses_is_said_before_anything_is_decoded(
    corpus, small, finished, tmp_path, monkeypatch, dry
):
    def opened(*_, **__):
        raise AssertionError("the corpus was opened")

    monkeypatch.setattr("earsight.api.learn.open_data", opened)
    monkeypatch.setattr("earsight.training.run.open_data", opened)
    work = api.dry_run if dry else api.pretrain
    settings = [*small, f"data.corpus={corpus}"]
    with pytest.raises(ValueError, match="exists already"):
        work(api.configure("tiny", settings=settings), finished)
    with pytest.raises(ValueError, match=r"encoders\.safetensors"):
        work(api.configure("tiny", settings=[*settings, "start=../nothing"]), tmp_path / "run")
    usable = api.configure("tiny", settings=[*settings, f"start={finished}"])
    with pytest.raises(AssertionError, match="was opened"):
        work(usable, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_dry_run_names_extras_that_are_missing(corpus, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = api.configure("tiny", settings=[*small, f"data.corpus={corpus}", "log.wandb=true"])
    with pytest.raises(ValueError, match="wandb"):
        api.dry_run(config)


def test_a_dry_run_estimates_and_leaves_nothing(corpus, small, tmp_path):
    config = api.configure("tiny", settings=[*small, f"data.corpus={corpus}"])
    estimate = api.dry_run(config)
    assert estimate.steps == 8
    assert estimate.parameters > 1000
    assert 0 < estimate.predicted_mib < estimate.peak_mib
    assert estimate.loss > 0
    assert 0 < estimate.hours < 1
    assert list(tmp_path.iterdir()) == []


OF_CM_ACC = (
    "video_encoder.name=resnet3d",
    "video_encoder.width=2",
    "video_encoder.depth=10",
    "audio_encoder.name=resnet1d-audio",
    "audio_encoder.width=2",
    "audio_encoder.bands=24",
    "audio.spectrogram=mel",
    "audio.bands=24",
    "audio.padding=zeros",
    "video.short_side=36",
    "video.crop_area=[0.08,1.0]",
    "video.jitter=0.5",
    "video.grayscale=0.2",
    "train.epochs=1",
)


def test_encoders_and_inputs_of_cm_acc_train_and_are_evaluated(corpus, small, tmp_path):
    config = api.configure("tiny", settings=[*small, *OF_CM_ACC, f"data.corpus={corpus}"])
    assert api.dry_run(config).loss > 0
    figures = api.pretrain(config, tmp_path / "run", quiet=True)
    assert 0 <= figures["probe/audio/material/accuracy"] <= 1
    loaded = api.load_run(tmp_path / "run", torch.device("cpu"))
    assert loaded.inputs.audio == config.audio
    assert loaded.inputs.normalise.mean.shape == (24,)
    blocks = api.evaluate(tmp_path / "run", "probe", settings=["evaluation.blocks=[1,4]"])
    assert all(0 <= row.value <= 1 for row in blocks.rows if row.metric == "accuracy")


def test_milestones_that_change_nothing_are_named(finished):
    text = (finished / "log.txt").read_text()
    assert "optimizer.milestones: [54] come after the last epoch" in text
