"""Starting from what another run has learned; unlike resuming, only weights are taken."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from earsight.config import RunConfig
from earsight.encoders.pair import Pair, wanted_heads
from earsight.training.run_folder import load_encoders
from earsight.transforms.inputs import Inputs


@dataclass(frozen=True, kw_only=True)
class Start:
    """What another run has learned.

    Attributes:
        run: its folder.
        config: its settings.
        state: of its model.
        inputs: its transforms, with their statistics.
    """

    run: Path
    config: RunConfig
    state: dict[str, Tensor]
    inputs: Inputs


def read_start(config: RunConfig, run: Path) -> Start | None:
    """The run that ``config.start`` names, seen from the folder ``run``; None where it names none.

    Raises:
        ValueError: it is no run, or has not finished.
    """
    if not config.start:
        return None
    folder = run / config.start
    before, state, inputs = load_encoders(folder / "encoders.safetensors")
    return Start(run=folder, config=before, state=state, inputs=inputs)


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
    for name, state in parts.items():
        module = getattr(model, name)
        _check(name, module, state, start.run)
    for name, state in parts.items():
        getattr(model, name).load_state_dict(state)
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
