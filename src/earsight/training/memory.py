"""Memory of a training step by what it is for, and at its peak, from the tensors that live."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from earsight.corpus.device_cache import DeviceCache
from earsight.corpus.pairs import PairSource
from earsight.corpus.sources import Source
from earsight.training.step import Parts


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on the device that trains.

    Attributes:
        weights: parameters and buffers of encoders and heads.
        gradients: one for each parameter that learns.
        optimizer: its moments.
        method: all state of the method: banks, dictionaries, pools, momentum encoders.
        clips: decoded clips that are kept on the device (``data.cache=device``).
        batch: a micro-batch as the encoders take it.
        activations: what stands of a micro-batch's forward pass as its backward pass begins.
        peak: the most that stands at any moment of a step. The parts do not add up to it:
            activations go while gradients come, and what lives between two operations is added.
            Left out is what a kernel takes for itself while it runs.
    """

    weights: int
    gradients: int
    optimizer: int
    method: int
    clips: int
    batch: int
    activations: int
    peak: int

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by part, the largest first."""
        every = {name: size for name, size in asdict(self).items() if name != "peak"}
        return dict(sorted(every.items(), key=lambda part: -part[1]))

    def __str__(self) -> str:
        """The parts that there are, in MiB."""
        return ", ".join(f"{name} {size / 2**20:.1f}" for name, size in self.parts.items() if size)


class Held:
    """A :data:`~earsight.training.spans.Span` that finds what a step holds on its device.

    Used as a context around steps, the first ones too. Every operation then takes a little longer.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        device = next(parts.model.parameters()).device
        self._live = _Live(set(_storages(self._standing())), device.type)
        self._batch: dict[StorageWeakRef, int] = {}
        self._activations = 0

    def __enter__(self) -> "Held":
        self._handle = self._parts.wrapped.register_forward_pre_hook(self._see_batch)
        self._live.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)  # type: ignore[no-untyped-call]
        self._handle.remove()

    def __call__(self, part: str) -> AbstractContextManager[object]:
        """Look up to the optimiser, which takes nothing more but its moments, once."""
        if part == "to the device":
            self._live.looks = True
        elif part == "backward":
            made = self._live.size() - self._live.size_of(self._batch)
            self._activations = max(self._activations, made - self._gradients())
        elif part == "optimiser":
            self._live.looks = False
        return nullcontext()

    def memory(self, source: Source) -> Memory:
        """What the steps held; ``source`` is where their clips came from."""
        moments = [x for one in self._parts.optimizer.state.values() for x in one.values()]
        known = {
            "weights": _bytes(_tensors(self._parts.model)),
            "optimizer": _bytes(x for x in moments if isinstance(x, Tensor)),
            "method": _bytes(_tensors(self._parts.method)),
            "clips": source.size if isinstance(source, DeviceCache | PairSource) else 0,
        }
        return Memory(
            **known,
            gradients=self._gradients(),
            batch=sum(self._batch.values()),
            activations=self._activations,
            peak=sum(known.values()) + self._live.most,
        )

    def _standing(self) -> list[Tensor]:
        return _tensors(self._parts.model) + _tensors(self._parts.method)

    def _gradients(self) -> int:
        return _bytes(p.grad for p in self._parts.model.parameters() if p.grad is not None)

    def _see_batch(self, _: nn.Module, given: tuple[Tensor | None, ...]) -> None:
        storages = [x.untyped_storage() for x in given if x is not None]
        self._batch = {StorageWeakRef(x): x.nbytes() for x in storages}  # type: ignore[no-untyped-call]


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums up the tensors that operations made and that are still there.

    Args:
        known: places of tensors that were there before, which operations may give back.
        device: kind of device whose tensors count.
    """

    def __init__(self, known: set[int], device: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.looks = False
        self.most = 0
        self._known = known
        self._device = device
        self._sizes: dict[StorageWeakRef, int] = {}

    def size(self) -> int:
        """Bytes now."""
        gone = [storage for storage in self._sizes if storage.expired()]  # type: ignore[no-untyped-call]
        for storage in gone:
            del self._sizes[storage]
        return sum(self._sizes.values())

    def size_of(self, storages: Iterable[StorageWeakRef]) -> int:
        """Bytes of these, of those that operations made."""
        return sum(self._sizes.get(storage, 0) for storage in storages)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.looks:
            for x in tree_leaves(out):
                if not isinstance(x, Tensor) or x.device.type != self._device:
                    continue
                storage = x.untyped_storage()
                if storage.data_ptr() not in self._known:
                    self._sizes[StorageWeakRef(storage)] = storage.nbytes()  # type: ignore[no-untyped-call]
            self.most = max(self.most, self.size())
        return out


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Where tensors lie, with the bytes there: what several look at counts once."""
    found = (x.untyped_storage() for x in tensors)
    return {storage.data_ptr(): storage.nbytes() for storage in found}


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(_storages(tensors).values())
