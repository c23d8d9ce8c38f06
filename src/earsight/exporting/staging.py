"""Files made beside their place and moved there when all of them are good."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from earsight.exporting.subject import WEIGHTS

_OF_A_RUN = ("metrics.jsonl", "checkpoints", "log.txt")
_NAMES = ("video", "audio", "video_key", "audio_key")
OWN = (
    "README.md",
    "NOTICE",
    "config.yaml",
    "origin.json",
    WEIGHTS,
    *(f"{name}.{end}" for name in _NAMES for end in ("onnx", "pt2")),
)
"""What an export may leave in its folder, and another may replace there."""


def is_file(output: Path) -> bool:
    """Whether an output names a single file of weights, and no folder."""
    return output.suffix == ".safetensors"


def check_target(output: Path, *, overwrite: bool) -> None:
    """Refuse a place that holds something already.

    Raises:
        ValueError: it does, and replacing it was not asked for; or it is a run folder.
    """
    if any((output / name).exists() for name in _OF_A_RUN):
        raise ValueError(f"{output} is a run folder; choose another folder")
    if is_file(output) and output.is_dir():
        raise ValueError(f"{output} is a folder; name a file, or a folder without .safetensors")
    if not is_file(output) and output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file; name a folder")
    taken = output.exists() if is_file(output) else output.is_dir() and any(output.iterdir())
    if taken and not overwrite:
        raise ValueError(f"{output} exists already; choose another place, or add --overwrite")


@contextmanager
def staged(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder to make files in; they are moved to ``output`` at the end, if nothing fails.

    Raises:
        ValueError: see :func:`check_target`.
        OSError: the files cannot be written.
    """
    check_target(output, overwrite=overwrite)
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name[:32]}.", dir=output.parent))
    try:
        yield folder
        _move(folder, output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move(folder: Path, output: Path) -> None:
    if is_file(output):
        (folder / WEIGHTS).replace(output)
        return
    output.mkdir(exist_ok=True)
    made = {path.name for path in folder.iterdir()}
    for name in set(OWN) - made:
        (output / name).unlink(missing_ok=True)
    for name in made:
        (folder / name).replace(output / name)
