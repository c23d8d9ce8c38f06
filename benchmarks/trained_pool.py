"""Keys and queries of encoders that were trained, as the active choice meets them.

XMoCo with the small networks of `tiny-cm-acc` learns from av-digits for some hundred steps; then
its key encoders make a pool of augmented clips, and its query encoders the queries of one batch.
"""

import tempfile
from collections.abc import Iterator
from itertools import count as count_from
from pathlib import Path

import torch
from torch import Tensor

from common import FEW, av_digits
from earsight import api
from earsight.config import RunConfig
from earsight.corpus.batch import Batch
from earsight.encoders.momentum import Caught, last_linear
from earsight.training.plan import Plan, with_size
from earsight.training.setup import build_parts, fit_inputs, open_data
from earsight.training.step import Parts, prepare, train_step

CPU = torch.device("cpu")


def trained_pool(size: int, count: int, steps: int, hidden: int) -> tuple[Tensor, Tensor, Tensor]:
    """Train, then encode.

    Args:
        size: keys ``(size, 128)`` of sounds.
        count: queries of pictures.
        steps: of training.
        hidden: ``H``, inputs of the last layer.

    Returns:
        The keys, and of the queries the outputs ``(count, 128)`` and inputs ``(count, H)`` of the
        last layer.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = [
            f"data.corpus={av_digits(Path(folder), FEW if steps < 100 else 1)}",
            "data.cache=disk",
            "method.name=xmoco",
        ]
        settings += ["method.dictionary=null", "method.momentum=0.99", "method.temperature=0.2"]
        settings += ["head.fcl=false", f"head.hidden=[{hidden}]", f"optimizer.milestones=[{steps}]"]
        config = api.configure("tiny-cm-acc", settings=settings)
        data = open_data(config)
        plan = Plan.of(config, len(data.train))
        config = with_size(config, plan, len(data.train))
        parts = build_parts(config, fit_inputs(config, data, 0), len(data.train), CPU)
        clips = api.training_clips(config, data, plan, parts)
        parts.model.train()
        for step in range(steps):
            train_step(config, parts, iter([clips[step]]), CPU)
        later = (clips[at] for at in count_from(steps))
        return encode(config, parts, later, size, count)


@torch.no_grad()
def encode(
    config: RunConfig, parts: Parts, batches: Iterator[Batch], size: int, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """``size`` keys of sounds, and of ``count`` queries of pictures both ends of the last layer."""
    query, key = parts.model, parts.method.keys
    assert key is not None
    keys: list[Tensor] = []
    outputs: list[Tensor] = []
    inputs: list[Tensor] = []
    while sum(len(x) for x in keys) < size:
        view = prepare(config, parts.inputs, next(batches), CPU).views[0]
        keys.append(key(view["video"], view["audio"])[1])
        if sum(len(x) for x in outputs) < count:
            with Caught(last_linear(query.video_head)) as caught:
                outputs.append(query(view["video"], view["audio"])[0])
            inputs.append(caught.inputs[0])
    return torch.cat(keys)[:size], torch.cat(outputs)[:count], torch.cat(inputs)[:count]
