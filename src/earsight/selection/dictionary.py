"""The dictionary: a queue of keys that queries are compared with (cm-acc §3)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Dictionary(nn.Module):
    """The last ``K`` keys that were put in, of each modality, with the rows of their clips.

    Buffers (the state that is saved) are one ``(K, D)`` float32 tensor per modality, by its name,
    ``rows`` ``(K,)`` int64 (-1 where nothing was put yet), and ``head``, the place of the oldest.

    Args:
        size: ``K``, entries.
        dim: ``D``, size of the keys.
        modalities: names of the keys that an entry has.
    """

    rows: Tensor
    head: Tensor

    def __init__(
        self, size: int, dim: int, *, modalities: Sequence[str] = ("video", "audio")
    ) -> None:
        super().__init__()
        for name in modalities:
            self.register_buffer(name, torch.zeros(size, dim))
        self.register_buffer("rows", torch.full((size,), -1))
        self.register_buffer("head", torch.tensor(0))

    def __len__(self) -> int:
        return len(self.rows)

    def keys(self, modality: str) -> Tensor:
        """All keys of a modality, ``(K, D)``."""
        return self.get_buffer(modality)

    @torch.no_grad()
    def enqueue(self, rows: Tensor, keys: Mapping[str, Tensor]) -> None:
        """Put entries in; as many of the oldest leave.

        Any number may come: past the last place it goes on with the first, and of more than ``K``
        the last ``K`` stay.

        Args:
            rows: ``(B,)`` int64.
            keys: modality to ``(B, D)``.
        """
        size, count = len(self), len(rows)
        kept = slice(max(0, count - size), count)
        places = (self.head + torch.arange(count, device=rows.device)[kept]) % size
        for name, x in keys.items():
            self.keys(name)[places] = x[kept].to(self.keys(name).dtype)
        self.rows[places] = rows[kept]
        self.head.copy_((self.head + count) % size)
