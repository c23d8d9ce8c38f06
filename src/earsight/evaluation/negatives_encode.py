"""Training clips as the query and key encoders of a run's checkpoints give them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight.encoders.momentum import Caught, last_linear
from earsight.encoders.pair import MODALITIES
from earsight.evaluation.features import Encoder, Features
from earsight.evaluation.load import random_encoder
from earsight.evaluation.negatives import Encoded
from earsight.evaluation.protocol import Evaluator
from earsight.methods.choice import Queries
from earsight.training.checkpoint import checkpoint_path, load_checkpoint

_AT_ONCE = 8
"""Checkpoints that encode a clip which was decoded once; their encoders are held together."""

_KEYS = "key_encoders."


def encode_checkpoints(
    run: Path, steps: Sequence[int], evaluator: Evaluator, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[Encoded]]:
    """Centre clips of training rows by the encoders of each checkpoint.

    All run with the statistics that their batch norms have gathered, so that no figure depends on
    which clips are encoded together.

    Returns:
        The rows ``(n,)`` that could be read, and what each checkpoint makes of them.

    Raises:
        ValueError: a checkpoint cannot be read, or no clip.
    """
    found: list[tuple[NDArray[np.int64], Encoded]] = []
    for begin in range(0, len(steps), _AT_ONCE):
        some = steps[begin : begin + _AT_ONCE]
        pairs = [_encoders(run, step, evaluator) for step in some]
        features = iter(evaluator.pooled_features(rows, [one for pair in pairs for one in pair]))
        for step, (query, keys) in zip(some, pairs, strict=True):
            own, theirs = next(features), next(features)
            encoded = _encoded(step, query, own, keys, theirs, evaluator.device)
            found.append((own.row.numpy(), encoded))
    # A file may have broken between two passes.
    common = reduce(np.intersect1d, [row for row, _ in found])
    return common, [_take(encoded, np.isin(row, common)) for row, encoded in found]


def _encoders(run: Path, step: int, evaluator: Evaluator) -> tuple[Encoder, Encoder]:
    """The query encoders of a checkpoint, and its key encoders."""
    state = load_checkpoint(checkpoint_path(run, step))
    query = random_encoder(evaluator.config, evaluator.device)
    query.model.load_state_dict(state["model"])
    keys = query.method.keys
    assert keys is not None
    saved = state["method"].items()
    keys.load_state_dict({n.removeprefix(_KEYS): x for n, x in saved if n.startswith(_KEYS)})
    return query, Encoder(model=keys, method=query.method)


@torch.no_grad()
def _encoded(
    step: int,
    query: Encoder,
    own: Features,
    keys: Encoder,
    theirs: Features,
    device: torch.device,
) -> Encoded:
    """What the heads make of pooled features."""
    heads = {"video": query.model.video_head, "audio": query.model.audio_head}
    caught = {name: Caught(last_linear(heads[name])) for name in MODALITIES}
    with caught["video"], caught["audio"]:
        outputs = query.model.project(_on(own.pooled, device))
    return Encoded(
        step=step,
        keys=_on(keys.model.project(_on(theirs.pooled, device)), torch.device("cpu")),
        queries={
            name: Queries(outputs[name].cpu(), caught[name].inputs[0].cpu()) for name in MODALITIES
        },
    )


def _on(tensors: Any, device: torch.device) -> dict[str, Tensor]:
    return {name: x.to(device) for name, x in tensors.items()}


def _take(encoded: Encoded, mask: NDArray[np.bool_]) -> Encoded:
    kept = torch.from_numpy(mask)
    return replace(
        encoded,
        keys={name: x[kept] for name, x in encoded.keys.items()},
        queries={
            name: Queries(each.outputs[kept], each.inputs[kept])
            for name, each in encoded.queries.items()
        },
    )
