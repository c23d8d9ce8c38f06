"""The run folder: made once, never overwritten, and enough to use what was learned."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from earsight.config import RunConfig, as_tree, parse, read_yaml, write_yaml
from earsight.tensor_files import write_tensors
from earsight.transforms.inputs import Inputs
from earsight.version import __version__

SCHEMA = 1
"""Version of ``encoders.safetensors``."""


def check_new(run: Path) -> None:
    """Refuse a folder that a run cannot be made in.

    Raises:
        ValueError: the folder holds something already.
    """
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise ValueError(
            f"{run} exists already; choose another folder, or go on with it by --resume"
        )


def create_run(run: Path, config: RunConfig) -> None:
    """Make a run folder and write its configuration.

    Raises:
        ValueError: the folder holds something already.
    """
    check_new(run)
    run.mkdir(parents=True, exist_ok=True)
    write_yaml(run / "config.yaml", config)


def discard_run(run: Path) -> None:
    """Remove a run folder in which nothing has been learned yet; others stay as they are."""
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
    begun = any(json.loads(line)["kind"] == "train" for line in lines)
    if not begun and not any(run.glob("checkpoints/*")):
        shutil.rmtree(run)


def read_config(run: Path) -> RunConfig:
    """The resolved configuration of a run.

    Raises:
        ValueError: the folder is no run.
    """
    if not (run / "config.yaml").is_file():
        raise ValueError(f"{run} is no run folder (it has no config.yaml)")
    return parse(read_yaml(run / "config.yaml"))


def save_encoders(
    run: Path,
    model: nn.Module,
    inputs: Inputs,
    config: RunConfig,
    *,
    keys: nn.Module | None = None,
    licence: str = "",
) -> None:
    """Write ``encoders.safetensors``: weights, input statistics, settings to rebuild them.

    Args:
        run: the run folder.
        model: encoders and heads.
        inputs: transforms with their statistics.
        config: the run's settings.
        keys: the method's key encoders, if it has any.
        licence: of weights that were not trained here, or not from the start; it travels with the
            file.

    Raises:
        OSError: it cannot be written; a former file is untouched, and nothing is left beside it.
    """
    state = inputs.state()
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    if keys is not None:
        tensors |= {f"keys.{name}": value for name, value in keys.state_dict().items()}
    tensors |= {f"inputs.{name}": value for name, value in state["tensors"].items()}
    metadata = {
        "schema": str(SCHEMA),
        "earsight": __version__,
        "config": json.dumps(as_tree(config)),
        "inputs": json.dumps(state["settings"]),
    }
    if licence:
        metadata["licence"] = licence
    own = {name: value.detach().cpu() for name, value in tensors.items()}
    write_tensors(run / "encoders.safetensors", own, metadata)


@dataclass(frozen=True, kw_only=True)
class SavedEncoders:
    """What ``encoders.safetensors`` holds.

    Attributes:
        config: the run's settings.
        model: the state of encoders and heads.
        keys: that of the method's key encoders; empty where it has none.
        inputs: transforms with their statistics.
        notices: what the file says must be said of weights that were imported.
    """

    config: RunConfig
    model: Mapping[str, Tensor]
    keys: Mapping[str, Tensor]
    inputs: Inputs
    notices: tuple[str, ...] = ()


def load_encoders(path: Path) -> SavedEncoders:
    """Read an encoders file.

    Raises:
        ValueError: it is missing, damaged, or of another schema.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); has the run finished?") from error
    if metadata.get("schema") != str(SCHEMA):
        raise ValueError(
            f"{path}: has schema {metadata.get('schema')}, this version reads {SCHEMA}; "
            "use the version of earsight that wrote it"
        )

    def part(prefix: str) -> dict[str, Tensor]:
        return {n.removeprefix(prefix): x for n, x in tensors.items() if n.startswith(prefix)}

    inputs = Inputs.from_state(
        {"settings": json.loads(metadata["inputs"]), "tensors": part("inputs.")}
    )
    return SavedEncoders(
        config=parse(json.loads(metadata["config"])),
        model=part("model."),
        keys=part("keys."),
        inputs=inputs,
        notices=tuple(json.loads(metadata.get("notices", "[]"))),
    )
