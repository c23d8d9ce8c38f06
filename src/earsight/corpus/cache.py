"""Decoded clips kept in memory or on disk, so that each file is decoded once.

Whatever a run may ask of an instance is kept: every frame in its own size and pixel format, and
the sound at the run's rate. Requests are answered bit for bit as the files would.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.batch import View
from earsight.corpus.cache_fill import Order, fill, spans_of
from earsight.corpus.cache_index import CLIPS, SCHEMA, Index, read_index, write_index
from earsight.corpus.instances import Instances
from earsight.corpus.keys import key_text
from earsight.corpus.replacing import sync
from earsight.corpus.sources import stack
from earsight.corpus.store import Bytes, FileStore, SharedStore, Store
from earsight.media.decode import decode
from earsight.media.keep import Kept, Span, replay
from earsight.media.types import Clip, ClipRequest, Limits, MediaError

Ints = NDArray[np.int64]

_MEMORY = Path("/proc/meminfo")
_SHARED_MEMORY = Path("/dev/shm")


class ClipCache:
    """A :class:`~earsight.corpus.sources.Source` that decodes nothing."""

    shareable = True

    def __init__(self, index: Index, store: Store) -> None:
        self.index = index
        self.store = store

    def __len__(self) -> int:
        return len(self.index.key)

    @property
    def size(self) -> int:
        """Bytes of pictures and sound."""
        return int(self.index.count.sum() + 2 * self.index.samples.sum())

    def read(self, key: int, request: ClipRequest, limits: Limits) -> Clip:
        """Answer a request; raises MediaError where the file could not be read.

        What failed for a reason that may have passed is read from its file.
        """
        if key in self.index.passing:
            return decode(request, limits)
        if key in self.index.reasons:
            raise MediaError(self.index.reasons[key])
        return replay(self.kept(key), request, limits)

    def view(self, number: int, clips: Sequence[Clip], samples: int) -> View:
        """See :class:`~earsight.corpus.sources.Source`."""
        return stack(number, clips, samples)

    def kept(self, key: int) -> Kept:
        """What is kept of an instance."""
        index = self.index
        at = int(np.searchsorted(index.key, np.uint64(key)))
        assert at < len(index.key), f"{key_text(key)} is not of this cache"
        assert int(index.key[at]) == key, f"{key_text(key)} is not of this cache"
        frames = slice(int(index.frames[at]), int(index.frames[at + 1]))
        sound = self.store.read(int(index.place[at]), 2 * int(index.samples[at]))
        return Kept(
            zero=float(index.zero[at]),
            per_tick=float(index.per_tick[at]),
            tick=index.tick[frames],
            kind=index.kind[frames],
            kinds=index.kinds,
            pixels=_Frames(self.store, index.offset[frames], index.count[frames]),
            first=int(index.first[at]),
            rate=index.rate,
            samples=sound.view(np.int16),
        )


class _Frames(Sequence[Bytes]):
    """An instance's pictures, read when they are asked for: a clip takes a few of many."""

    def __init__(self, store: Store, offset: Ints, count: Ints) -> None:
        self._store, self._offset, self._count = store, offset, count

    def __len__(self) -> int:
        return len(self._offset)

    @overload
    def __getitem__(self, at: int) -> Bytes: ...

    @overload
    def __getitem__(self, at: slice) -> list[Bytes]: ...

    def __getitem__(self, at: int | slice) -> Bytes | list[Bytes]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        return self._store.read(int(self._offset[at]), int(self._count[at]))


def cache_in_memory(order: Order) -> ClipCache:
    """Decode everything into memory that workers share.

    Raises:
        ValueError: it would not fit.
    """
    free = _free_memory()
    needed = order.copies * order.estimate()
    if free is not None and needed > free:
        each = f", one for each of {order.copies} processes" if order.copies > 1 else ""
        raise ValueError(
            f"data.cache: memory would take about {_gib(needed)}{each}, and {_gib(free)} are free; "
            "set data.cache=disk (or none), or, in a container, enlarge shared memory (--shm-size)"
        )
    store = SharedStore()
    return ClipCache(fill(store, order), store)


def cache_on_disk(order: Order, folder: Path) -> ClipCache:
    """The cache of these clips in ``folder``, decoded if it is not there yet.

    It lies in a folder named by a hash of the instances, their files' sizes and times of change,
    what is kept of them and what a file may cost; one that is cut short is never taken for a whole
    one, but made anew.

    Raises:
        ValueError: it would not fit, or cannot be written.
    """
    spans = spans_of(order.instances, order.video, order.audio)
    target = folder / fingerprint(order.instances, spans, order.limits)
    clips = FileStore(target / CLIPS)
    if index := read_index(target):
        return ClipCache(index, clips)
    _write(order, target)
    index = read_index(target)
    assert index is not None, f"{target} was written and is not whole"
    return ClipCache(index, clips)


def _write(order: Order, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free, needed = shutil.disk_usage(target.parent).free, order.estimate()
        if needed > free:
            raise ValueError(
                f"data.cache: disk would take about {_gib(needed)} in {target.parent}, and "
                f"{_gib(free)} are free; choose another place with data.cache_folder"
            )
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as place:
            part = Path(place) / "cache"
            part.mkdir()
            (part / CLIPS).touch()  # where nothing can be kept, nothing is written
            store = FileStore(part / CLIPS)
            try:
                index = fill(store, order)
            finally:
                store.close()
            write_index(part, index)
            _publish(part, target)
    except OSError as error:
        raise ValueError(
            f"data.cache: cannot be written to {target.parent} ({error.strerror}); choose another "
            "place with data.cache_folder"
        ) from error


def _publish(part: Path, target: Path) -> None:
    """Put a whole cache into place; where another process was faster, its folder is as good."""
    for file in part.iterdir():
        sync(file)
    sync(part)
    if target.exists() and read_index(target) is None:
        # By another name first: who comes meanwhile finds none, or a whole one.
        target.rename(part.with_name("damaged"))
    try:
        part.rename(target)
    except OSError:
        if not target.exists():
            raise
    sync(target.parent)


def fingerprint(instances: Instances, spans: Sequence[Span], limits: Limits) -> str:
    """A name for what is kept of these instances.

    Limits are in it: what was refused is kept, too, and raising them is the remedy.
    """
    digest = hashlib.blake2b(f"{SCHEMA} {limits}".encode(), digest_size=12)
    order = np.argsort(instances.key)
    for part in (instances.key, instances.size, instances.mtime_ns):
        digest.update(np.ascontiguousarray(part[order]).tobytes())
    for at in order.tolist():
        span = asdict(spans[at]) | {"path": ""}
        digest.update(json.dumps(span, sort_keys=True).encode())
    return digest.hexdigest()


def _free_memory() -> float | None:
    """Bytes that may be taken, where the system tells."""
    free = [shutil.disk_usage(_SHARED_MEMORY).free] if _SHARED_MEMORY.is_dir() else []
    if _MEMORY.exists():
        lines = _MEMORY.read_text(encoding="ascii").splitlines()
        told = [line.split()[1] for line in lines if line.startswith("MemAvailable")]
        free += [1024 * int(kib) for kib in told]
    return min(free, default=None)


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
