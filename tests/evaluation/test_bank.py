"""The bank of a run that stored it in half precision is read like any other."""

import torch

from earsight import api
from earsight.evaluation.bank import read_bank
from earsight.training.resume import last_checkpoint
from earsight.training.setup import open_data


def test_targets_in_half_precision_are_read_as_float32(corpus, small, tmp_path):
    settings = [*small, f"data.corpus={corpus}", "method.storage=bfloat16", "train.epochs=1"]
    config = api.configure("tiny", settings=settings)
    api.pretrain(config, tmp_path / "run", quiet=True)
    stored = last_checkpoint(tmp_path / "run")["method"]
    bank = read_bank(tmp_path / "run", open_data(config).train)
    assert 2 < len(bank) == int(stored["bank.visited"].sum())
    for name, targets in bank.targets.items():
        assert stored[f"bank.{name}"].dtype == torch.bfloat16
        assert targets.dtype == torch.float32
        assert torch.equal(targets, stored[f"bank.{name}"][stored["bank.visited"]].float())
    assert "memory bank" in api.memory(tmp_path / "run", seeds=1).protocol
