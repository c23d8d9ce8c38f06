"""Starting from what another run has learned: weights, and what its method keeps by row.

Unlike resuming, optimiser, schedule and draws begin anew, and settings and corpus may be others.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from earsight.config import RunConfig, parse
from earsight.encoders.pair import Pair, wanted_heads
from earsight.files import content_digest
from earsight.methods.base import Inherited, Method
from earsight.training.checkpoint import checkpoint_path, load_checkpoint, steps_saved
from earsight.training.plan import Plan
from earsight.training.resume import last_checkpoint
from earsight.training.run_folder import load_encoders, read_config
from earsight.transforms.inputs import Inputs

SCHEMA = 1
"""Version of ``start.json``."""

NAME = "start.json"


@dataclass(frozen=True, kw_only=True)
class Start:
    """What another run has learned.

    Attributes:
        run: its folder.
        config: its settings.
        state: of its model.
        inputs: its transforms, with their statistics.
        epoch: after which of its epochs; 0 for the last.
    """

    run: Path
    config: RunConfig
    state: dict[str, Tensor]
    inputs: Inputs
    epoch: int


def read_start(config: RunConfig, run: Path) -> Start | None:
    """The run that ``config.start`` names, seen from the folder ``run``; None where it names none.

    Raises:
        ValueError: it is no run, has not finished, or kept no checkpoint of ``start_epoch``.
    """
    if not config.start:
        return None
    folder = run / config.start
    if config.start_epoch:
        return _read_epoch(folder, config.start_epoch)
    saved = load_encoders(folder / "encoders.safetensors")
    state = dict(saved.model)
    return Start(run=folder, config=saved.config, state=state, inputs=saved.inputs, epoch=0)


def _read_epoch(run: Path, epoch: int) -> Start:
    state = load_checkpoint(_checkpoint_of(run, epoch))
    before = parse(state["config"])
    saved = state["inputs"]
    inputs = Inputs(
        before.video,
        before.audio,
        mean=saved["normalise.mean"],
        std=saved["normalise.std"],
        clips=0,
        pictures=before.pictures,
    )
    return Start(run=run, config=before, state=state["model"], inputs=inputs, epoch=epoch)


def _checkpoint_of(run: Path, epoch: int) -> Path:
    """The checkpoint that a run kept of the end of an epoch."""
    before, saved = read_config(run), steps_saved(run)
    if not saved:
        raise ValueError(f"start: {run} has no checkpoints")
    size = len(load_checkpoint(checkpoint_path(run, saved[-1]))["keys"])
    per_epoch = Plan.of(before, size).steps_per_epoch
    if epoch * per_epoch not in saved:
        kept = ", ".join(f"{step / per_epoch:g}" for step in saved)
        raise ValueError(
            f"start_epoch: {run} kept no checkpoint of epoch {epoch}, but of {kept}; name the "
            f"epoch there with train.keep=[{epoch}] before it gets so far"
        )
    return checkpoint_path(run, epoch * per_epoch)


def encoders_digest(run: Path) -> str:
    """SHA-256 of the encoders that a run has now."""
    return content_digest(run / "encoders.safetensors")


def write_started(run: Path, start: Start) -> None:
    """Keep which encoders a run has started from: those that the other has later may be others."""
    if not start.epoch:
        tree = {"schema": SCHEMA, "encoders": encoders_digest(start.run)}
        (run / NAME).write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


def check_started(run: Path, start: Path) -> None:
    """The encoders of ``start`` must be those that a run has started from, as far as it says.

    Raises:
        ValueError: the other has been trained further, or made again.
    """
    path = run / NAME
    if path.exists() and json.loads(path.read_bytes()).get("encoders") != encoders_digest(start):
        raise ValueError(
            f"{run} has started from encoders that {start} has no longer: it was trained further, "
            "or made again; delete the folder to start from what is there now"
        )


def start_memory(
    start: Start,
    method: Method,
    keys: NDArray[np.uint64],
    device: torch.device,
    taken: Sequence[str],
) -> str:
    """Have a method take over what the other run's method keeps by row; a line on it.

    Args:
        start: the other run.
        method: of this run.
        keys: ``(N,)`` of this run's instances, by row.
        device: where the method lives.
        taken: parts of the model whose weights were taken over, by name.

    Raises:
        ValueError: the method cannot do without it, and it is not there.
    """
    if not method.needs.memory:
        return ""
    path = _checkpoint_of(start.run, start.epoch) if start.epoch else None
    saved = load_checkpoint(path) if path else last_checkpoint(start.run)
    state = saved["method"] if saved else {}
    old = saved["keys"].numpy().view(np.uint64) if saved else np.empty(0, np.uint64)
    rows = rows_of(keys, old)
    inherited = Inherited(
        run=start.run.name,
        state=state,
        rows=torch.from_numpy(rows).to(device),
        gone=int((~np.isin(old, keys)).sum()),
        heads=any(name.endswith("_head") for name in taken),
        temperature=getattr(start.config.method, "temperature", None),
    )
    return method.inherit(inherited)


def rows_of(keys: NDArray[np.uint64], old: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each of ``keys`` its place in ``old``, -1 where it is not there."""
    if not len(old):
        return np.full(len(keys), -1, np.int64)
    order = np.argsort(old)
    place = np.minimum(np.searchsorted(old[order], keys), len(old) - 1)
    found = order[place]
    return np.where(old[found] == keys, found, -1).astype(np.int64)


def start_weights(config: RunConfig, model: Pair, start: Start) -> list[str]:
    """Give a model the weights of another run's, and say of which parts.

    Taken are the encoders that the model has, and their heads unless the method asks for heads of
    its own (a classifier begins afresh).

    Raises:
        ValueError: a part is missing there or has other shapes; nothing is changed then.
    """
    wanted = [f"{name}_encoder" for name in model.encoders]
    if wanted_heads(config) == wanted_heads(start.config):
        wanted += [f"{name}_head" for name in model.encoders]
    parts = {name: _part(start, name) for name in wanted}
    modules: dict[str, nn.Module] = {name: getattr(model, name) for name in wanted}
    modules |= {f"{name}_encoder": module for name, module in model.backbones.items()}
    for name, state in parts.items():
        _check(name, modules[name], state, start.run)
    for name, state in parts.items():
        modules[name].load_state_dict(state)
    return wanted


def start_inputs(config: RunConfig, start: Start | None) -> Inputs | None:
    """Transforms with the other run's statistics; None where its sound is cut otherwise."""
    if start is None or start.config.audio != config.audio:
        return None
    normalise = start.inputs.normalise
    return Inputs(
        config.video,
        config.audio,
        mean=normalise.mean,
        std=normalise.std,
        clips=start.inputs.clips,
        pictures=config.pictures,
    )


def _part(start: Start, name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {n.removeprefix(prefix): x for n, x in start.state.items() if n.startswith(prefix)}


def _check(name: str, module: nn.Module, state: dict[str, Tensor], run: Path) -> None:
    own = module.state_dict()
    differ = [n for n in own if n not in state or state[n].shape != own[n].shape]
    differ += [n for n in state if n not in own]
    if differ:
        raise ValueError(
            f"start: {run} has no weights that fit {name} ({len(differ)} of {len(own)} differ, "
            f"such as {differ[0]}); give it the settings of that run"
        )
