"""Features kept in a run, so that a second evaluation of the same decodes nothing.

A file is named by a digest of everything that its numbers depend on: the weights, the input
settings and statistics, the instances (their keys, times and streams) and the clips taken of each.
Which device computed them is not part of it.
"""

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from earsight.config import RunConfig, as_tree
from earsight.corpus.instances import Instances
from earsight.encoders.blocks import has_blocks
from earsight.evaluation.features import Encoder, Features, Wanted, pack, unpack
from earsight.tensor_files import write_tensors
from earsight.transforms.inputs import Inputs

SCHEMA = 2
"""Version of a file of features, part of its name's digest."""

_FACTS = {"path", "group", "labels", "vocabulary"}


def feature_path(
    folder: Path,
    encoder: Encoder,
    inputs: Inputs,
    config: RunConfig,
    instances: Instances,
    rows: NDArray[np.int64],
    modalities: Collection[str],
    wanted: Wanted,
) -> Path:
    """Where the features of these instances by this encoder are kept.

    Args:
        folder: of the run's features.
        encoder: whose they are.
        inputs: transforms.
        config: the run's settings.
        instances: ``n`` of them.
        rows: ``(n,)`` the rows by which the run knows them.
        modalities: those that are encoded.
        wanted: what is taken of each; the file may lack some blocks.
    """
    tree = as_tree(config)
    state = inputs.state()
    settings = {
        "schema": SCHEMA,
        "taken": [wanted.clips, wanted.mean, wanted.embed, *sorted(modalities)],
        "inputs": state["settings"],
        "method": tree["method"],
        "encoders": [tree["video_encoder"], tree["audio_encoder"]],
        "head": tree["head"],
    }
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
    for part in (encoder.model.state_dict(), encoder.method.state_dict(), state["tensors"]):
        add_tensors(digest, part.items())
    digest.update(rows.tobytes())
    for item in fields(Instances):
        if item.name not in _FACTS:
            values = np.ascontiguousarray(getattr(instances, item.name))
            digest.update(item.name.encode() + values.tobytes())
    return folder / f"{digest.hexdigest()}.safetensors"


def add_tensors(digest: "hashlib.blake2b", tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Add tensors to a digest, by name, whatever order they come in."""
    for name, value in sorted(tensors, key=lambda pair: pair[0]):
        plain = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(plain.numpy().tobytes())


def read_features(
    path: Path, encoder: Encoder, modalities: Collection[str], blocks: Collection[int]
) -> Features | None:
    """What a file holds of the blocks wanted, and all else; None where it lacks some or is not.

    Raises:
        ValueError: it is damaged.
    """
    if not path.exists():
        return None
    encoders = {n: x for n, x in encoder.model.encoders.items() if n in modalities}
    wanted = {f"pooled.{name}" for name in encoders}
    with_blocks = [name for name, module in encoders.items() if has_blocks(module)]
    wanted |= {f"block.{name}.{block}" for name in with_blocks for block in blocks}
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            if not wanted <= names:
                return None
            read = {n for n in names if n in wanted or not n.startswith("block.")}
            # In the order of the modalities, as they are computed.
            order = list(encoder.model.encoders)
            ordered = sorted(read, key=lambda name: (_place(name, order), name))
            tensors = {name: file.get_tensor(name) for name in ordered}
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}); delete it, and its features are computed again"
        ) from error
    return unpack(tensors.pop("row"), tensors)


def _place(name: str, modalities: list[str]) -> int:
    parts = name.split(".")
    return modalities.index(parts[1]) if parts[1:] and parts[1] in modalities else len(modalities)


def write_features(path: Path, features: Features) -> None:
    """Write features, all or nothing.

    Raises:
        OSError: they cannot be written; a former file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, {"row": features.row, **pack(features)}, {"schema": str(SCHEMA)})
