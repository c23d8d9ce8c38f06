"""A folder of shards while it is being made: begun, gone on with, tidied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from earsight.corpus.marks import is_mark
from earsight.corpus.replacing import is_beside, replacing
from earsight.corpus.shards.plan import SCHEMA, SHARDS, Plan
from earsight.media.types import Coding


def begin(output: Path, plan: Plan, coding: Coding, shard_seconds: float) -> None:
    """Make the folder, or see that it is of the same corpus and coding.

    Raises:
        ValueError: it holds something else, or shards of another corpus or coding.
    """
    about = {
        "schema": SCHEMA,
        "name": plan.name,
        "coding": asdict(coding),
        "shard_seconds": shard_seconds,
        "shards": plan.shards,
    }
    file = output / SHARDS
    # Hidden files are what other jobs are writing, or what one that was killed has left.
    there = output.exists() and (
        not output.is_dir() or any(not one.name.startswith(".") for one in output.iterdir())
    )
    if file.is_file():
        _compare(output, read_about(output), about)
        return
    if there:
        raise ValueError(f"{output}: holds something else already; give a new folder")
    output.mkdir(parents=True, exist_ok=True)
    with replacing(file) as opened:
        opened.write(json.dumps(about, indent=1).encode() + b"\n")


def read_about(folder: Path) -> dict[str, Any]:
    """What a folder of shards was begun with.

    Raises:
        ValueError: its file is damaged.
    """
    file = folder / SHARDS
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        about = None
    if isinstance(about, dict) and isinstance(about.get("coding"), dict):
        return about
    raise ValueError(
        f"{file}: is damaged; copy it from where the shards were made, or prepare into a new folder"
    )


def _compare(output: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    old, new = before.get("coding", {}), now["coding"]
    differ = [f"{name}={old.get(name)}" for name in new if old.get(name) != new[name]]
    if before.get("shard_seconds") != now["shard_seconds"]:
        differ.append(f"shard_seconds={before.get('shard_seconds')}")
    if differ:
        raise ValueError(
            f"{output}: was begun with {', '.join(differ)}; give the same again, or a new folder"
        )
    if before != now:
        raise ValueError(
            f"{output}: was made of another corpus, or of this one before it changed; "
            "give a new folder"
        )


def tidy(folder: Path) -> None:
    """Take away what writes that were cut off have left, and marks of parts, once all is whole."""
    for path in [*folder.iterdir()]:
        if is_beside(path.name) or is_mark(path.name):
            path.unlink(missing_ok=True)
