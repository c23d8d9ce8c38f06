"""Several processes that train one model: what they exchange, how they wait, how they end.

A single process is :data:`ALONE`, for which nothing here communicates.
"""

import inspect
import itertools
import json
import pickle
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from earsight.errors import RunError, SaidElsewhereError
from earsight.training.exchange import Joiner, start_average, start_gather
from earsight.training.place import Place, place
from earsight.training.store import RankError, SharedStore, agree

Result = TypeVar("Result")

_POLL = 0.1
"""Longest seconds between two looks at the store."""

_SOON = 0.001
"""Seconds before the second look: most work of one rank is short, such as a checkpoint."""

_GRACE = 5.0
"""Seconds in which the others should have said what became of them."""

_ANSWER = 30.0
"""Seconds in which the store answers, unless ranks are given up sooner."""

_BROKEN = ("gloo", "NCCL", "pair closure", "Connection closed by peer")
"""Words by which errors of an exchange between ranks are known; torch gives them no class."""

# Renamed in torch 2.13, where the old name warns.
_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)
_joined = itertools.count()
_shared: list[Any] = []
"""The store of all ranks, once they have met: they may meet again, and rank 0 keeps it."""


class Ranks:
    """The processes of a run as one of them sees them.

    Attributes:
        rank: the own number, from 0.
        size: processes in all.
    """

    def __init__(
        self, rank: int = 0, size: int = 1, *, store: SharedStore | None = None, host: Any = None
    ) -> None:
        """Usually made by :func:`join_ranks`.

        Args:
            rank: the own number, from 0.
            size: processes in all.
            store: what all ranks see; needed where they are several.
            host: the group over which tensors in main memory are exchanged.
        """
        self.rank, self.size = rank, size
        self._shared, self._host = store, host
        self._joiner = Joiner(size, host)
        self._turns = 0

    @property
    def _store(self) -> SharedStore:
        assert self._shared is not None
        return self._shared

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes, evaluates and prints."""
        return self.rank == 0

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """``model``, alike on all ranks; on GPUs, what averages gradients as they are computed.

        Processors have none left to compute while gradients travel: :meth:`start_average` lets
        them decode meanwhile.
        """
        if self.size == 1:
            return model
        if device.type == "cpu":
            for x in (*model.parameters(), *model.buffers()):
                distributed.broadcast(x.detach(), 0)
            return model
        # Strides of dimensions of size 1, which mean nothing.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        # Batch norm is each rank's own; see docs/processes.md.
        local_buffers: dict[str, Any] = {_BUFFERS: False}
        return DistributedDataParallel(
            model,
            device_ids=[torch.cuda.current_device()] if device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            # Methods may leave an encoder out. And only so do buckets keep their first order:
            # a resumed run adds up gradients in the order of the run that never stopped.
            find_unused_parameters=True,
            **local_buffers,
        )

    def accumulating(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[object]:
        """Around a micro-batch: gradients are exchanged after the last one alone."""
        if last or not isinstance(wrapped, DistributedDataParallel):
            return nullcontext()
        return wrapped.no_sync()

    def start_average(self, wrapped: nn.Module) -> Callable[[], None]:
        """Begin to average gradients, where ``wrapped`` has not done so; to be waited for."""
        if self.size == 1 or isinstance(wrapped, DistributedDataParallel):
            return lambda: None
        return start_average(wrapped, self.size)

    def start_gather(self, x: Tensor) -> Callable[[], Tensor]:
        """Begin :meth:`gather`."""
        return start_gather(x, self.size, self._host)

    def start_join(self, parts: Sequence[Mapping[str, Tensor]]) -> Callable[[], dict[str, Tensor]]:
        """Begin to join tensors of all micro-batches and ranks (:class:`Joiner`)."""
        return self._joiner.start(parts)

    def gather(self, x: Tensor) -> Tensor:
        """``x`` (in main memory, of one shape everywhere) of all ranks: ``(ranks, *x.shape)``."""
        return self.start_gather(x)()

    def gather_objects(self, x: Result) -> list[Result]:
        """``x`` of all ranks, in their order."""
        if self.size == 1:
            return [x]
        every: list[Any] = [None] * self.size
        distributed.all_gather_object(every, x, group=self._host)
        return every

    def on_main(self, work: Callable[[], Result]) -> Result:
        """The result of ``work``, done on rank 0 while the others wait, however long it takes.

        Raises:
            RankError: another rank failed meanwhile.
        """
        if self.size == 1:
            return work()
        key = f"turn/{self._turns}"
        self._turns += 1
        if self.is_main:
            result = work()
            self._store.set(key, pickle.dumps(result))
            return result
        pause = _SOON
        while not self._store.check([key]):
            # Rank 0 may have finished this and failed later, between the two questions.
            if self._store.check(["failed"]) and not self._store.check([key]):
                raise RankError(self._first_failure()[1])
            time.sleep(pause)
            pause = min(2 * pause, _POLL)
        received: Result = pickle.loads(self._store.get(key))
        return received

    def explain(self, error: Exception) -> Exception:
        """What this rank should say when ``error`` ends it; the others are told.

        An error of an exchange becomes a :class:`RankError` that names the rank at fault, and one
        that another rank reported first a :class:`SaidElsewhereError`.
        """
        try:
            if isinstance(error, RankError):
                return error
            if _of_exchange(error):
                return RankError(self._fault_elsewhere(str(error)))
            text = str(error) or type(error).__name__
            rank, sentence = self._first_failure(text)
        except distributed.DistError:
            # The store went with the rank that keeps it.
            ended = "rank 0 has ended; its own message, if it left one, says why"
            return RankError(ended) if self.rank else error
        except RankError as silent:
            return silent
        same = rank != self.rank and sentence == _sentence(rank, text)
        return SaidElsewhereError(error) if same else error

    def _first_failure(self, own: str = "") -> tuple[int, str]:
        """The rank that failed first, and a sentence on it; this one if none has and it did."""
        mine = json.dumps([self.rank, own]) if own else ""
        rank, text = json.loads(self._store.set_first("failed", mine))
        return rank, _sentence(rank, text)

    def _fault_elsewhere(self, text: str) -> str:
        """Which rank broke an exchange: the one that failed, or that does not say it waits too."""
        self._store.set(f"waiting/{self.rank}", "")
        others = [rank for rank in range(self.size) if rank != self.rank]
        deadline = time.monotonic() + _GRACE
        while time.monotonic() < deadline:
            if self._store.check(["failed"]):
                return self._first_failure()[1]
            silent = [rank for rank in others if not self._store.check([f"waiting/{rank}"])]
            if not silent:
                reason = text.splitlines()[0]
                return f"the connection between ranks broke ({reason}); --resume goes on"
            time.sleep(_POLL)
        names = f"rank{'s' * (len(silent) > 1)} {', '.join(map(str, silent))}"
        if "timeout" in text or "imed out" in text:
            return (
                f"{names} did not arrive in time (train.rank_timeout); look at the output and the "
                "machine there, or raise it where a step takes longer, and go on with --resume"
            )
        return (
            f"{names} ended without a word, perhaps for want of memory; look at the output and "
            "the machine there, and go on with --resume"
        )

    def leave(self, seconds: float) -> None:
        """Close the connections; rank 0 may keep the store, and waits for the others to leave."""
        distributed.destroy_process_group()
        deadline = time.monotonic() + seconds
        try:
            left = self._store.add("left", 1)
            while self.is_main and left < self.size and time.monotonic() < deadline:
                time.sleep(_POLL)
                left = self._store.add("left", 0)
        except (distributed.DistError, RankError):
            return  # it has gone already, with the rank that keeps it


ALONE = Ranks()
"""A single process."""


@contextmanager
def join_ranks(device: torch.device, seconds: float) -> Iterator[Ranks]:
    """Meet the other processes, and leave them in order, also where one fails.

    Args:
        device: where this one computes; gloo connects processors, NCCL GPUs.
        seconds: after which a rank that has not arrived is given up.

    Raises:
        RankError: another rank failed, ended or hangs.
        SaidElsewhereError: all ranks fail alike, and another says so.
    """
    here = place()
    if here.size == 1:
        yield ALONE
        return
    ranks = _meet(here, device, seconds)
    patience = 1.0
    try:
        yield ranks
        patience = _GRACE
    except Exception as error:
        explained = ranks.explain(error)
        if explained is error:
            raise
        raise explained from error
    finally:
        ranks.leave(patience)


def _meet(here: Place, device: torch.device, seconds: float) -> Ranks:
    patience = timedelta(seconds=seconds)
    try:
        if not _shared:
            store = next(rendezvous("env://", timeout=patience))[0]
            name = agree(_prefixed("earsight", store), here.rank, here.size, seconds)
            _shared.append(_prefixed(f"earsight/{name}", store))
        # Each meeting has keys of its own: groups would take those of the last one for theirs.
        shared = _prefixed(f"{next(_joined)}", _shared[0])
        on_gpu = device.type == "cuda"
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            store=_prefixed("groups", shared),
            rank=here.rank,
            world_size=here.size,
            # NCCL ends the process without a word: the exchange in main memory must be first.
            timeout=2 * patience if on_gpu else patience,
        )
        host = distributed.new_group(backend="gloo", timeout=patience)
    except (RuntimeError, TimeoutError) as error:
        if not (isinstance(error, TimeoutError) or _of_exchange(error)):
            raise
        raise RankError(
            f"rank {here.rank} of {here.size} could not meet the others within {seconds:g} s "
            f"({str(error).splitlines()[0]}); check that every machine was started, with the same "
            "--nnodes and --rdzv-endpoint"
        ) from error
    told = SharedStore(_prefixed("ranks", shared), min(seconds, _ANSWER))
    return Ranks(here.rank, here.size, store=told, host=host)


def _prefixed(name: str, store: Any) -> Any:
    return distributed.PrefixStore(name, store)  # type: ignore[attr-defined]


def _of_exchange(error: Exception) -> bool:
    if isinstance(error, RunError) or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, distributed.DistError) or any(w in str(error) for w in _BROKEN)


def _sentence(rank: int, text: str) -> str:
    return f"rank {rank} failed: {text}"
