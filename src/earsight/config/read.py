"""Reading settings strictly: every fault reported at once, with its path and the nearest name."""

import dataclasses
import difflib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from earsight.config.registry import CHOICES, ConfigError
from earsight.config.run import RunConfig
from earsight.files import write_whole

SCHEMA = 1
"""Version of the configuration file."""

Tree = dict[str, Any]


def parse(tree: Mapping[str, Any]) -> RunConfig:
    """Check a tree of settings and build the configuration.

    Raises:
        ConfigError: names every fault, with its path and, for unknown settings, the nearest name.
    """
    tree = dict(tree)
    if (schema := tree.pop("schema", SCHEMA)) != SCHEMA:
        raise ConfigError([f"schema: is {schema}; this version of earsight reads {SCHEMA}"])
    plugins = tree.get("plugins")
    faults = import_plugins(plugins) if isinstance(plugins, list | tuple) else []
    parts: Tree = {}
    for key, value in tree.items():
        part = _parse_part(str(key), value, tree, faults)
        if part is not None:
            parts[key] = part
    for key, registry in CHOICES.items():
        if key not in tree:
            faults.append(f"{key}: is missing; one of {', '.join(registry.names())}")
    if faults:
        raise ConfigError(faults)
    config = RunConfig(**parts)
    if own := list(config.faults()):
        raise ConfigError(own)
    return config


def import_plugins(names: Iterable[Any]) -> list[str]:
    """Import modules that register methods, encoders or rules; those that cannot be, as faults.

    They are looked for on Python's path, then in the current folder, which joins the path where it
    has one: processes that decode find it there too.
    """
    faults = []
    for name in names:
        try:
            _import_plugin(str(name))
        except ImportError as error:
            faults.append(f"plugins: cannot import {name!r}: {error}")
    return faults


def _import_plugin(name: str) -> None:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ImportError("this is no name of a module")
    here, first = Path.cwd(), name.partition(".")[0]
    known = first in sys.modules or importlib.util.find_spec(first) is not None
    if not known and ((here / f"{first}.py").is_file() or (here / first).is_dir()):
        sys.path.append(str(here))
    importlib.import_module(name)


def _parse_part(key: str, value: Any, tree: Tree, faults: list[str]) -> Any:
    fields = {f.name: f for f in dataclasses.fields(RunConfig)}
    if key not in fields:
        meant = " or ".join(map(repr, _of_that_name(key, tree)))
        unknown = f"{key}: no such setting; did you mean {meant}?" if meant else None
        faults.append(unknown or _unknown(key, fields))
        return None
    if key in CHOICES:
        return _parse_choice(key, value, faults)
    return _checked(key, fields[key].type, value, faults)


def _of_that_name(name: str, tree: Tree) -> list[str]:
    """Settings of that name in any section."""
    kinds: dict[str, Any] = {f.name: f.type for f in dataclasses.fields(RunConfig)}
    for key, registry in CHOICES.items():
        chosen = tree[key].get("name") if isinstance(tree.get(key), Mapping) else None
        kinds[key] = registry.settings_of(chosen) if chosen in registry.names() else None
    sections = {key: kind for key, kind in kinds.items() if dataclasses.is_dataclass(kind)}
    return [
        f"{key}.{name}"
        for key, kind in sections.items()
        if name in {f.name for f in dataclasses.fields(kind)}
    ]


