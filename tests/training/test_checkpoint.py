import subprocess
import sys

import pytest
import torch

from earsight.training.checkpoint import (
    CheckpointError,
    checkpoint_path,
    load_checkpoint,
    prune,
    save_checkpoint,
    steps_saved,
)


def test_a_checkpoint_reads_back(tmp_path):
    path = checkpoint_path(tmp_path, 7)
    save_checkpoint(path, {"step": 7, "weights": {"w": torch.arange(3)}})
    state = load_checkpoint(path)
    assert state["step"] == 7
    assert state["weights"]["w"].tolist() == [0, 1, 2]
    assert [p.name for p in path.parent.iterdir()] == ["step-000000007.pt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such checkpoint"),
        (b"", "no checkpoint that can be read"),
        (b"PK\x03\x04 nonsense", "no checkpoint that can be read"),
    ],
)
def test_what_is_no_checkpoint_is_said(tmp_path, content, message):
    path = tmp_path / "c.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_a_truncated_checkpoint_is_said(tmp_path):
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"step": 1, "weights": torch.zeros(10_000)})
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="delete it to resume from the one before"):
        load_checkpoint(path)


def test_another_schema_is_refused(tmp_path):
    torch.save({"schema": 99, "step": 1}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="has schema 99"):
        load_checkpoint(tmp_path / "c.pt")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"schema": 1, "evil": Evil()}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="no checkpoint that can be read"):
        load_checkpoint(tmp_path / "c.pt")
    assert not (tmp_path / "owned").exists()


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from earsight.training.checkpoint import DiskError, save_checkpoint
path = Path(sys.argv[1])
save_checkpoint(path, {"step": 1})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(path, {"step": 2, "weights": torch.zeros(1_000_000)})
except DiskError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    path = tmp_path / "c.pt"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True
    )
    assert "could not be written" in done.stdout
    assert "--resume" in done.stdout
    assert load_checkpoint(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_pruning_keeps_the_last_and_the_named(tmp_path):
    for step in range(10, 70, 10):
        save_checkpoint(checkpoint_path(tmp_path, step), {"step": step})
    prune(tmp_path, 2, {20})
    assert steps_saved(tmp_path) == [20, 50, 60]
