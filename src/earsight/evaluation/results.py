"""The file an evaluation leaves in its run: ``evaluation/NAME.json``."""

import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from earsight.evaluation.rows import Row
from earsight.files import write_whole
from earsight.training.devices import versions

SCHEMA = 1
"""Version of the evaluation file."""


def machine() -> str:
    """The system, its cores and its accelerator, in one line (no host name)."""
    parts = [platform.platform(), f"{os.cpu_count()} cores"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """An evaluation and everything needed to repeat it.

    Attributes:
        name: of the file, without its suffix.
        protocol: what was done, in a sentence or two.
        seed: of every draw.
        corpus: what was evaluated on.
        weights: which weights were, such as a checkpoint's path and step.
        rows: the numbers.
        seconds: wall-clock time taken.
        details: anything more, as plain data (chosen C, accuracy of each class).
        time: when it ended, UTC, ISO 8601.
        machine: where it ran.
        versions: of the software.
    """

    name: str
    protocol: str
    seed: int
    corpus: str
    weights: str
    rows: tuple[Row, ...]
    seconds: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)
    time: str = field(default_factory=_now)
    machine: str = field(default_factory=machine)
    versions: Mapping[str, str] = field(default_factory=versions)


def write_evaluation(run: Path, evaluation: Evaluation) -> Path:
    """Write ``RUN/evaluation/NAME.json``, replacing one of that name at once or not at all.

    Returns:
        The file.

    Raises:
        ValueError: a name that is no plain file name, or a value that is not finite.
        OSError: it cannot be written; a former file is untouched.
    """
    name = evaluation.name
    if not name or name.startswith(".") or Path(name).name != name:
        raise ValueError(f"{name!r} cannot name an evaluation; use a plain word")
    for row in evaluation.rows:
        if not all(x is None or math.isfinite(x) for x in (row.value, row.chance, row.baseline)):
            raise ValueError(f"{row.task} {row.modality} {row.metric} is not finite; not written")
    tree = {"schema": SCHEMA} | {
        f.name: getattr(evaluation, f.name) for f in fields(evaluation) if f.name != "rows"
    }
    tree["results"] = [row.as_dict() for row in evaluation.rows]
    text = json.dumps(tree, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    path = run / "evaluation" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    return path


def read_evaluation(path: Path) -> Evaluation:
    """Read what :func:`write_evaluation` wrote.

    Raises:
        ValueError: no JSON, of another schema, or with settings missing; the message names the
            file.
        OSError: it cannot be read.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: is not valid JSON ({error}); evaluate again") from error
    found = tree.get("schema") if isinstance(tree, dict) else None
    if found != SCHEMA:
        raise ValueError(
            f"{path}: has schema {found!r}, this version reads {SCHEMA}; evaluate again"
        )
    tree["rows"] = tree.pop("results", None)
    # Nothing may be missing: a default would describe the machine that reads.
    if set(tree) != {"schema", *(f.name for f in fields(Evaluation))}:
        raise ValueError(f"{path}: has other entries than an evaluation; evaluate again")
    try:
        return TypeAdapter(Evaluation).validate_python(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: {where}: {first['msg']}; evaluate again") from error
