"""What a manifest tells, checked before anything is made of it."""

import json
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar, get_type_hints

import pyarrow as pa
import pyarrow.compute as pc

Made = TypeVar("Made")

METADATA = b"earsight"
"""The key of what a manifest tells besides its columns."""

_KINDS: Mapping[str, Callable[[pa.DataType], bool]] = types.MappingProxyType(
    {
        "text": lambda one: pa.types.is_string(one) or pa.types.is_large_string(one),
        "whole numbers": pa.types.is_integer,
        "numbers": pa.types.is_floating,
        "true or false": pa.types.is_boolean,
        "lists": lambda one: pa.types.is_list(one) or pa.types.is_large_list(one),
    }
)


def no_corpus(path: str) -> str:
    """What is said of a file that is no manifest."""
    return (
        f"{path} is no corpus, or is damaged; make one with 'earsight scan SOURCE -o FILE', where "
        "FILE is new"
    )


def about_of(table: pa.Table, path: str) -> dict[str, Any]:
    """What a manifest tells besides its columns.

    Raises:
        ValueError: it tells nothing, or nothing that can be read.
    """
    text = (table.schema.metadata or {}).get(METADATA)
    if text is None:
        raise ValueError(no_corpus(path))
    try:
        about = json.loads(text)
    except ValueError as error:
        raise ValueError(no_corpus(path)) from error
    if not isinstance(about, dict):
        raise ValueError(no_corpus(path))
    return about


def damaged(path: str, why: str) -> ValueError:
    """The error of a manifest that contradicts its schema."""
    return ValueError(
        f"{path} is damaged, or of a newer version: {why}; scan its sources again into a new file "
        "(keys stay the same), or use the version that wrote it"
    )


def built(kind: type[Made], values: object, path: str) -> Made:
    """A dataclass from the plain data that a manifest holds of it.

    Args:
        kind: the dataclass.
        values: a value per field, of the field's type; fields with a default may be left out.
        path: the manifest.

    Raises:
        ValueError: names of fields are unknown or missing, or a value is of another type.
    """
    name = kind.__name__
    if not isinstance(values, dict):
        raise damaged(path, f"its {name} is no table of names")
    hints = get_type_hints(kind)
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(values.keys() - known)
    if unknown:
        raise damaged(path, f"its {name} has {', '.join(unknown)}, of which nothing is known here")
    wrong = sorted(one for one, value in values.items() if not _fits(value, hints[one]))
    if wrong:
        raise damaged(path, f"its {name} tells {wrong[0]} as {values[wrong[0]]!r}")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise damaged(path, f"its {name} cannot be: {error}") from error


def _fits(value: object, hint: Any) -> bool:
    # JSON writes whole seconds as 10.0, but what edits it may write 10.
    return isinstance(value, hint) or (type(value) is int and isinstance(0.0, hint))


def roots_of(roots: object, used: pa.ChunkedArray, path: str) -> dict[str, str]:
    """The folder of each root, of which there must be all that the files name.

    Raises:
        ValueError: it is no table of texts, or lacks a root.
    """
    if not isinstance(roots, dict) or not all(isinstance(one, str) for one in roots.values()):
        raise damaged(path, "it does not tell where its sources lie")
    missing = sorted(map(str, set(pc.unique(used).to_pylist()) - roots.keys()))
    if missing:
        raise damaged(path, f"it does not tell where the source {missing[0]} lies")
    return roots


def typed(table: pa.Table, wanted: Iterable[pa.Field], path: str) -> pa.Table:
    """The table with its columns of the types that are wanted.

    What writes Parquet may widen a type, which is undone; another kind of value is refused.

    Raises:
        ValueError: names the first column that holds something else.
    """
    for field in wanted:
        column = table.column(field.name)
        if column.type == field.type:
            continue
        try:
            same = _kind(column.type) == _kind(field.type)
            cast = column.cast(field.type) if same else None
        except pa.ArrowInvalid:
            cast = None
        if cast is None:
            raise damaged(
                path,
                f"its column {field.name} holds {_kind(column.type)} ({column.type}) where "
                f"{_kind(field.type)} ({field.type}) should be",
            )
        table = table.set_column(table.schema.get_field_index(field.name), field, cast)
    return table


def _kind(one: pa.DataType) -> str:
    """What values of a type are; those that no manifest has are named after their type."""
    return next((name for name, is_kind in _KINDS.items() if is_kind(one)), str(one))
