"""Bytes that are written once and read by several processes: in shared memory, or in a file."""

from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Bytes = NDArray[np.uint8]

_CHUNK = 2**28
_ALIGNMENT = 64


class Store(Protocol):
    """Blocks of bytes by the place at which :meth:`append` put them."""

    def append(self, block: Bytes) -> int:
        """Keep a block; returns its place."""
        ...

    def read(self, place: int, count: int) -> Bytes:
        """``count`` bytes of a block from ``place`` on, as a view."""
        ...


class SharedStore:
    """Memory that worker processes see too; it goes with the last process that uses it."""

    def __init__(self) -> None:
        self._chunks: list[Tensor] = []
        self._used = 0

    def append(self, block: Bytes) -> int:
        """Keep a block, which must fit into a chunk of 256 MiB.

        Raises:
            ValueError: it does not.
        """
        if len(block) > _CHUNK:
            raise ValueError(
                f"a picture takes {len(block) / 2**20:.0f} MiB, too much to keep in memory; "
                "set data.cache=disk or none"
            )
        if not self._chunks or self._used + len(block) > _CHUNK:
            chunk = torch.empty(_CHUNK, dtype=torch.uint8)
            self._chunks.append(chunk.share_memory_())  # type: ignore[no-untyped-call]
            self._used = 0
        begin = self._used
        self._chunks[-1][begin : begin + len(block)] = torch.from_numpy(block)
        self._used += -(-len(block) // _ALIGNMENT) * _ALIGNMENT
        return (len(self._chunks) - 1) * _CHUNK + begin

    def read(self, place: int, count: int) -> Bytes:
        """See :class:`Store`."""
        chunk, begin = divmod(place, _CHUNK)
        view: Bytes = self._chunks[chunk].numpy()[begin : begin + count]
        return view


class FileStore:
    """A file, mapped into memory where it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._map: Bytes | None = None
        self._used = 0

    def append(self, block: Bytes) -> int:
        """Write a block."""
        if self._file is None:
            self._file = self._path.open("wb")
        place = self._used
        padding = -len(block) % _ALIGNMENT
        self._file.write(block.tobytes() + b"\0" * padding)
        self._used += len(block) + padding
        return place

    def close(self) -> None:
        """End writing; nothing where nothing is being written."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, place: int, count: int) -> Bytes:
        """See :class:`Store`."""
        if self._map is None:
            # The plain array over the map: slices of a memmap take ten times as long.
            self._map = np.memmap(self._path, np.uint8, mode="r").view(np.ndarray)
        return self._map[place : place + count]

    def __reduce__(self) -> tuple[type["FileStore"], tuple[Path]]:
        # A map would be copied to a worker process; there it is made anew.
        return FileStore, (self._path,)
