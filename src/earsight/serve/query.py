"""Queries: uploads decoded elsewhere, embedded here, and remembered by a name that is drawn."""

import json
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight.search.embed import Span, WindowEmbedder
from earsight.search.embedder import Embedder, Embedding
from earsight.serve.limits import RefusedError, UploadLimits
from earsight.serve.plan import BATCH, Plan

KEPT = 64
"""Queries that are remembered; the oldest is forgotten first."""

_LINE = 65536
_TYPES = {"video": np.uint8, "audio": np.float32}
View = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Query:
    """What was uploaded, by its embedding alone.

    Attributes:
        name: of the file, as the browser told it.
        seconds: that it plays.
        embedding: the mean of its windows.
    """

    name: str
    seconds: float
    embedding: Embedding


class Queries:
    """The latest queries, by names that cannot be guessed."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._known: OrderedDict[str, Query] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, query: Query) -> str:
        """Remember a query; returns its name."""
        name = secrets.token_urlsafe(12)
        with self._lock:
            self._known[name] = query
            while len(self._known) > self._kept:
                self._known.popitem(last=False)
        return name

    def get(self, name: str) -> Query:
        """The query of a name.

        Raises:
            RefusedError: there is none, or no longer.
        """
        with self._lock:
            if name not in self._known:
                raise RefusedError(404, "This query is not known any more; drop the file again.")
            return self._known[name]


def plan_for(embedder: Embedder, limits: UploadLimits) -> Plan:
    """How uploads are cut for an embedder: as it cuts files."""
    windows = WindowEmbedder(loaded=embedder.loaded, device=embedder.device, span=Span())
    config = embedder.loaded.config
    return Plan(
        video=config.video,
        audio=config.audio,
        modalities=windows.modalities,
        seconds=windows.seconds,
        limits=limits,
    )


_EMBEDDING = threading.Lock()


def embed_upload(file: IO[bytes], embedder: Embedder, plan: Plan) -> Embedding:
    """Embed a file that nobody vouches for: decoded in a limited process, a batch at a time.

    Raises:
        RefusedError: it is no media, or costs more than it may.
    """
    times: list[NDArray[np.float64]] = []
    parts: list[View] = []
    with decoding(file, plan) as batches:
        for some, view in batches:
            times.append(some)
            with _EMBEDDING:  # one at a time: torch uses all cores for each
                parts.append(embedder.embed_clips(view))
    start, end = np.concatenate(times, axis=1)
    vectors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Embedding(start=start, end=end, vectors=vectors)


@contextmanager
def decoding(file: IO[bytes], plan: Plan) -> Iterator[Iterator[tuple[NDArray[np.float64], View]]]:
    """Times ``(2, B)`` (starts and ends) and clips of an upload's windows, in batches.

    The process ends with the context.
    """
    limits = plan.limits
    process = subprocess.Popen(
        # -P: nothing is imported from where the server was started.
        [sys.executable, "-P", "-m", "earsight.serve.decode", plan.to_json()],
        stdin=file,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the server
    )
    clock = _Clock(process, limits.decode_seconds)
    try:
        assert process.stdout is not None
        yield _batches(process.stdout, process, plan, clock)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


class _Clock:
    """Kills a process that is waited for longer than this in all.

    It stands while the server computes: an upload is not late because others are embedded.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", seconds: float) -> None:
        self.late = False
        self._process = process
        self._left = seconds

    @contextmanager
    def running(self) -> Iterator[None]:
        """Waiting for the process."""
        began = time.monotonic()
        timer = threading.Timer(self._left, self._stop)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self._left = max(0.0, self._left - (time.monotonic() - began))

    def _stop(self) -> None:
        self.late = True
        self._process.kill()


Decoded = tuple[NDArray[np.float64], View]


def _batches(
    out: IO[bytes], process: "subprocess.Popen[bytes]", plan: Plan, clock: _Clock
) -> Iterator[Decoded]:
    while True:
        with clock.running():
            found = _batch(out, process, plan, clock)
        if found is None:
            return
        yield found


def _batch(
    out: IO[bytes], process: "subprocess.Popen[bytes]", plan: Plan, clock: _Clock
) -> Decoded | None:
    """The next batch; None after the last."""
    line = out.readline(_LINE)
    if not line.endswith(b"\n"):
        raise RefusedError(422, _why_ended(process, plan.limits, clock))
    said: dict[str, Any] = json.loads(line)
    if "end" in said:
        return None
    if "refused" in said:
        status = 415 if "not a media file" in said["refused"] else 422
        raise RefusedError(status, f"The file {said['refused']}.")
    times = np.array([said["start"], said["stop"]], np.float64)
    assert 0 < times.shape[1] <= BATCH
    view: View = {}
    for name in said["modalities"]:
        shape = plan.shape(name, times.shape[1])
        size = int(np.prod(shape)) * np.dtype(_TYPES[name]).itemsize
        content = out.read(size)
        if len(content) < size:
            raise RefusedError(422, _why_ended(process, plan.limits, clock))
        x = torch.from_numpy(np.frombuffer(bytearray(content), _TYPES[name]).reshape(shape))
        view[name] = x.permute(0, 4, 1, 2, 3) if name == "video" else x
    return times, view


def _why_ended(process: "subprocess.Popen[bytes]", limits: UploadLimits, clock: _Clock) -> str:
    code = process.wait()
    if clock.late:
        return f"The file takes longer to decode than the limit of {limits.decode_seconds:g} s."
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"The file takes more than {limits.decode_cpu} s of computing to decode."
    return "The file made its decoder end: it is damaged, or asks for more than it may have."
