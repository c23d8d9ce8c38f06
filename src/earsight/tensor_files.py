"""Safetensors files as a whole, apart from other files: the command line starts without torch."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from earsight.files import whole


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file as a whole, as readable for others as any new file.

    Raises:
        OSError: it cannot be written; a former file is untouched, and nothing is left beside it.
    """
    plain = {name: x.contiguous() for name, x in tensors.items()}
    with whole(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            save_file(plain, temporary, dict(metadata))
        except SafetensorError as error:
            raise _of_system(error, path) from error
        # It makes a file that is its owner's alone.
        temporary.chmod(mode)


def _of_system(error: SafetensorError, path: Path) -> OSError:
    """The error of the system behind one that names it in its text alone."""
    found = re.search(r"os error (\d+)", str(error))
    if found is None:
        return OSError(f"{path}: {error}")
    return OSError(int(found[1]), os.strerror(int(found[1])), str(path))
