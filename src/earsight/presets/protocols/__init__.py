"""Protocols of the papers' evaluations: settings laid over a run's own, one YAML file each.

A file has a line ``about``, the ``task`` that it is for, perhaps the ``base`` that it builds on,
the ``blocks`` whose frozen activations are classified, and ``settings``.
"""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earsight.config import ConfigError, Tree, merge, read_yaml

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class EvaluationPreset:
    """A protocol.

    Attributes:
        name: of its file.
        about: one line on it.
        task: the evaluation that it is for.
        blocks: frozen blocks that linear layers learn from; empty where none are.
        settings: what it sets.
    """

    name: str
    about: str
    task: str
    blocks: tuple[str | int, ...]
    settings: Tree


def names() -> list[str]:
    """Every protocol's name, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load(name: str) -> EvaluationPreset:
    """A protocol with what its base says.

    Raises:
        ConfigError: there is no such protocol; names the nearest.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1, 0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError([f"protocol {name!r} does not exist{hint} (known: {', '.join(names())})"])
    tree = read_yaml(_FOLDER / f"{name}.yaml")
    base = load(tree["base"]) if "base" in tree else None
    blocks: Any = tree.get("blocks", () if base is None else base.blocks)
    return EvaluationPreset(
        name=name,
        about=str(tree["about"]),
        task=str(tree["task"]),
        blocks=tuple(blocks),
        settings=merge({} if base is None else base.settings, tree["settings"]),
    )


def load_for(tasks: Collection[str], name: str) -> EvaluationPreset:
    """A protocol of one of these tasks.

    Raises:
        ConfigError: there is no such protocol, or it is of another task.
    """
    found = load(name)
    if found.task not in tasks:
        own = ", ".join(one for one in names() if load(one).task in tasks) or "none"
        raise ConfigError(
            [
                f"protocol {name!r} is of `evaluate {found.task}`; those of {' and '.join(tasks)} "
                f"are: {own}"
            ]
        )
    return found
