"""From rows to batches: decoding in workers, with failures replaced, counted and named."""

import math
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from earsight.config import AudioConfig, DataConfig, VideoConfig
from earsight.corpus.batch import Batch, Failure, View
from earsight.corpus.instances import Instances
from earsight.corpus.keys import key_text
from earsight.corpus.sampling import (
    Order,
    evaluation_requests,
    replacement,
    training_requests,
)
from earsight.errors import RunError
from earsight.media.decode import decode
from earsight.media.types import Clip, ClipRequest, Limits, MediaError

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


class TrainingClips(Dataset[Batch]):
    """Item ``m`` is micro-batch ``m`` of the whole run: a pure function of the settings.

    An unreadable file's place is taken by the next of a fixed sequence of draws for its sample.
    Batches have labels where ``labels (N,)`` gives one to each row.
    """

    def __init__(
        self,
        instances: Instances,
        settings: ClipSettings,
        *,
        batch: int,
        views: int,
        labels: NDArray[np.int64] | None = None,
    ) -> None:
        self.instances = instances
        self.settings = settings
        self.batch = batch
        self.views = views
        self.labels = labels
        self.order = Order(seed=settings.seed, size=len(instances), block=settings.data.block)
        self.heartbeat: Heartbeat | None = None

    def __getitem__(self, number: int) -> Batch:
        index = np.arange(self.batch, dtype=np.int64) + number * self.batch
        row = self.order.rows(index)
        requests = self._requests(row, index)
        failures: list[Failure] = []
        clips: list[Clip] = []
        for at in range(self.batch):
            clip = self._decode(row[at], requests[at], failures)
            for attempt in range(1, _REPLACEMENTS + 1):
                if clip is not None:
                    break
                row[at] = replacement(
                    self.settings.seed, int(index[at]), attempt, len(self.instances)
                )
                requests[at] = self._requests(row[at : at + 1], index[at : at + 1])[0]
                clip = self._decode(row[at], requests[at], failures)
            if clip is None:
                raise LoaderError(_hopeless(failures))
            clips.append(clip)
        samples = round(self.settings.audio.stretch[1] * self.settings.audio.rate)
        batch = _collate(self.instances, row, index, requests, clips, failures, samples)
        if self.labels is None:
            return batch
        return replace(batch, labels=torch.from_numpy(self.labels[row]))

    def _requests(self, row: NDArray[np.int64], index: NDArray[np.int64]) -> list[ClipRequest]:
        return training_requests(
            self.instances,
            row,
            index,
            seed=self.settings.seed,
            views=self.views,
            video=self.settings.video,
            audio=self.settings.audio,
        )

    def _decode(self, row: int, request: ClipRequest, failures: list[Failure]) -> Clip | None:
        return _decode(self, self.instances, int(row), request, failures)


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
    ) -> None:
        self.instances = instances
        self.settings = settings
        self.rows = rows
        self.batch = batch
        self.clips = clips
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
        return _collate(self.instances, row[good], row[good], kept, clips, failures, samples)


def _decode(
    clips: TrainingClips | EvaluationClips,
    instances: Instances,
    row: int,
    request: ClipRequest,
    failures: list[Failure],
) -> Clip | None:
    if clips.heartbeat is not None:
        clips.heartbeat.beat(row)
    try:
        return decode(request, clips.settings.limits)
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
    instances: Instances,
    row: NDArray[np.int64],
    index: NDArray[np.int64],
    requests: Sequence[ClipRequest],
    clips: Sequence[Clip],
    failures: Sequence[Failure],
    samples: int,
) -> Batch:
    views = len(requests[0].video) if requests else 0
    has_audio = instances.has_audio[row]
    return Batch(
        views=tuple(_view(view, clips, samples) for view in range(views)),
        row=torch.from_numpy(row.copy()),
        index=torch.from_numpy(index.copy()),
        start=torch.tensor([r.video[0].start for r in requests], dtype=torch.float64),
        has_audio=torch.from_numpy(has_audio.copy()),
        failures=tuple(failures),
    )


def _view(view: int, clips: Sequence[Clip], samples: int) -> View:
    """Pictures keep the layout of decoding; sound that is missing is silence."""
    frames = torch.from_numpy(np.stack([clip.video[view] for clip in clips]))
    sound = np.zeros((len(clips), samples), np.float32)
    for at, clip in enumerate(clips):
        if clip.audio:
            sound[at] = clip.audio[view]
    return {"video": frames.permute(0, 4, 1, 2, 3), "audio": torch.from_numpy(sound)}


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
    if workers == 0 or not len(numbers):
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


def _start_worker(_: int) -> None:
    # Ctrl-C reaches the whole process group; the main process decides when workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
