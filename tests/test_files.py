"""What a run needs to go on is, on a full disk, what it was before."""

import os
from dataclasses import replace

import pytest
import torch

from earsight import api
from earsight.config import write_yaml
from earsight.files import write_whole
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
