"""From rows to batches: decoding in workers, with failures replaced, counted and named."""

from __future__ import annotations

import math
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from earsight.config import AudioConfig, DataConfig, VideoConfig
from earsight.corpus.batch import Batch, Failure
from earsight.corpus.instances import Instances
from earsight.corpus.keys import key_text
from earsight.corpus.sampling import (
    Order,
    evaluation_requests,
    replacement,
    shuffled_partners,
    training_requests,
)
from earsight.corpus.sources import Files, Source
from earsight.errors import RunError
from earsight.media.types import ClipRequest, Limits, MediaError

_REPLACEMENTS = 20
_SHARED_MEMORY = "/dev/shm"


class LoaderError(RunError):
    """Batches cannot be made; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """What a clip is, for all who cut one."""

    video: VideoConfig
    audio: AudioConfig
    data: DataConfig
    seed: int = 0

    @property
    def limits(self) -> Limits:
        """What a file may cost while training."""
        return Limits(pixels=self.data.max_pixels, seconds=self.data.timeout)


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
        samples = round(self.settings.audio.stretch[1] * self.settings.audio.rate)
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
        return training_requests(
            self.instances,
            row,
            index,
            seed=self.settings.seed,
            views=self.views,
            video=self.settings.video,
            audio=self.settings.audio,
        )

    def _decode(
        self, row: NDArray[np.int64], at: int, request: _Request, failures: list[Failure]
    ) -> Any:
        clip = _decode(self, self.instances, int(row[at]), request.clip, failures)
        if request.sound is None or clip is None:
            return clip
        heard = _decode(self, self.instances, request.sound_row, request.sound, failures)
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
        failures: list[Failure] = []
        decoded = [
            _decode(self, self.instances, int(r), request, failures)
            for r, request in zip(row, requests, strict=True)
        ]
        good = [at for at, clip in enumerate(decoded) if clip is not None]
        clips = [clip for clip in decoded if clip is not None]
        kept = [requests[at] for at in good]
        samples = round(self.settings.audio.duration * self.settings.audio.rate)
        chosen = row[good]
        return _collate(self.source, self.instances, chosen, chosen, kept, clips, failures, samples)


def _decode(
    clips: TrainingClips | EvaluationClips,
    instances: Instances,
    row: int,
    request: ClipRequest,
    failures: list[Failure],
) -> Any:
    """What the source reads of a row; None where it cannot, with the failure noted."""
    if clips.heartbeat is not None:
        clips.heartbeat.beat(row)
    try:
        return clips.source.read(int(instances.key[row]), request, clips.settings.limits)
    except MediaError as error:
        key = key_text(int(instances.key[row]))
        failures.append(Failure(key=key, path=request.path, reason=str(error)))
        return None


def _hopeless(failures: Sequence[Failure]) -> str:
    last = failures[-1]
    return (
        f"{len(failures)} files in a row could not be read, the last {last.path} ({last.reason}); "
        "scan the sources again, so that what is gone or broken is left out"
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
    views = len(requests[0].video) if requests else 0
    has_audio = instances.has_audio[row]
    return Batch(
        views=tuple(source.view(view, clips, samples) for view in range(views)),
        row=torch.from_numpy(row.copy()),
        index=torch.from_numpy(index.copy()),
        start=torch.tensor([r.video[0].start for r in requests], dtype=torch.float64),
        has_audio=torch.from_numpy(has_audio.copy()),
        failures=tuple(failures),
    )


class Heartbeat:
    """What each worker is decoding, and since when, in memory that all processes share."""

    def __init__(self, workers: int) -> None:
        self._row = torch.full((workers,), -1, dtype=torch.int64)
        self._since = torch.zeros(workers, dtype=torch.float64)
        for shared in (self._row, self._since):
            shared.share_memory_()  # type: ignore[no-untyped-call]

    def beat(self, row: int) -> None:
        """Note, in a worker, that ``row`` is decoded from now on."""
        worker = torch.utils.data.get_worker_info()
        if worker is not None:
            self._row[worker.id] = row
            self._since[worker.id] = time.time()

    def stuck(self, seconds: float) -> list[int]:
        """Rows that a worker has been decoding for longer than ``seconds``."""
        late = (self._row >= 0) & (time.time() - self._since > seconds)
        return [int(row) for row in self._row[late]]


def load(
    clips: TrainingClips | EvaluationClips,
    numbers: range,
    data: DataConfig,
    *,
    workers: int,
    pin: bool = False,
) -> Iterator[Batch]:
    """Batches of the given numbers, in order, decoded ahead by ``workers`` processes.

    Raises:
        LoaderError: too little shared memory, a decode that hangs, or too many bad files in a row.
    """
    if workers == 0 or not len(numbers) or not clips.source.shareable:
        for number in numbers:
            yield clips[number]
        return
    check_shared_memory(clips, data, workers)
    clips.heartbeat = Heartbeat(workers)
    loader = DataLoader(
        clips,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=data.prefetch,
        multiprocessing_context="forkserver",
        worker_init_fn=_start_worker,
        pin_memory=pin,
        timeout=data.timeout,
    )
    with _shielded():
        batches = iter(loader)
    while True:
        try:
            yield next(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            _explain(error, clips, data)


def _explain(error: RuntimeError, clips: TrainingClips | EvaluationClips, data: DataConfig) -> None:
    """Name what hangs; return where the loader was only slow, so that it is asked again."""
    if isinstance(error, LoaderError):
        # A worker's error arrives with its traceback in front.
        raise LoaderError(str(error).rsplit("LoaderError: ", 1)[-1].strip()) from None
    if "exited unexpectedly" in str(error):
        raise LoaderError(
            "a worker that decodes ended: a script needs its work under "
            "`if __name__ == '__main__':`, or data.workers=0; if it has that, memory ran out: "
            "lower data.workers, data.prefetch or train.batch"
        ) from error
    if "timed out" not in str(error):
        raise error
    assert clips.heartbeat is not None
    stuck = clips.heartbeat.stuck(2 * data.timeout)
    if stuck:
        paths = ", ".join(clips.instances.path[row] for row in stuck)
        raise LoaderError(
            f"decoding hangs for more than {2 * data.timeout:.0f} s on {paths}; move the file "
            "away and scan again, or raise data.timeout where the disk is slow"
        ) from error


@contextmanager
def _shielded() -> Iterator[None]:
    """Processes started in here are blind to SIGTERM, until they say otherwise."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(_: int) -> None:
    # Ctrl-C and torchrun signal the whole process group; the main process decides when workers
    # end, by a SIGTERM to them alone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    torch.set_num_threads(1)


def batch_bytes(clips: TrainingClips | EvaluationClips) -> int:
    """Bytes of one batch as it comes from a worker."""
    video, audio = clips.settings.video, clips.settings.audio
    views = clips.views if isinstance(clips, TrainingClips) else clips.clips
    seconds = audio.stretch[1] if isinstance(clips, TrainingClips) else audio.duration
    clip = video.frames * video.size**2 * 3 + 4 * round(seconds * audio.rate)
    return clips.batch * views * clip


def check_shared_memory(
    clips: TrainingClips | EvaluationClips, data: DataConfig, workers: int
) -> None:
    """Raise LoaderError where the batches in flight do not fit into shared memory."""
    if not os.path.isdir(_SHARED_MEMORY):  # noqa: PTH112 - not every system has it
        return
    needed = batch_bytes(clips) * workers * data.prefetch
    free = shutil.disk_usage(_SHARED_MEMORY).free
    if free < needed:
        raise LoaderError(
            f"workers pass batches through shared memory, which has {free / 2**20:.0f} MiB free "
            f"and needs {needed / 2**20:.0f} MiB; set data.workers=0, lower data.prefetch or "
            "train.batch, or enlarge it (docker run --shm-size)"
        )
