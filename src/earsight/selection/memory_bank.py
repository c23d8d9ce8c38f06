"""The memory bank: one stored target per row and modality (avid-cma §3)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from earsight.random import bits, stream

_BLOCK = 8192


class MemoryBank(nn.Module):
    """Targets ``x̄_i ← normalise(m·x̄_i + (1−m)·x_i)``, random unit vectors at the start.

    Buffers (the state that is saved) are one ``(N, D)`` float32 tensor per modality, by its name,
    and ``visited`` ``(N,)`` bool: the rows that were updated at least once. Rows never visited may
    serve as negatives, as in the paper, but not in mining.

    Args:
        size: ``N``, rows.
        dim: ``D``, size of the embeddings.
        seed: of the first targets.
        momentum: ``m``.
        modalities: names of the targets kept.
    """

    visited: Tensor

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        seed: int,
        momentum: float = 0.5,
        modalities: Sequence[str] = ("video", "audio"),
    ) -> None:
        super().__init__()
        self.momentum = momentum
        for name in modalities:
            self.register_buffer(name, random_unit_vectors(seed, f"bank/{name}", size, dim))
        self.register_buffer("visited", torch.zeros(size, dtype=torch.bool))

    def __len__(self) -> int:
        return len(self.visited)

    def targets(self, modality: str) -> Tensor:
        """All targets of a modality, ``(N, D)``."""
        return self.get_buffer(modality)

    def gather(self, modality: str, rows: Tensor) -> Tensor:
        """Targets ``(…, D)`` of rows ``(…)``."""
        return self.targets(modality)[rows]

    @torch.no_grad()
    def update(self, row: Tensor, embeddings: Mapping[str, Tensor]) -> None:
        """Move the targets of the rows of a global batch towards their embeddings.

        A row that occurs several times is moved once, towards the normalised mean of its
        embeddings. The same batch leaves the same bits on every rank. A sample with an embedding
        that is not finite (its optimiser step is not made either) changes nothing.

        Args:
            row: ``(B,)`` int64.
            embeddings: modality to ``(B, D)``, L2-normalised.
        """
        usable = torch.stack([x.isfinite().all(dim=1) for x in embeddings.values()]).all(dim=0)
        same = (row[:, None] == row) & usable
        # Every occurrence writes what the first one computes: then their order does not matter.
        first = (row[:, None] == row).to(torch.uint8).argmax(dim=1)
        for name, embedding in embeddings.items():
            targets = self.targets(name)
            moved = self._moved(targets[row], embedding, same)
            targets[row] = moved[first]
        self.visited[row] = self.visited[row] | same.any(dim=1)

    @torch.no_grad()
    def take(self, state: Mapping[str, Tensor], rows: Tensor, *, prefix: str = "") -> int:
        """Take over targets of another bank, row by row.

        Args:
            state: its buffers by name, as in a ``state_dict``.
            rows: ``(N,)`` int64, its row for each of this bank's; -1 where there is none. Such
                rows stay as they are.
            prefix: of the names.

        Returns:
            How many rows were taken: 0 where it has no targets of these modalities and size.
        """
        names = [name for name, _ in self.named_buffers()]
        found = {name: state.get(f"{prefix}{name}") for name in names}
        for name, buffer in self.named_buffers():
            other = found[name]
            if other is None or other.shape[1:] != buffer.shape[1:]:
                return 0
        known = rows >= 0
        for name, buffer in self.named_buffers():
            other = found[name]
            assert other is not None
            buffer[known] = other.to(buffer.device)[rows[known]]
        return int(known.sum())

    def _moved(self, old: Tensor, embedding: Tensor, same: Tensor) -> Tensor:
        """New targets ``(B, D)``; ``same[i, j]`` says that sample ``j`` counts for row ``i``."""
        # Reduced multiplications (TF32) would round the embeddings; float64 is never reduced.
        wide = torch.float32 if old.device.type == "mps" else torch.float64
        known = torch.where(same.any(dim=0)[:, None], embedding, 0.0).to(wide)
        mean = F.normalize(same.to(wide) @ known, dim=1)
        moved = F.normalize(self.momentum * old.to(wide) + (1 - self.momentum) * mean, dim=1)
        return torch.where(same.any(dim=1)[:, None], moved.to(old.dtype), old)


def random_unit_vectors(seed: int, purpose: str, size: int, dim: int) -> Tensor:
    """``(size, dim)`` float32 directions, uniform on the sphere, each a function of its row."""
    vectors = torch.empty(size, dim)
    for begin in range(0, size, _BLOCK):
        rows = np.arange(begin, min(begin + _BLOCK, size))
        block = _gaussian(seed, purpose, rows, dim)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        vectors[begin : begin + len(rows)] = torch.from_numpy(block)
    return vectors


def _gaussian(seed: int, purpose: str, rows: NDArray[np.int64], dim: int) -> NDArray[np.float32]:
    """Standard normal draws ``(len(rows), dim)`` by Box and Muller, a pair from 64 bits."""
    draws = bits(stream(seed, purpose, rows)[:, None], np.arange((dim + 1) // 2))
    # Half a unit keeps the logarithm's argument off zero.
    upper = ((draws >> np.uint64(32)).astype(np.float64) + 0.5) * 2.0**-32
    lower = (draws & np.uint64(0xFFFFFFFF)).astype(np.float64) * 2.0**-32
    radius = np.sqrt(-2 * np.log(upper)).astype(np.float32)
    angle = (2 * np.pi * lower).astype(np.float32)
    pairs = np.concatenate((radius * np.cos(angle), radius * np.sin(angle)), axis=1)
    return pairs[:, :dim]
