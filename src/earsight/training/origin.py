"""Where imported weights come from: written once, and said with all that is made of them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from safetensors import safe_open

SCHEMA = 1
"""Version of ``origin.json``."""

NAME = "origin.json"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Of which file the weights of a run are, or those that it started from, and on what terms.

    Attributes:
        layout: ``avid``, the layout of the file.
        file: its name, without folders.
        sha256: of its content.
        licence: of the weights.
        criterion: what they were trained by, as far as the file tells.
        epoch: at which they were saved; None where the file does not say.
        read: settings read off the file, by dotted name.
        assumed: settings that the file does not tell, by dotted name.
        given: settings given at the import.
        statistics: the name of the file of the spectrograms' statistics; empty for none.
        keys: ``used``, ``unused`` and ``missing`` keys, each with the reason.
        warnings: what is wrong with the weights as imported.
        trained: whether they were trained further, so that the run's weights are others by now.
    """

    layout: str
    file: str
    sha256: str
    licence: str
    criterion: str
    epoch: int | None
    read: Mapping[str, Any]
    assumed: Mapping[str, Any]
    given: tuple[str, ...]
    statistics: str
    keys: Mapping[str, Mapping[str, str]]
    warnings: tuple[str, ...] = field(default=())
    trained: bool = False

    @property
    def weights(self) -> str:
        """Which weights they are, in a few words."""
        return self.file if self.epoch is None else f"{self.file}, epoch {self.epoch}"

    @property
    def notices(self) -> tuple[str, ...]:
        """What must be said with everything that is made of the weights."""
        how = "trained from weights imported" if self.trained else "imported"
        return (f"{how} from {self.weights}: {self.licence}", *self.warnings)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with the schema."""
        return {"schema": SCHEMA, **asdict(self)}


def write_origin(run: Path, origin: Origin) -> None:
    """Write ``RUN/origin.json``."""
    text = json.dumps(origin.as_dict(), indent=2, allow_nan=False, ensure_ascii=False)
    (run / NAME).write_text(text + "\n", encoding="utf-8")


def read_origin(run: Path) -> Origin | None:
    """Where the weights of a run come from; None where all of it was trained here.

    Raises:
        ValueError: the file is damaged or of another schema.
    """
    path = run / NAME
    if not path.exists():
        return None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        found = tree.pop("schema", None) if isinstance(tree, dict) else None
        if found != SCHEMA:
            raise ValueError(f"has schema {found}, this version reads {SCHEMA}")
        return TypeAdapter(Origin).validate_python(tree)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: cannot be read ({next(iter(str(error).splitlines()), 'empty')}); "
            "import the weights again"
        ) from error


def inherited(start: Path) -> Origin | None:
    """Where the weights come from of a run that starts from the run ``start``.

    Raises:
        ValueError: what it says of them cannot be read.
    """
    origin = read_origin(start)
    return None if origin is None else replace(origin, trained=True)


def notices(run: Path) -> tuple[str, ...]:
    """What must be said with everything that is made of a run's weights; mostly nothing.

    ``run`` may be a single exported file, which says it itself.
    """
    if run.is_file():
        with safe_open(run, framework="numpy") as file:
            return tuple(json.loads((file.metadata() or {}).get("notices", "[]")))
    origin = read_origin(run)
    return () if origin is None else origin.notices
