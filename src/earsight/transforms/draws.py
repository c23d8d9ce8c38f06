"""Draws for a batch of clips: one number per clip, a pure function of its sample index."""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from earsight import random

Index = NDArray[np.int64] | Tensor
"""Global sample indices ``(B,)`` int64; tensors are best kept on the CPU, to avoid a wait."""


def as_array(index: Index) -> NDArray[np.int64]:
    """The indices as a NumPy array (a tensor elsewhere than on the CPU is copied back)."""
    if isinstance(index, Tensor):
        index = index.cpu().numpy()
    return np.asarray(index, dtype=np.int64)


def check_count(index: Index, batch: int) -> None:
    """Refuse indices that are not one per clip.

    Raises:
        ValueError: ``index`` is not of shape ``(batch,)``.
    """
    if tuple(index.shape) != (batch,):
        raise ValueError(
            f"index: has shape {tuple(index.shape)}, but the batch has {batch} clips; "
            "give one sample index per clip"
        )


def between(
    low: float, high: float, purpose: str, *, seed: int, index: Index, view: int
) -> NDArray[np.float64]:
    """Uniform draws in ``[low, high)``, one per index: ``(B,)`` float64."""
    u = random.uniform(seed, purpose, as_array(index), view)
    return np.asarray(low + (high - low) * u)


def to_device(values: ArrayLike, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Numbers from the host as a tensor, without waiting for what the device is busy with."""
    tensor = torch.from_numpy(np.asarray(values)).to(dtype)
    return tensor.to(device, non_blocking=device.type == "cuda")
