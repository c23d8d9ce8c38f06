"""Encoders that run compiled: the same weights, the same results, and a word where none can."""

import functools

import pytest
import torch

from earsight import api, processor
from earsight.training import compiled
from earsight.training.plan import Plan
from earsight.training.setup import build_parts, fit_inputs, open_data
from earsight.training.step import train_step

CPU = torch.device("cpu")
XMOCO = ("method.name=xmoco", "method.dictionary=8", "method.momentum=0.9")


@pytest.mark.parametrize("more", [(), XMOCO], ids=["avid", "xmoco"])
def test_a_step_is_the_same(corpus, small, more, monkeypatch):
    """Traced as always, but run as it is: to compile takes a minute and changes the rounding."""
    eager = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(compiled.torch, "compile", eager)
    own = [s for s in small if not more or "method." not in s]
    losses, weights = [], []
    for compiles in ("none", "encoders"):
        settings = [*own, *more, f"train.compile={compiles}", f"data.corpus={corpus}"]
        config = api.configure("tiny", settings=settings)
        data = open_data(config)
        parts = build_parts(config, fit_inputs(config, data, 0), len(data.train), CPU)
        clips = api.training_clips(config, data, Plan.of(config, len(data.train)), parts)
        parts.model.train()
        taken = [train_step(config, parts, iter([clips[n]]), CPU) for n in range(2)]
        losses.append([float(one.metrics["loss"]) for one in taken])
        weights.append(parts.model.state_dict())
    assert losses[0] == losses[1]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert weights[0].keys() == weights[1].keys()


def test_without_a_compiler_no_run_is_begun(corpus, small, tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "COMPILERS", ())
    monkeypatch.delenv("CXX", raising=False)
    config = api.configure(
        "tiny", settings=[*small, "train.compile=inputs", f"data.corpus={corpus}"]
    )
    with pytest.raises(ValueError, match=r"train\.compile: no C\+\+ compiler"):
        api.pretrain(config, tmp_path / "run", quiet=True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"train\.compile: no C\+\+ compiler"):
        api.dry_run(config)


def test_a_gpu_needs_triton(monkeypatch):
    monkeypatch.setattr(compiled, "find_spec", lambda name: None)
    monkeypatch.setattr(compiled, "compiler", lambda: "/usr/bin/c++")
    compiled.require_compiler(CPU)
    with pytest.raises(ValueError, match="needs Triton"):
        compiled.require_compiler(torch.device("cuda"))
