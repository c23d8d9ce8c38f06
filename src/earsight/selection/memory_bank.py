"""The memory bank: one stored target per row and modality (avid-cma §3)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from earsight.random import bits, stream
from earsight.selection.owners import Owners

_BLOCK = 8192


class MemoryBank(nn.Module):
    """Targets ``x̄_i ← normalise(m·x̄_i + (1−m)·x_i)``, random unit vectors at the start.

    Buffers (the state that is saved) are one ``(N, D)`` tensor per modality, by its name, and
    ``visited`` ``(N,)`` bool: the rows that were updated at least once. Rows never visited may
    serve as negatives, as in the paper, but not in mining.

    Several ranks may share the targets: then each keeps those of its rows alone, ``(N/R, D)``, and
    all know ``visited``. The same updates leave the same bits as in a bank that is not shared.

    Args:
        size: ``N``, rows.
        dim: ``D``, size of the embeddings.
        seed: of the first targets.
        momentum: ``m``.
        modalities: names of the targets kept.
        dtype: in which targets are stored. An update is computed in float64 and rounded once.
        rank: of the ranks that share the targets, this one's number.
        ranks: how many they are.
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
        dtype: torch.dtype = torch.float32,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.modalities = tuple(modalities)
        self.owners = Owners(size=size, rank=rank, ranks=ranks)
        for name in modalities:
            first = random_unit_vectors(
                seed, f"bank/{name}", size, dim, part=self.owners.own, dtype=dtype
            )
            self.register_buffer(name, first)
        self.register_buffer("visited", torch.zeros(size, dtype=torch.bool))

    def __len__(self) -> int:
        return len(self.visited)

    def targets(self, modality: str) -> Tensor:
        """The targets of a modality that this rank keeps: all, ``(N, D)``, unless shared."""
        return self.get_buffer(modality)

    def whole(self, modality: str) -> Tensor:
        """All targets of a modality, ``(N, D)``; all ranks that share them must ask."""
        return self.owners.whole(self.targets(modality))

    def fetch(
        self, modalities: Sequence[str], rows: Tensor, *, whole: bool = False
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Targets of ``rows``, wherever they are kept; all ranks that share them must ask.

        Args:
            modalities: of which targets.
            rows: int64, of any shape; each rank has its own.
            whole: fetch all targets, where so many rows are needed that it pays; the same on all
                ranks.

        Returns:
            Targets ``(M, D)`` by modality, and the places of ``rows`` among them. Of a bank that
            is not shared, all targets and ``rows``, without a copy.
        """
        if whole:
            return {name: self.whole(name) for name in modalities}, rows
        tables, places = self.owners.fetch([self.targets(name) for name in modalities], rows)
        return dict(zip(modalities, tables, strict=True)), places

    def whole_state(self) -> dict[str, Tensor]:
        """What is saved of this bank, by name; all ranks that share it must ask.

        It does not depend on how many they are, and any number can load it. Rank 0 alone gets the
        targets, in main memory where they are shared.
        """
        every = {name: self.owners.whole_on_main(self.targets(name)) for name in self.modalities}
        found = {name: targets for name, targets in every.items() if targets is not None}
        return {**found, "visited": self.visited}

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
        kept, samples = self._kept(row)
        for name, embedding in embeddings.items():
            targets = self.targets(name)
            # Of the whole batch, whoever keeps its rows: products of other sizes round otherwise.
            old = targets.new_zeros(embedding.shape)
            old[samples] = targets[kept]
            moved = self._moved(old, embedding, same)
            targets[kept] = moved[first[samples]]
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
            own = slice(None) if name == "visited" else self.owners.own
            theirs = rows[own][known[own]].to(other.device)
            buffer[known[own]] = other[theirs].to(buffer)
        return int(known.sum())

    def _kept(self, row: Tensor) -> tuple[Tensor, Tensor | slice]:
        """The places of a batch's rows among those kept here, and which samples these are."""
        if not self.owners.shared:
            return row, slice(None)
        samples = (self.owners.owner(row) == self.owners.rank).nonzero()[:, 0]
        return row[samples] - self.owners.own.start, samples

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        """Of a whole bank's targets, take the rows that are kept here."""
        for name in self.modalities:
            whole = state.get(f"{prefix}{name}")
            if whole is not None and len(whole) == len(self):
                state[f"{prefix}{name}"] = whole[self.owners.own]
        super()._load_from_state_dict(state, prefix, *rest)

    def _moved(self, old: Tensor, embedding: Tensor, same: Tensor) -> Tensor:
        """New targets ``(B, D)``; ``same[i, j]`` says that sample ``j`` counts for row ``i``."""
        # Reduced multiplications (TF32) would round the embeddings; float64 is never reduced.
        wide = torch.float32 if old.device.type == "mps" else torch.float64
        known = torch.where(same.any(dim=0)[:, None], embedding, 0.0).to(wide)
        mean = F.normalize(same.to(wide) @ known, dim=1)
        moved = F.normalize(self.momentum * old.to(wide) + (1 - self.momentum) * mean, dim=1)
        return torch.where(same.any(dim=1)[:, None], moved.to(old.dtype), old)


def random_unit_vectors(
    seed: int,
    purpose: str,
    size: int,
    dim: int,
    *,
    part: slice | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Directions uniform on the sphere, each a function of its row: ``(size, dim)``.

    With ``part``, those of its rows alone; they are rounded to ``dtype``.
    """
    part = slice(0, size) if part is None else part
    vectors = torch.empty(part.stop - part.start, dim, dtype=dtype)
    # Whole blocks, whatever the part: a vectorised function may round otherwise at its end.
    for begin in range(part.start // _BLOCK * _BLOCK, part.stop, _BLOCK):
        rows = np.arange(begin, min(begin + _BLOCK, size))
        block = _gaussian(seed, purpose, rows, dim)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        inside = (rows >= part.start) & (rows < part.stop)
        vectors[max(0, begin - part.start) :][: inside.sum()] = torch.from_numpy(block[inside])
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
