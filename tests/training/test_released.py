"""What of a released checkpoint is used, what is not, and what is refused."""

import argparse
import zipfile

import pytest
import torch

from earsight.training.released import read_released


def saved(path, state, **options):
    torch.save(state, path, **options)
    return path


def statuses(released, status):
    return {key.name: key.about for key in released.keys if key.status == status}


def test_every_key_is_accounted_for(released, tmp_path):
    state = {**released(), "scheduler": {"last": 3}}
    found = read_released(saved(tmp_path / "avid.pth", state))
    assert found.criterion == "AVID"
    assert found.epoch == 200
    assert found.partition == 2.5
    assert found.architecture == {
        "video_encoder": {"name": "r2plus1d", "depth": 18, "width": 4},
        "audio_encoder": {"name": "conv2d-audio", "width": 4},
        "head": {"hidden": [32, 32], "dim": 8, "norm": False},
    }
    used = statuses(found, "used")
    assert set(used) == {
        *(f"model.{name}" for name in state["model"]),
        "train_criterion.criterion.avg_exp_score",
        "epoch",
    }
    assert len(found.weights) == len(state["model"]) == 267
    assert set(statuses(found, "unused")) == {
        "train_criterion.nce_average.view1_mem",
        "train_criterion.nce_average.view2_mem",
        "train_criterion.nce_average.multinomial.prob",
        "train_criterion.nce_average.multinomial.alias",
        "optimizer.state",
        "optimizer.param_groups",
        "scheduler",
    }
    assert statuses(found, "missing") == {}
    bank = statuses(found, "unused")["train_criterion.nce_average.view1_mem"]
    assert bank.startswith("unused until")
    assert "6 instances" in bank


@pytest.mark.parametrize("old_format", [False, True])
def test_cma(released, tmp_path, old_format):
    options = {"_use_new_zipfile_serialization": not old_format}
    path = saved(tmp_path / "cma.pth", released(cma=True), **options)
    assert zipfile.is_zipfile(path) != old_format
    found = read_released(path)
    assert found.criterion == "AVID-CMA"
    assert found.partition == 3.0
    unused = statuses(found, "unused")
    assert "by CMA: 32 rows" in unused["train_criterion.nce_average.positive_set"]
    assert "never set" in unused["train_criterion.criterion_unset.avg_exp_score"]


def test_weights_alone(released, tmp_path):
    path = saved(tmp_path / "bare.pth", {"model": released()["model"]})
    found = read_released(path)
    assert (found.criterion, found.partition, found.epoch) == ("", None, None)
    assert set(statuses(found, "missing")) == {
        "train_criterion.criterion.avg_exp_score",
        "train_criterion.nce_average.view1_mem",
        "train_criterion.nce_average.view2_mem",
        "optimizer",
        "epoch",
    }


def refused(path):
    with pytest.raises(ValueError) as caught:
        read_released(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("old_format", [False, True])
def test_a_file_that_needs_code_is_refused(released, tmp_path, old_format):
    state = {**released(), "args": argparse.Namespace(lr=1)}
    options = {"_use_new_zipfile_serialization": not old_format}
    text = refused(saved(tmp_path / "code.pth", state, **options))
    assert "argparse.Namespace" in text
    assert "refused" in text


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.999])
def test_a_truncated_file(released, tmp_path, old_format, share):
    options = {"_use_new_zipfile_serialization": not old_format}
    path = saved(tmp_path / "whole.pth", released(), **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "cut short" in refused(path) or "damaged" in refused(path)


@pytest.mark.parametrize(
    "content", [b"hello world, this is text\n", b"\xff\xd8\xff\xe0" + bytes(range(256)), b"(lp0\n."]
)
def test_no_checkpoint(tmp_path, content):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    assert "no checkpoint" in refused(path)


def test_other_files(tmp_path):
    assert "cannot be read" in refused(tmp_path / "none.pth")
    assert "cannot be read" in refused(tmp_path)
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as file:
        file.writestr("a.txt", "hello")
    assert "no checkpoint" in refused(tmp_path / "plain.zip")
    assert "no named entries" in refused(saved(tmp_path / "list.pth", [1, 2]))
    assert "it has no model, but state_dict" in refused(
        saved(tmp_path / "other.pth", {"state_dict": {}})
    )
    assert "no state of named tensors" in refused(saved(tmp_path / "odd.pth", {"model": [1]}))


def without(state, part):
    return {name: x for name, x in state.items() if part not in name}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: without(m, "conv4x.1"), "(2, 2, 1, 2) blocks"),
        (lambda m: without(m, "video_proj"), "lacks its heads, module.video_proj."),
        (lambda m: without(m, "audio_model.conv1.0"), "lacks module.audio_model.conv1.0.weight"),
        (lambda m: {**m, "fc.weight": torch.ones(1)}, "'fc.weight' is no key of a released"),
        (
            lambda m: {**m, "module.video_proj.projection.4.weight": torch.ones(9, 32)},
            "heads have layers of (32, 32, 9) and (32, 32, 8)",
        ),
        (
            lambda m: {**m, "module.video_model.conv1.1.bias": torch.full((4,), torch.nan)},
            "module.video_model.conv1.1.bias holds NaN",
        ),
    ],
)
def test_other_architectures(released, tmp_path, change, said):
    state = released()
    state["model"] = change(state["model"])
    assert said in refused(saved(tmp_path / "other.pth", state))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("criterion.avg_exp_score", torch.ones(3), "should be one number"),
        ("nce_average.view1_mem", torch.ones(6, 9), "does not fit"),
        ("nce_average.view2_mem", torch.ones(5, 8), "does not fit"),
        ("nce_average.positive_set", torch.ones(6), "does not fit"),
        ("nce_average.view1_mem", [1.0], "no state of named tensors"),
    ],
)
def test_criteria_of_wrong_shapes(released, tmp_path, name, value, said):
    state = released(cma=True)
    state["train_criterion"][name] = value
    assert said in refused(saved(tmp_path / "wrong.pth", state))


def test_an_odd_epoch(released, tmp_path):
    assert "no count of epochs" in refused(saved(tmp_path / "x.pth", {**released(), "epoch": "a"}))
