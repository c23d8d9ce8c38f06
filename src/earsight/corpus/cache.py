"""Decoded clips kept in memory or on disk, so that each file is decoded once.

Whatever a run may ask of an instance is kept: every frame in its own size and pixel format, and
the sound at the run's rate. Requests are answered bit for bit as the files would.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from earsight.config import AudioConfig, VideoConfig
from earsight.corpus.batch import View
from earsight.corpus.cache_index import CLIPS, SCHEMA, Index, read_index, write_index
from earsight.corpus.instances import Instances
from earsight.corpus.keys import key_text
from earsight.corpus.parallel import Lost, each
from earsight.corpus.replacing import sync
from earsight.corpus.requests import audio_span, video_span
from earsight.corpus.sources import stack
from earsight.corpus.store import Bytes, FileStore, SharedStore, Store
from earsight.media.keep import FrameKind, Kept, Span, keep, replay
from earsight.media.types import AudioRequest, Clip, ClipRequest, Limits, MediaError

Progress = Callable[[int, int], None]
Ints = NDArray[np.int64]

_GRACE = 5.0
_BYTES_PER_PIXEL = 1.5
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
        """Answer a request; raises MediaError where the file could not be read."""
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


def spans_of(instances: Instances, video: VideoConfig, audio: AudioConfig) -> list[Span]:
    """All that clips with these settings may ask of each instance."""
    rows = np.arange(len(instances))
    low, high = video_span(instances, rows)
    high = np.maximum(high, low + video.duration)
    sound_low, sound_high = audio_span(instances, rows)
    sound_high = np.maximum(sound_high, sound_low + max(audio.duration, audio.stretch[1]))
    return [
        Span(
            path=instances.path[row],
            video=(float(low[row]), float(high[row])) if instances.has_video[row] else None,
            audio=_sound(sound_low[row], sound_high[row], audio.rate)
            if instances.has_audio[row]
            else None,
            video_stream=int(instances.video_stream[row]) if instances.has_video[row] else None,
            audio_stream=int(instances.audio_stream[row]) if instances.has_audio[row] else None,
        )
        for row in rows
    ]


def _sound(low: float, high: float, rate: int) -> AudioRequest:
    # A few samples more: where a request begins is rounded, and so is how long it is.
    margin = 1 / rate
    duration = float(high - low) + 4 * margin
    return AudioRequest(start=float(low) - margin, duration=duration, rate=rate)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be cached, and how.

    Attributes:
        instances: of all splits.
        video: what a clip's pictures are.
        audio: what its sound is.
        limits: what a file may cost.
        workers: processes that decode.
        copies: that are made at once on this machine, where it is in memory.
        progress: told of instances done, and of how many.
    """

    instances: Instances
    video: VideoConfig
    audio: AudioConfig
    limits: Limits
    workers: int
    copies: int = 1
    progress: Progress | None = None

    def estimate(self) -> float:
        """Bytes that it will take, about: eight bits per sample of 4:2:0."""
        chosen = self.instances
        low, high = video_span(chosen, np.arange(len(chosen)))
        seconds = np.maximum(high - low, self.video.duration)
        frames = np.where(chosen.has_video, seconds, 0) * np.maximum(chosen.fps, 1)
        sound = np.maximum(chosen.end - chosen.start, self.audio.stretch[1]) * self.audio.rate * 2
        return float((frames * chosen.width * chosen.height * _BYTES_PER_PIXEL + sound).sum())


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
    return ClipCache(_fill(store, order), store)


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
                index = _fill(store, order)
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


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """Where the parts of one instance went."""

    kept: Kept
    kind: Ints
    offset: Ints
    count: Ints
    place: int
    samples: int


def _fill(store: Store, order: Order) -> Index:
    """Decode every instance into ``store``."""
    chosen = order.instances
    spans = spans_of(chosen, order.video, order.audio)
    found: dict[int, _Stored | str] = {}
    kinds: dict[FrameKind, int] = {}
    seconds = [order.limits.seconds + _GRACE] * len(spans)
    work = partial(_keep, order.limits)
    for at, result in each(work, spans, workers=order.workers, seconds=seconds):
        kept = result.reason if isinstance(result, Lost) else result
        found[at] = kept if isinstance(kept, str) else _put(store, kept, kinds)
        if order.progress is not None:
            order.progress(len(found), len(spans))
    by_key = {int(chosen.key[at]): found[at] for at in np.argsort(chosen.key).tolist()}
    return _index(by_key, tuple(kinds), order.audio.rate)


def _keep(limits: Limits, span: Span) -> Kept | str:
    """What is kept of a span, or why it cannot be read."""
    try:
        return keep(span, limits)
    except MediaError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - one odd file must not end them all; it is named
        return f"cannot be kept ({type(error).__name__}: {error})"


def _put(store: Store, kept: Kept, kinds: dict[FrameKind, int]) -> _Stored:
    known = [kinds.setdefault(kind, len(kinds)) for kind in kept.kinds]
    return _Stored(
        kept=replace(kept, pixels=(), samples=kept.samples[:0]),
        kind=np.array([known[kind] for kind in kept.kind], np.int64),
        offset=np.array([store.append(block) for block in kept.pixels], np.int64),
        count=np.array([len(block) for block in kept.pixels], np.int64),
        place=store.append(kept.samples.view(np.uint8)),
        samples=len(kept.samples),
    )


def _index(found: Mapping[int, _Stored | str], kinds: tuple[FrameKind, ...], rate: int) -> Index:
    """The index of instances by key, in ascending order; unreadable ones have nothing."""
    stored = {key: item for key, item in found.items() if isinstance(item, _Stored)}
    parts = list(stored.values())

    def joined(name: str) -> Ints:
        arrays = [getattr(part, name) for part in parts]
        return np.concatenate([np.empty(0, np.int64), *arrays])

    return Index(
        key=np.array(list(stored), np.uint64),
        zero=np.array([part.kept.zero for part in parts], np.float64),
        per_tick=np.array([part.kept.per_tick for part in parts], np.float64),
        frames=np.cumsum([0, *(len(part.kind) for part in parts)], dtype=np.int64),
        first=np.array([part.kept.first for part in parts], np.int64),
        samples=np.array([part.samples for part in parts], np.int64),
        place=np.array([part.place for part in parts], np.int64),
        tick=np.concatenate([np.empty(0, np.int64), *(part.kept.tick for part in parts)]),
        kind=joined("kind"),
        offset=joined("offset"),
        count=joined("count"),
        kinds=kinds,
        reasons={key: item for key, item in found.items() if isinstance(item, str)},
        rate=rate,
    )


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
