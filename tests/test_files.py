"""What a run needs to go on is, on a full disk, what it was before."""

import errno
import os
import resource
import shutil
from dataclasses import replace

import pytest
import torch

from earsight import api
from earsight.config import write_yaml
from earsight.files import write_whole
from earsight.tensor_files import write_tensors
from earsight.training.logging import cut_metrics
from earsight.training.run_folder import save_encoders
from earsight.training.setup import blank_inputs, build_model


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "encoders.safetensors"])
def test_a_full_disk_leaves_what_a_run_had(small, tmp_path, monkeypatch, name):
    config = replace(api.configure("tiny", settings=small), start="elsewhere")
    model = build_model(config, torch.device("cpu"))
    writes = {
        "config.yaml": lambda: write_yaml(tmp_path / name, config),
        "metrics.jsonl": lambda: cut_metrics(tmp_path / name, 4),
        "encoders.safetensors": lambda: save_encoders(
            tmp_path, model, blank_inputs(config), config
        ),
    }
    before = '{"step": 4}\n{"step": 5}\n'
    (tmp_path / name).write_text(before)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            writes[name]()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == before
    writes[name]()
    assert (tmp_path / name).read_bytes() != before.encode()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_ill_encoded_names_do_not_stop_a_write(tmp_path):
    write_whole(tmp_path / "x.txt", "caf\udce9")
    assert (tmp_path / "x.txt").read_text() == "caf?"


def test_tensors_that_find_no_room_leave_what_there_was(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"x": torch.zeros(4)}, {"schema": "1"})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_tensors(path, {"x": torch.zeros(10_000)}, {"schema": "1"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_tensors_may_be_read_by_whom_other_files_may_be(tmp_path):
    (tmp_path / "plain").touch()
    write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(4)}, {})
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_features_that_cannot_be_kept_are_computed_and_told(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("evaluation"))
    (run / "evaluation").mkdir()
    (run / "evaluation" / "features").write_text("in the way")
    found = api.evaluate(run, "knn", baseline=False)
    assert found.rows
    assert any("features are not kept" in note for note in found.details["notes"])