def _parse_choice(key: str, value: Any, faults: list[str]) -> Any:
    registry = CHOICES[key]
    if not isinstance(value, Mapping):
        faults.append(f"{key}: has settings of its own; give {key}.name={value}")
        return None
    name = value.get("name")
    if name not in registry.names():
        near = difflib.get_close_matches(str(name), registry.names(), 1, 0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        names = ", ".join(registry.names())
        faults.append(f"{key}.name: {name!r} is not one of {names}{hint}")
        return None
    return _checked(key, registry.settings_of(name), value, faults)


def _checked(path: str, kind: Any, value: Any, faults: list[str]) -> Any:
    """``value`` as ``kind``, or None after its faults have been added."""
    try:
        made = TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        for item in error.errors():
            faults.append(_describe(path, kind, item))
        return None
    if mistaken := list(_yes_or_no(path, value, made)):
        faults.extend(mistaken)
        return None
    if hasattr(made, "faults"):
        own = [f"{path}.{fault}" for fault in made.faults()]
        faults.extend(own)
        return None if own else made
    return made


def _yes_or_no(path: str, given: Any, made: Any) -> Iterator[str]:
    """Faults for true and false where a number is asked for, which pydantic takes for 1 and 0."""
    if isinstance(given, bool) and not isinstance(made, bool):
        yield f"{path}: input should be a number (given {given})"
    elif isinstance(given, Mapping) and dataclasses.is_dataclass(made):
        for name, item in given.items():
            yield from _yes_or_no(f"{path}.{name}", item, getattr(made, name))
    elif isinstance(given, list | tuple) and isinstance(made, tuple):
        for item, one in zip(given, made, strict=True):
            yield from _yes_or_no(path, item, one)


def _describe(path: str, kind: Any, item: Any) -> str:
    names = [str(part) for part in item["loc"]]
    where = ".".join([path, *names])
    if item["type"] == "unexpected_keyword_argument":
        return _unknown(where, {f.name: f for f in dataclasses.fields(kind)})
    if item["type"] == "tuple_type":
        return f"{where}: must be a list, such as [{item['input']}]"
    message = item["msg"]
    return f"{where}: {message[:1].lower()}{message[1:]} (given {item['input']!r})"


def _unknown(path: str, known: Mapping[str, Any]) -> str:
    name = path.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
    return f"{path}: no such setting; {hint}"


def as_tree(config: RunConfig) -> Tree:
    """The configuration as plain data, ready for YAML or JSON."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return value

    tree = plain(config)
    assert isinstance(tree, dict)
    return tree


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """``over`` laid over ``base``, section by section; another choice's name starts afresh."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if not isinstance(below, Mapping) or not isinstance(value, Mapping):
            merged[key] = value
        elif value.get("name", below.get("name")) != below.get("name"):
            merged[key] = dict(value)
        else:
            merged[key] = merge(below, value)
    return merged


def override(tree: Mapping[str, Any], settings: Iterable[str]) -> Tree:
    """Apply ``section.name=value`` settings (values are YAML) to a tree.

    Raises:
        ConfigError: names every setting that is not of this form.
    """
    faults: list[str] = []
    given: Tree = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            faults.append(f"{setting!r}: settings are written section.name=value")
            continue
        try:
            _put(given, path.split("."), _scalar(yaml.safe_load(text)))
        except yaml.YAMLError:
            faults.append(
                f"{setting!r}: the value is no YAML; put text with special signs in quotes"
            )
    if faults:
        raise ConfigError(faults)
    # All at once: a choice's name starts its section afresh, but not what is given beside it.
    return merge(tree, given)


def _put(tree: Tree, names: Sequence[str], value: Any) -> None:
    first, *rest = names
    if not rest:
        tree[first] = value
        return
    below = tree.get(first)
    if not isinstance(below, dict):
        below = tree[first] = {}
    _put(below, rest, value)


def _scalar(value: Any) -> Any:
    """YAML 1.1 reads 1e-4 as text; a person means a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def read_yaml(path: Path) -> Tree:
    """A mapping read from a YAML file; keys given twice are refused.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds no mapping.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not written in UTF-8; save it so"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: is not valid YAML: {error}"]) from error
    if not isinstance(tree, dict):
        raise ConfigError([f"{path}: must hold settings, such as 'seed: 1'"])
    return tree


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {twice[0]!r} is given twice")
        return super().construct_mapping(node, deep)


def yaml_text(config: RunConfig) -> str:
    """The resolved configuration as YAML."""
    tree = {"schema": SCHEMA, **as_tree(config)}
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def write_yaml(path: Path, config: RunConfig) -> None:
    """Write the resolved configuration, whole or not at all.

    Raises:
        OSError: it cannot be written; a former file is untouched.
    """
    write_whole(path, yaml_text(config))
