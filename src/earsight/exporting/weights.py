"""The weights as a file that stands alone: those of the run, without the places of its corpus."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from earsight.errors import RunError
from earsight.exporting.subject import WEIGHTS, Subject, public_tree
from earsight.tensor_files import write_tensors


def write_weights(subject: Subject, path: Path) -> None:
    """Copy ``encoders.safetensors`` and compare the copy, tensor by tensor.

    Only its metadata changes: settings lose the paths of this machine, and the terms are added.

    Raises:
        RunError: the copy differs.
    """
    source = subject.run / WEIGHTS
    with safe_open(source, framework="pt") as file:
        before: Mapping[str, str] = file.metadata()
    tensors = load_file(source)
    terms = {
        "run": subject.name,
        "licence": subject.terms.name,
        "notices": json.dumps(list(subject.terms.notices)),
    }
    config = json.dumps(public_tree(json.loads(before["config"])))
    write_tensors(path, tensors, {**before, "config": config, **terms})
    copied = load_file(path)
    if copied.keys() != tensors.keys() or not all(
        torch.equal(x, copied[name]) for name, x in tensors.items()
    ):
        raise RunError(f"{path.name} does not hold what {source} holds; is the disk sound?")
