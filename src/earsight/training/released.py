"""Reading a released AVID or AVID-CMA checkpoint: what of it is used, what is not, and why."""

import re
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from torch import Tensor

from earsight.config import Tree
from earsight.encoders.released import read_architecture, renamed

_DAMAGE = (
    AssertionError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)
"""What torch.load raises for files with bytes changed, missing, or of another kind."""

_LATER = "unused until training can go on from imported weights"
_BANKS = ("nce_average.view1_mem", "nce_average.view2_mem")
_PARTITION = "avg_exp_score"
_POSITIVES = "positive_set"
_EXPECTED = {
    "train_criterion.criterion.avg_exp_score": (
        _PARTITION,
        "the partition is that of a first step (method.partition=first)",
    ),
    **{f"train_criterion.{name}": (name, "not needed to evaluate") for name in _BANKS},
    "optimizer": ("optimizer", "not needed to evaluate"),
    "epoch": ("epoch", "how long the weights were trained is not known"),
}
"""Key to what to look for among the names, and what its absence means."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key of a checkpoint.

    Attributes:
        name: from the top, with dots.
        status: whether it was used, left unused, or is missing.
        about: the same in a sentence, with the reason.
    """

    name: str
    status: Literal["used", "unused", "missing"]
    about: str


@dataclass(frozen=True, kw_only=True)
class Released:
    """A released checkpoint.

    Attributes:
        weights: by name in the state dict of :class:`Pair`.
        architecture: the settings that their shapes decide.
        criterion: ``AVID``, ``AVID-CMA``, or empty where the checkpoint holds none.
        partition: Z̄; None where it is not there or was never set.
        epoch: at which it was saved; None where it does not say.
        keys: every key.
    """

    weights: Mapping[str, Tensor]
    architecture: Tree
    criterion: str
    partition: float | None
    epoch: int | None
    keys: tuple[Key, ...]


