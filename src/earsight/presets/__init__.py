"""Named settings: one YAML file each; ``base`` names the preset that a file builds on."""

import difflib
from pathlib import Path
from typing import Any

from earsight.config import ConfigError, Tree, merge, read_yaml

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Every preset's name, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def about(name: str) -> str:
    """One line on what a preset is for."""
    return str(_read(name)["about"])


def load(name: str) -> Tree:
    """A preset's settings, laid over those of its base.

    Raises:
        ConfigError: there is no such preset; names the nearest.
    """
    tree = _read(name)
    tree.pop("about")
    base = tree.pop("base", None)
    return merge(load(base), tree) if base else tree


def _read(name: str) -> Tree:
    path = _FOLDER / f"{name}.yaml"
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1, 0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError([f"preset {name!r} does not exist{hint} (known: {', '.join(names())})"])
    return read_yaml(path)


def difference(first: Tree, second: Tree, path: str = "") -> list[tuple[str, Any, Any]]:
    """Settings that differ between two trees: ``(path, first's, second's)``, None where absent."""
    rows: list[tuple[str, Any, Any]] = []
    for key in sorted({*first, *second}):
        one, two = first.get(key), second.get(key)
        where = f"{path}.{key}" if path else key
        if isinstance(one, dict) and isinstance(two, dict):
            rows += difference(one, two, where)
        elif one != two:
            rows.append((where, one, two))
    return rows
