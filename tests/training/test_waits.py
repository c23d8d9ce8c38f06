"""A step never reads back what it computes: a GPU would have to finish first.

Tensors on the device ``meta`` have no values, so that whatever asks for one fails.
"""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from earsight import api
from earsight.training.plan import Plan
from earsight.training.setup import build_parts, fit_inputs, open_data
from earsight.training.step import train_step
from earsight.training.window import Window

CPU, META = torch.device("cpu"), torch.device("meta")
# Changes of colour add a number of the host to their pixels, which `meta` alone does not allow.
PLAIN = tuple(f"video.{name}=0" for name in ("brightness", "contrast", "saturation", "hue"))
MOMENTUM = ("method.dictionary=8", "method.momentum=0.9", "method.temperature=0.5")


def ready(corpus, settings, *more):
    config = api.configure("tiny", settings=[*settings, *more, f"data.corpus={corpus}"])
    data = open_data(config)
    parts = build_parts(config, fit_inputs(config, data, 0), len(data.train), CPU)
    clips = api.training_clips(config, data, Plan.of(config, len(data.train)), parts)
    return config, parts, clips


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("method.partition=ema", "method.video_to_video=1", "optimizer.clip_norm=1"),
        ("method.name=cma", "method.positives=4"),
        ("method.name=xmoco", *MOMENTUM),
    ],
    ids=["avid", "joint", "cma", "xmoco"],
)
def test_nothing_is_read_back(corpus, small, more, monkeypatch):
    own = [s for s in small if "method." not in s] if "method.name=xmoco" in more else small
    config, parts, clips = ready(corpus, own, *PLAIN, *more)
    for part in (parts.model, parts.method, parts.inputs):
        part.to(META)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    # torch's own fused kernel, which `meta` lacks; the next test counts what it reads.
    monkeypatch.setattr(parts.optimizer, "step", lambda: None)
    taken = train_step(config, parts, iter([clips[0]]), META)
    Window().add(taken.metrics, taken.finite, taken.rows)
    assert taken.metrics["loss"].device == META
    with pytest.raises(RuntimeError):
        float(taken.metrics["loss"])


class Reads(TorchDispatchMode):
    """Counts reads of single numbers."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_the_optimiser_and_changes_of_colour_read_nothing(corpus, small):
    config, parts, clips = ready(corpus, small, "video.hue=0.1", "video.saturation=0.2")
    train_step(config, parts, iter([clips[0]]), CPU)
    with Reads() as reads:
        train_step(config, parts, iter([clips[1]]), CPU)
    # Whether Z̄ is set: looked at on the CPU alone, where it spares an exchange of all ranks.
    assert reads.count == 1
