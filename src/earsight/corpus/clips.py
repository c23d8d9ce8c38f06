"""From rows to batches of clips, with failures replaced, counted and named."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from earsight.config import AudioConfig, DataConfig, VideoConfig
from earsight.corpus.batch import Batch, Failure, failure_of
from earsight.corpus.heartbeat import Heartbeat, decoding
from earsight.corpus.instances import Instances
from earsight.corpus.requests import evaluation_requests
from earsight.corpus.sampling import (
    Order,
    replacement,
    shuffled_partners,
    training_requests,
)
from earsight.corpus.sources import Files, Source
from earsight.errors import RunError
from earsight.media.types import ClipRequest, Limits, MediaError

_REPLACEMENTS = 20


class LoaderError(RunError):
    """Batches cannot be made; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """What a clip is, for all who cut one.

    Attributes:
        video: what its pictures are.
        audio: what its sound is.
        data: who reads, and what a file may cost.
        seed: of all draws.
        modalities: those that are read; where a clip begins does not depend on it.
    """

    video: VideoConfig
    audio: AudioConfig
    data: DataConfig
    seed: int = 0
    modalities: Collection[str] = ("video", "audio")

    @property
    def limits(self) -> Limits:
        """What a file may cost while training."""
        return Limits(pixels=self.data.max_pixels, seconds=self.data.timeout)

    def wanted(self, requests: Sequence[ClipRequest]) -> list[ClipRequest]:
        """The requests without what is not read."""
        left_out: dict[str, Any] = {n: () for n in ("video", "audio") if n not in self.modalities}
        return [replace(one, **left_out) for one in requests] if left_out else list(requests)

    @property
    def pictures(self) -> bool:
        """Whether pictures are read."""
        return "video" in self.modalities

    def samples(self, seconds: float) -> int:
        """Samples of so much sound; 0 where none is read."""
        return round(seconds * self.audio.rate) if "audio" in self.modalities else 0


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What is read for a sample; with shuffled pairs, sound comes of another row."""

    clip: ClipRequest
    sound: ClipRequest | None = None
    sound_row: int = -1


class TrainingClips(Dataset[Batch]):
    """Item ``m`` is micro-batch ``m`` of the whole run: a pure function of the settings.

    With several processes it is one rank's part of it: micro-batch ``m`` has the global sample
    indices from ``m·batch`` to ``(m+1)·batch``, and rank ``r`` the ``r``-th contiguous part.
    An unreadable file's place is taken by the next of a fixed sequence of draws for its sample.

    Args:
        instances: what is drawn from.
        settings: what a clip is.
        batch: clips of a micro-batch, over all ranks; a multiple of ``ranks``.
        views: views per sample.
        rank: the part that is made.
        ranks: parts in all.
        source: where clips come from; None for their files.
        labels: ``(N,)``, one of each row, to be given out with it.
    """

    def __init__(
        self,
        instances: Instances,
        settings: ClipSettings,
        *,
        batch: int,
        views: int,
        source: Source | None = None,
        rank: int = 0,
        ranks: int = 1,
        labels: NDArray[np.int64] | None = None,
    ) -> None:
        assert batch % ranks == 0
        self.instances = instances
        self.settings = settings
        self.batch = batch // ranks
        self.views = views
        self.source = source or Files()
        self.rank = rank
        self.ranks = ranks
        self.labels = labels
        self.order = Order(seed=settings.seed, size=len(instances), block=settings.data.block)
        self.heartbeat: Heartbeat | None = None

    def __getitem__(self, number: int) -> Batch:
        part = number * self.ranks + self.rank
        index = np.arange(self.batch, dtype=np.int64) + part * self.batch
        row = self.order.rows(index)
        requests = self._requests(row, index)
        failures: list[Failure] = []
        clips: list[Any] = []
        for at in range(self.batch):
            clip = self._decode(row, at, requests[at], failures)
            for attempt in range(1, _REPLACEMENTS + 1):
                if clip is not None:
                    break
                row[at] = replacement(
                    self.settings.seed, int(index[at]), attempt, len(self.instances)
                )
                requests[at] = self._requests(row[at : at + 1], index[at : at + 1])[0]
                clip = self._decode(row, at, requests[at], failures)
            if clip is None:
                raise LoaderError(_hopeless(failures))
            clips.append(clip)
        samples = self.settings.samples(self.settings.audio.stretch[1])
        wanted = [request.clip for request in requests]
        batch = _collate(self.source, self.instances, row, index, wanted, clips, failures, samples)
        if self.settings.data.pairs == "shuffled":
            heard = np.array([request.sound_row for request in requests])
            batch = replace(batch, has_audio=torch.from_numpy(self.instances.has_audio[heard]))
        if self.labels is None:
            return batch
        return replace(batch, labels=torch.from_numpy(self.labels[row]))

    def _requests(self, row: NDArray[np.int64], index: NDArray[np.int64]) -> list[_Request]:
        own = self._clip_requests(row, index)
        if self.settings.data.pairs == "true":
            return [_Request(clip=clip) for clip in own]
        partner = shuffled_partners(self.settings.seed, row, index, len(self.instances))
        others = self._clip_requests(partner, index)
        return [
            _Request(
                clip=replace(clip, audio=()), sound=replace(other, video=()), sound_row=int(at)
            )
            for clip, other, at in zip(own, others, partner, strict=True)
        ]

    def _clip_requests(self, row: NDArray[np.int64], index: NDArray[np.int64]) -> list[ClipRequest]:
        requests = training_requests(
            self.instances,
            row,
            index,
            seed=self.settings.seed,
            views=self.views,
            video=self.settings.video,
            audio=self.settings.audio,
        )
        return self.settings.wanted(requests)

    def _decode(
        self, row: NDArray[np.int64], at: int, request: _Request, failures: list[Failure]
    ) -> Any:
        seen = self.settings.pictures
        clip = _decode(self, self.instances, int(row[at]), request.clip, failures, seen)
        if request.sound is None or clip is None:
            return clip
        heard = _decode(self, self.instances, request.sound_row, request.sound, failures, False)
        return None if heard is None else replace(clip, audio=heard.audio)


class EvaluationClips(Dataset[Batch]):
    """Item ``m`` holds rows ``rows[m·batch : (m+1)·batch]``, one view per evenly spaced clip.

    Unreadable files are left out of the batch and named in its failures.
    """

    def __init__(
        self,
        instances: Instances,
        settings: ClipSettings,
        *,
        rows: NDArray[np.int64],
        batch: int,
        clips: int,
        source: Source | None = None,
    ) -> None:
        self.instances = instances
        self.settings = settings
        self.rows = rows
        self.batch = batch
        self.clips = clips
        self.source = source or Files()
        self.heartbeat: Heartbeat | None = None

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch)

    def __getitem__(self, number: int) -> Batch:
        row = self.rows[number * self.batch : (number + 1) * self.batch]
        requests = evaluation_requests(
            self.instances,
            row,
            clips=self.clips,
            video=self.settings.video,
            audio=self.settings.audio,
        )
        requests = self.settings.wanted(requests)
        failures: list[Failure] = []
        decoded = [
            _decode(self, self.instances, int(r), request, failures, self.settings.pictures)
            for r, request in zip(row, requests, strict=True)
        ]
        good = [at for at, clip in enumerate(decoded) if clip is not None]
        clips = [clip for clip in decoded if clip is not None]
        kept = [requests[at] for at in good]
        samples = self.settings.samples(self.settings.audio.duration)
        chosen = row[good]
        return _collate(self.source, self.instances, chosen, chosen, kept, clips, failures, samples)


def _decode(
    clips: TrainingClips | EvaluationClips,
    instances: Instances,
    row: int,
    request: ClipRequest,
    failures: list[Failure],
    pictures: bool,
) -> Any:
    """What the source reads of a row; None where it cannot, with the failure noted.

    With ``pictures``, an instance without any cannot be read: all clips of a view have the same
    modalities.
    """
    try:
        if pictures and not request.video:
            raise MediaError("has no picture within the instance")
        with decoding(clips.heartbeat, row):
            return clips.source.read(int(instances.key[row]), request, clips.settings.limits)
    except MediaError as error:
        failures.append(failure_of(int(instances.key[row]), request.path, error))
        return None


def _hopeless(failures: Sequence[Failure]) -> str:
    last = failures[-1]
    return (
        f"{len(failures)} files in a row could not be read, the last {last.path} ({last.reason}); "
        "scan again with --deep to leave broken files out; where they are shards, copy the shard "
        "again, or delete it and run `earsight prepare` again"
    )


def _collate(
    source: Source,
    instances: Instances,
    row: NDArray[np.int64],
    index: NDArray[np.int64],
    requests: Sequence[ClipRequest],
    clips: Sequence[Any],
    failures: Sequence[Failure],
    samples: int,
) -> Batch:
    views = len(requests[0].video or requests[0].audio) if requests else 0
    has_audio = instances.has_audio[row]
    return Batch(
        views=tuple(source.view(view, clips, samples) for view in range(views)),
        row=torch.from_numpy(row.copy()),
        index=torch.from_numpy(index.copy()),
        start=torch.tensor([(r.video or r.audio)[0].start for r in requests], dtype=torch.float64),
        has_audio=torch.from_numpy(has_audio.copy()),
        failures=tuple(failures),
    )
