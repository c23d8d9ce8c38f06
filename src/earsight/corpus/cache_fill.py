"""Decoding instances into a store: everything that a run may ask of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from earsight.config import AudioConfig, VideoConfig
from earsight.corpus.cache_index import Index
from earsight.corpus.facts import Unread
from earsight.corpus.instances import Instances
from earsight.corpus.parallel import Lost, each
from earsight.corpus.requests import audio_span, video_span
from earsight.corpus.store import Store
from earsight.media.keep import FrameKind, Kept, Span, keep
from earsight.media.types import AudioRequest, Limits, MediaError

Progress = Callable[[int, int], None]
Ints = NDArray[np.int64]

_GRACE = 5.0
_BYTES_PER_PIXEL = 1.5


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
class _Stored:
    """Where the parts of one instance went."""

    kept: Kept
    kind: Ints
    offset: Ints
    count: Ints
    place: int
    samples: int


def fill(store: Store, order: Order) -> Index:
    """Decode every instance into ``store``."""
    chosen = order.instances
    spans = spans_of(chosen, order.video, order.audio)
    found: dict[int, _Stored | Unread] = {}
    kinds: dict[FrameKind, int] = {}
    seconds = [order.limits.seconds + _GRACE] * len(spans)
    work = partial(_keep, order.limits)
    for at, result in each(work, spans, workers=order.workers, seconds=seconds):
        # What ended a decoder of its own would end one that trains.
        kept = Unread(reason=result.reason, passing=False) if isinstance(result, Lost) else result
        found[at] = kept if isinstance(kept, Unread) else _put(store, kept, kinds)
        if order.progress is not None:
            order.progress(len(found), len(spans))
    by_key = {int(chosen.key[at]): found[at] for at in np.argsort(chosen.key).tolist()}
    return _index(by_key, tuple(kinds), order.audio.rate)


def _keep(limits: Limits, span: Span) -> Kept | Unread:
    """What is kept of a span, or why it cannot be read."""
    try:
        return keep(span, limits)
    except MediaError as error:
        return Unread(reason=str(error), passing=error.passing)
    except Exception as error:  # noqa: BLE001 - one odd file must not end them all; it is named
        why = f"cannot be kept ({type(error).__name__}: {error})"
        return Unread(reason=why, passing=False)


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


def _index(found: Mapping[int, _Stored | Unread], kinds: tuple[FrameKind, ...], rate: int) -> Index:
    """The index of instances by key, in ascending order; unreadable ones have nothing."""
    stored = {key: item for key, item in found.items() if isinstance(item, _Stored)}
    unread = {key: item for key, item in found.items() if isinstance(item, Unread)}
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
        reasons={key: item.reason for key, item in unread.items()},
        passing=frozenset(key for key, item in unread.items() if item.passing),
        rate=rate,
    )
