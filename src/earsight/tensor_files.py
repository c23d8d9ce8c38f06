"""Safetensors files as a whole, apart from other files: the command line starts without torch."""

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from earsight.files import put_in_place


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file as a whole, as readable for others as any new file.

    Raises:
        OSError: it cannot be written; a former file is untouched, and nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name[:32]}.{secrets.token_hex(4)}.part")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file({name: x.contiguous() for name, x in tensors.items()}, temporary, dict(metadata))
        # It makes a file that is its owner's alone.
        temporary.chmod(mode)
        put_in_place(temporary, path)
    except SafetensorError as error:
        raise _of_system(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def _of_system(error: SafetensorError, path: Path) -> OSError:
    """The error of the system behind one that names it in its text alone."""
    found = re.search(r"os error (\d+)", str(error))
    if found is None:
        return OSError(f"{path}: {error}")
    return OSError(int(found[1]), os.strerror(int(found[1])), str(path))
