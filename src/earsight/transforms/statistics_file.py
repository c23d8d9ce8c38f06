"""Mean and deviation per frequency from a NumPy file."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_FORMAT = (
    "give an .npz with the arrays mean and std, one value per band each, "
    "or an .npy of two rows, the means first"
)


def read_statistics(path: Path, bands: int) -> tuple[Tensor, Tensor]:
    """Read the statistics of spectrograms, as the published AVID-CMA code keeps them.

    Args:
        path: an ``.npz`` with the arrays ``mean`` and ``std``, ``(bands,)`` each, or an ``.npy``
            of shape ``(2, bands)``, the means first; all in decibel.
        bands: as many as the spectrograms have.

    Returns:
        Mean and deviation, ``(bands,)`` float32 each.

    Raises:
        ValueError: the file cannot be read, has another layout or number of bands, or holds
            values that are no statistics.
    """
    mean, std = _arrays(path)
    for name, values in (("mean", mean), ("std", std)):
        if values.shape != (bands,):
            raise ValueError(
                f"{path}: {name} is of shape {values.shape}, but audio.bands is {bands}; "
                "take the statistics that belong to these spectrograms"
            )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std >= 0).all()):
        raise ValueError(f"{path}: must be finite, with no deviation below 0; take another file")
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(std.astype(np.float32))


def _arrays(path: Path) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                mean, std = found
            else:
                mean, std = found["mean"], found["std"]
    except FileNotFoundError as error:
        raise ValueError(f"{path}: there is no such file of statistics") from error
    except (OSError, EOFError, ValueError, TypeError, KeyError, BadZipFile) as error:
        raise ValueError(f"{path}: cannot be read as statistics; {_FORMAT}") from error
    if not (np.issubdtype(mean.dtype, np.floating) and np.issubdtype(std.dtype, np.floating)):
        raise ValueError(f"{path}: holds no floating-point numbers; {_FORMAT}")
    return np.squeeze(mean), np.squeeze(std)
