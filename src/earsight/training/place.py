"""Which of several processes this one is: ``torchrun`` says so in the environment."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from earsight.errors import SaidElsewhereError


@dataclass(frozen=True, kw_only=True)
class Place:
    """A process among those that were started together.

    Attributes:
        rank: its number, from 0.
        size: processes in all.
        local_rank: its number on its machine.
        local_size: processes on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def place() -> Place:
    """This process's place, as ``torchrun`` tells it; alone without it."""
    told = os.environ
    return Place(
        rank=int(told.get("RANK", "0")),
        size=int(told.get("WORLD_SIZE", "1")),
        local_rank=int(told.get("LOCAL_RANK", "0")),
        local_size=int(told.get("LOCAL_WORLD_SIZE", "1")),
    )


def claim_gpu(device: str) -> None:
    """Make this process's GPU the current one, where several processes share a machine.

    Raises:
        ValueError: there are fewer GPUs than processes, or ``device`` cannot be shared.
    """
    here = place()
    if here.size == 1:
        return
    if device.startswith(("cuda:", "mps")):
        raise ValueError(
            f"device: {device!r} cannot be divided among processes; set device=cuda (one GPU per "
            "process) or device=cpu, or start a single process"
        )
    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return
    if here.local_size > torch.cuda.device_count():
        raise ValueError(
            f"device: {here.local_size} processes share {torch.cuda.device_count()} GPUs; start "
            "one process per GPU (--nproc-per-node), or set device=cpu"
        )
    torch.cuda.set_device(here.local_rank)


@contextmanager
def said_once() -> Iterator[None]:
    """A user's mistake that is found before the processes meet is told once per machine.

    Raises:
        SaidElsewhereError: instead of a ValueError, on all but a machine's first process.
    """
    try:
        yield
    except ValueError as error:
        if place().local_rank:
            raise SaidElsewhereError(error) from error
        raise