def read_released(path: Path) -> Released:
    """Read a checkpoint in the layout of the published AVID-CMA code.

    Only tensors and plain values are read (no code of a stranger is run); where the file allows,
    tensors that are not used are not loaded.

    Raises:
        ValueError: it is no such checkpoint, damaged, or of another architecture; one sentence.
    """
    state = _load(path)
    try:
        return _sorted_out(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _load(path: Path) -> Mapping[str, Any]:
    try:
        # Memory banks of millions of rows stay on the disk; the old format must be read whole.
        state = torch.load(
            str(path), map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnpicklingError as error:
        raise ValueError(f"{path}: {_refusal(str(error))}") from error
    except _DAMAGE as error:
        raise ValueError(
            f"{path}: is no checkpoint, or is damaged or cut short; take it from its source again"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise ValueError(f"{path}: is no released AVID checkpoint (it holds no named entries)")
    return state


def _refusal(message: str) -> str:
    found = re.search(r"GLOBAL (\S+)", message)
    if found is None:
        return "is no checkpoint, or is damaged; take it from its source again"
    return (
        f"holds {found[1]}, and reading that would run code, so it is refused; only tensors and "
        "plain values are read: ask its source for a checkpoint of those alone"
    )


def _sorted_out(state: Mapping[str, Any]) -> Released:
    if "model" not in state:
        names = ", ".join(list(state)[:5]) or "nothing"
        raise ValueError(f"is no released AVID checkpoint: it has no model, but {names}")
    model = _tensors(state, "model")
    weights = {renamed(name): value for name, value in model.items()}
    broken = [name for name, x in model.items() if x.is_floating_point() and not _is_finite(x)]
    if broken:
        raise ValueError(f"{broken[0]} holds NaN or infinity; take another checkpoint")
    architecture = read_architecture({name: tuple(x.shape) for name, x in weights.items()})
    criterion = _tensors(state, "train_criterion") if "train_criterion" in state else {}
    _check_banks(criterion, architecture["head"]["dim"])
    partitions = _partitions(criterion)
    epoch = state.get("epoch")
    if epoch is not None and (isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0):
        raise ValueError(f"epoch is {epoch!r}, and no count of epochs")
    keys = [*_model_keys(model), *_criterion_keys(criterion, set(partitions)), *_other_keys(state)]
    return Released(
        weights=weights,
        architecture=architecture,
        criterion=_criterion_name(criterion),
        partition=sum(partitions.values()) / len(partitions) if partitions else None,
        epoch=epoch,
        keys=(*keys, *_missing(keys)),
    )


def _is_finite(x: Tensor) -> bool:
    return bool(torch.isfinite(x).all())


def _tensors(state: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    found = state[name]
    if not isinstance(found, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in found.items()
    ):
        raise ValueError(f"its {name} is no state of named tensors")
    return dict(found)


def _partitions(criterion: Mapping[str, Tensor]) -> dict[str, float]:
    """Normalisers that training has set; before that they are negative."""
    found = {name: value for name, value in criterion.items() if _PARTITION in name}
    wrong = [name for name, value in found.items() if value.numel() != 1]
    if wrong:
        shape = tuple(found[wrong[0]].shape)
        raise ValueError(f"{wrong[0]} is of shape {shape}, and should be one number")
    values = {name: float(value) for name, value in found.items()}
    return {name: value for name, value in values.items() if 0 < value < float("inf")}


def _check_banks(criterion: Mapping[str, Tensor], dim: int) -> None:
    shapes = {name: tuple(criterion[name].shape) for name in _BANKS if name in criterion}
    rows = {shape[0] for shape in shapes.values() if shape}
    shapes |= {name: tuple(x.shape) for name, x in criterion.items() if name.endswith(_POSITIVES)}
    for name, shape in shapes.items():
        fits = len(shape) == 2 and (name not in _BANKS or shape[1] == dim)
        if not fits or (rows and rows != {shape[0]}):
            raise ValueError(
                f"{name} is of shape {shape}, which does not fit the rest ({dim} wide)"
            )


def _criterion_name(criterion: Mapping[str, Tensor]) -> str:
    if not criterion:
        return ""
    return "AVID-CMA" if any(_POSITIVES in name for name in criterion) else "AVID"


def _model_keys(model: Mapping[str, Tensor]) -> Iterator[Key]:
    for name in model:
        yield Key(name=f"model.{name}", status="used", about=f"used as {renamed(name)}")


def _criterion_keys(criterion: Mapping[str, Tensor], partitions: set[str]) -> Iterator[Key]:
    for name, value in criterion.items():
        full = f"train_criterion.{name}"
        if name in partitions:
            yield Key(name=full, status="used", about="used: Z̄ is the mean of such keys")
        else:
            yield Key(name=full, status="unused", about=_why_unused(name, tuple(value.shape)))


def _why_unused(name: str, shape: Sequence[int]) -> str:
    if _PARTITION in name:
        return "unused: it was never set in training"
    if name in _BANKS:
        return f"{_LATER}: targets of the {shape[0]} instances of the publisher's corpus"
    if _POSITIVES in name:
        return f"{_LATER} by CMA: {shape[1]} rows of the publisher's corpus for each of {shape[0]}"
    if ".multinomial." in f".{name}":
        return "unused: a table for drawing negatives, which are drawn without one here"
    return "unused: this version knows no place for it"


def _other_keys(state: Mapping[str, Any]) -> Iterator[Key]:
    for name, value in state.items():
        if name in ("model", "train_criterion"):
            continue
        if name == "epoch":
            yield Key(name=name, status="used", about=f"used: {value}")
        elif name == "optimizer":
            parts = list(value) if isinstance(value, Mapping) else []
            for part in parts or [""]:
                yield Key(name=f"{name}.{part}".strip("."), status="unused", about=_LATER)
        else:
            yield Key(
                name=name, status="unused", about="unused: this version knows no place for it"
            )


def _missing(keys: Sequence[Key]) -> Iterator[Key]:
    names = [key.name for key in keys if not key.name.startswith("model.")]
    for name, (part, about) in _EXPECTED.items():
        if not any(part in found for found in names):
            yield Key(name=name, status="missing", about=f"missing: {about}")
