"""What ranks exchange in a step, begun early: it travels while something else is computed.

All ranks begin the same exchanges in the same order.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn

Named = dict[str, Tensor]


def start_gather(x: Tensor, size: int, group: Any = None) -> Callable[[], Tensor]:
    """Begin to fetch ``x``, of one shape everywhere, of all ranks: ``(ranks, *x.shape)``."""
    if size == 1:
        return lambda: x[None]
    own, every = x.contiguous(), x.new_empty(size, *x.shape)
    work = distributed.all_gather(list(every.unbind()), own, group=group, async_op=True)

    def wait() -> Tensor:
        work.wait()
        return every

    return wait


def start_average(model: nn.Module, size: int) -> Callable[[], None]:
    """Begin to average the gradients of ``model``; once waited for, they are those of all ranks.

    A parameter that no rank uses keeps none.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    used = torch.tensor([float(p.grad is not None) for p in parameters])
    own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([*(x.flatten() for x in own), used]).div_(size)
    work = distributed.all_reduce(flat, async_op=True)

    def wait() -> None:
        work.wait()
        sizes = [*(p.numel() for p in parameters), len(parameters)]
        *averaged, anywhere = torch.split(flat, sizes)
        for p, x, mean, count in zip(parameters, own, averaged, anywhere.tolist(), strict=True):
            if count:
                p.grad = x.copy_(mean.view_as(x))

    return wait


class Joiner:
    """Joins tensors of several lengths of all ranks.

    They travel in one message, with as much room as any has needed so far.
    """

    def __init__(self, size: int, host: Any = None) -> None:
        """For ``size`` ranks, of which ``host`` exchanges what is in main memory."""
        self._size, self._host = size, host
        self._room: dict[tuple[str, ...], list[int]] = {}

    def start(self, parts: Sequence[Mapping[str, Tensor]]) -> Callable[[], Named]:
        """Begin to join the tensors of all micro-batches and ranks along the first dimension.

        Their order is that of a single process: by micro-batch, then by rank, for a rank takes a
        contiguous part of each.

        Args:
            parts: one mapping per micro-batch, of equal names everywhere.
        """
        names = tuple(parts[0])
        own = {name: torch.cat([part[name] for part in parts]) for name in names}
        if self._size == 1 or not names:
            return lambda: own
        counts = torch.tensor([[len(part[name]) for name in names] for part in parts])
        # (ranks, micro-batches, names)
        lengths = start_gather(counts, self._size, self._host)
        if names not in self._room:
            self._room[names] = _longest(lengths())
        sent = self._swap(own, self._room[names])

        def wait() -> Named:
            every, received = lengths(), sent()
            longest = _longest(every)
            room = list(map(max, self._room[names], longest))
            if room != self._room[names]:
                self._room[names] = room
                received = self._swap(own, room)()
            return _joined(names, every, received)

        return wait

    def _swap(self, own: Named, room: Sequence[int]) -> Callable[[], list[list[Tensor]]]:
        """Begin to fetch the tensors of every rank, each as long as its room."""
        fitted = [_fitted(x, count) for x, count in zip(own.values(), room, strict=True)]
        packed = torch.cat([x.contiguous().view(torch.uint8).flatten() for x in fitted])
        group = self._host if packed.device.type == "cpu" else None
        every = start_gather(packed, self._size, group)
        return lambda: [_unpacked(one, fitted) for one in every()]


def _longest(lengths: Tensor) -> list[int]:
    longest: list[int] = lengths.sum(dim=1).amax(dim=0).tolist()
    return longest


def _joined(names: Sequence[str], lengths: Tensor, received: list[list[Tensor]]) -> Named:
    joined = {}
    for at, (name, every) in enumerate(zip(names, zip(*received, strict=True), strict=True)):
        sizes = lengths[:, :, at].tolist()
        pieces = [torch.split(x[: sum(n)], n) for x, n in zip(every, sizes, strict=True)]
        by_micro_batch = zip(*pieces, strict=True)
        joined[name] = torch.cat([piece for micro in by_micro_batch for piece in micro])
    return joined


def _fitted(x: Tensor, count: int) -> Tensor:
    """``x``, ``count`` long: with zeros at its end, or cut."""
    if len(x) >= count:
        return x[:count]
    return torch.cat([x, x.new_zeros(count - len(x), *x.shape[1:])])


def _unpacked(packed: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Bytes taken apart into tensors of the types and shapes of ``like``."""
    parts = torch.split(packed, [x.nbytes for x in like])
    # A copy: numbers must begin at multiples of their own size.
    return [part.clone().view(x.dtype).view(x.shape) for part, x in zip(parts, like, strict=True)]
