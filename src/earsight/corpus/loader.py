"""Batches decoded ahead by worker processes, in order."""

from __future__ import annotations

import copy
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from multiprocessing.context import BaseContext

import torch
from torch.utils.data import DataLoader

from earsight.config import DataConfig
from earsight.corpus.batch import Batch
from earsight.corpus.clips import EvaluationClips, LoaderError, TrainingClips
from earsight.corpus.heartbeat import Heartbeat
from earsight.corpus.parallel import deaf_to
from earsight.corpus.windows import WindowClips
from earsight.media.nearby import NearbyError

Clips = TrainingClips | EvaluationClips | WindowClips

_SHARED_MEMORY = "/dev/shm"


def load(
    clips: Clips,
    numbers: range,
    data: DataConfig,
    *,
    workers: int,
    pin: bool = False,
) -> Iterator[Batch]:
    """Batches of the given numbers, in order, decoded ahead by ``workers`` processes.

    Raises:
        LoaderError: too little shared memory, a decode that hangs, or too many bad files in a row.
        NearbyError: copies of shards from elsewhere have no room.
    """
    if workers == 0 or not len(numbers) or not clips.source.shareable:
        for number in numbers:
            yield clips[number]
        return
    check_shared_memory(clips, data, workers)
    heartbeat = Heartbeat(workers)
    # Not the clips themselves: another load of them may be under way.
    watched = copy.copy(clips)
    watched.heartbeat = heartbeat
    loader = DataLoader(
        watched,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=data.prefetch,
        multiprocessing_context=_preloaded(),
        worker_init_fn=_start_worker,
        pin_memory=pin,
        timeout=data.timeout,
        # Or it would draw from the generator that modules draw from.
        generator=torch.Generator(),
    )
    with _shielded():
        batches = iter(loader)
    while True:
        try:
            yield next(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            _explain(error, clips, data, heartbeat)


def _preloaded() -> BaseContext:
    """The server that workers are forked from, with torch in it: else each would import it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    return context


def _explain(error: RuntimeError, clips: Clips, data: DataConfig, heartbeat: Heartbeat) -> None:
    """Name what hangs; return where the loader was only slow, so that it is asked again."""
    if isinstance(error, LoaderError | NearbyError):
        # A worker's error arrives with its traceback in front.
        name = type(error).__name__
        raise type(error)(str(error).rsplit(f"{name}: ", 1)[-1].strip()) from None
    if "exited unexpectedly" in str(error):
        raise LoaderError(
            "a worker that decodes ended: a script needs its work under "
            "`if __name__ == '__main__':`, or data.workers=0; if it has that, memory ran out: "
            "lower data.workers, data.prefetch or train.batch"
        ) from error
    # Only the loader's own: where a worker's error tells of a time-out, its batch is gone.
    if not str(error).startswith("DataLoader timed out after"):
        raise error
    stuck = heartbeat.stuck(2 * data.timeout)
    if stuck:
        paths = ", ".join(clips.instances.path[row] for row in stuck)
        raise LoaderError(
            f"decoding hangs for more than {2 * data.timeout:.0f} s on {paths}; move the file "
            "away and scan again, or raise data.timeout where the disk is slow"
        ) from error


def _shielded() -> AbstractContextManager[None]:
    """Processes started in here are deaf to Ctrl-C and SIGTERM, until they say otherwise."""
    return deaf_to(signal.SIGINT, signal.SIGTERM)


def _start_worker(_: int) -> None:
    # Ctrl-C and torchrun signal the whole process group; the main process decides when workers
    # end, by a SIGTERM to them alone. Until here they were deaf to both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    torch.set_num_threads(1)


def batch_bytes(clips: Clips) -> int:
    """Bytes of one batch as it comes from a worker."""
    video, audio = clips.settings.video, clips.settings.audio
    views = clips.views if isinstance(clips, TrainingClips) else clips.clips
    seconds = audio.stretch[1] if isinstance(clips, TrainingClips) else audio.duration
    clip = video.frames * video.size**2 * 3 + 4 * round(seconds * audio.rate)
    return clips.batch * views * clip


def check_shared_memory(clips: Clips, data: DataConfig, workers: int) -> None:
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
