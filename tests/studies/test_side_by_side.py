"""Jobs in processes of their own: one that is stopped leaves nothing behind."""

import os
import time
from functools import partial
from multiprocessing import get_context, resource_tracker
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from earsight.config import parse
from earsight.corpus.loader import _shielded
from earsight.presets import load
from earsight.studies.design import Stage
from earsight.studies.side_by_side import _start, _stop
from earsight.studies.stages import make_job

SLEEP = 120
"""Seconds of work that a stop cuts short."""


class Pids:
    """A data set that says who reads it."""

    def __getitem__(self, _):
        return os.getpid()


def evaluate(job, watch, told):
    """Wait in the middle of reading with workers."""
    loader = DataLoader(
        Pids(), batch_size=None, sampler=range(1000), num_workers=2,
        multiprocessing_context=get_context("forkserver"),
    )  # fmt: skip
    batches = iter(loader)
    readers = {int(next(batches)) for _ in range(4)}
    told.write_text(" ".join(map(str, readers)))
    time.sleep(SLEEP)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="asks /proc who is alive")
def test_loaders_end_with_an_evaluation_that_is_stopped(tmp_path):
    told = tmp_path / "readers"
    stage = Stage(do="evaluate", of="train", task="probe")
    job = make_job("probe", stage, parse(load("tiny")), "digest")
    work = partial(evaluate, told=told)
    # It would take the shield away as it starts.
    resource_tracker.ensure_running()
    # Where a loader was the first to need the server, all that is forked from it is shielded.
    with _shielded():
        pipe, running = _start(job, work, get_context("forkserver"))
    until = time.monotonic() + 300
    while not told.exists() or not told.read_text():
        assert time.monotonic() < until
        assert running.process.is_alive()
        time.sleep(0.1)
    began = time.monotonic()
    _stop({pipe: running})
    assert time.monotonic() - began < SLEEP / 2
    readers = [int(pid) for pid in told.read_text().split()]
    assert readers
    assert not any(map(alive, readers))
