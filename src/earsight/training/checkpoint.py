"""Checkpoints: everything that the next loss depends on, never half there."""

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from earsight.errors import RunError

SCHEMA = 2
"""Version of the checkpoint's layout."""


class DiskError(RunError):
    """A checkpoint that cannot be written; those before it are intact."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says what to do."""


def checkpoint_path(run: Path, step: int) -> Path:
    """Where a run keeps the checkpoint of a step."""
    return run / "checkpoints" / f"step-{step:09d}.pt"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` beside ``path``, sync it, and rename it into place.

    Raises:
        DiskError: the disk is full or refuses; what was there before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            torch.save({"schema": SCHEMA, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        # torch reports a short write as RuntimeError.
        temporary.unlink(missing_ok=True)
        raise DiskError(
            f"{path}: the checkpoint could not be written ({error}); the earlier ones are intact: "
            "make room on the disk and go on with --resume"
        ) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_checkpoint(path: Path, mapped: bool = False) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, weights only (no code of a stranger is run).

    Of one that is ``mapped``, tensors are read as they are used.

    Raises:
        CheckpointError: it is missing, damaged, or of another schema.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such checkpoint") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, UnpicklingError) as error:
        raise CheckpointError(
            f"{path}: is no checkpoint that can be read ({type(error).__name__}: {_line(error)}); "
            "delete it to resume from the one before"
        ) from error
    found = state.get("schema") if isinstance(state, dict) else None
    if found != SCHEMA:
        raise CheckpointError(
            f"{path}: has schema {found}, this version reads {SCHEMA}; "
            "use the version of earsight that wrote it, or start a new run"
        )
    return dict(state)


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "it is empty")


def steps_saved(run: Path) -> list[int]:
    """Steps of the run's checkpoints, oldest first."""
    files = (run / "checkpoints").glob("step-*.pt")
    return sorted(int(file.stem.removeprefix("step-")) for file in files)


def prune(run: Path, keep_last: int, keep: set[int]) -> None:
    """Delete checkpoints but the last ``keep_last`` and the steps in ``keep``."""
    for step in steps_saved(run)[:-keep_last]:
        if step not in keep:
            checkpoint_path(run, step).unlink()
