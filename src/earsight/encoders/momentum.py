"""Key encoders: slow averages of the query encoders (cm-acc §3)."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from earsight.encoders.heads import MLPHead
from earsight.encoders.pair import OTHER, Pair


def key_pair(query: Pair, *, crosswise: bool) -> Pair:
    """Key encoders that begin as copies of ``query``, without gradients.

    Args:
        query: encoders and heads.
        crosswise: the last layer (fcl) of a key head is that of the *other* modality's query head.
    """
    keys = copy.deepcopy(query)
    keys.requires_grad_(False)
    follow(keys, query, 0.0, crosswise=crosswise)
    return keys


@torch.no_grad()
def follow(keys: Pair, query: Pair, momentum: float, *, crosswise: bool) -> None:
    """``θ_k ← m·θ_k + (1−m)·θ_q``; buffers are copied.

    Args:
        keys: what moves.
        query: what it follows.
        momentum: ``m``.
        crosswise: see :func:`key_pair`.
    """
    for own, of in _partners(keys, query, crosswise):
        slow: list[Tensor] = [p.detach() for p in own.parameters()]
        fast: list[Tensor] = [p.detach() for p in of.parameters()]
        torch._foreach_lerp_(slow, fast, 1 - momentum)
        for mine, theirs in zip(own.buffers(), of.buffers(), strict=True):
            mine.copy_(theirs)


def _partners(keys: Pair, query: Pair, crosswise: bool) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Each part of the keys, with the part of the queries that it follows."""
    heads = {"video": query.video_head, "audio": query.audio_head}
    own_heads = {"video": keys.video_head, "audio": keys.audio_head}
    for name, encoder in keys.encoders.items():
        yield encoder, query.encoders[name]
        own, head = own_heads[name], heads[name]
        other = heads[OTHER[name]] if crosswise else head
        assert isinstance(own, MLPHead)
        assert isinstance(head, MLPHead)
        yield own.projection, head.projection
        if own.fcl is not None:
            assert isinstance(other, MLPHead)
            assert other.fcl is not None
            yield own.fcl, other.fcl


def last_linear(head: nn.Module | None) -> nn.Linear:
    """The last linear layer of a head: its fcl if it has one, else that of the projection."""
    assert isinstance(head, MLPHead)
    if head.fcl is not None:
        return head.fcl
    return next(x for x in reversed(head.projection) if isinstance(x, nn.Linear))


class Caught:
    """The inputs of a layer in the forward passes made while this is entered."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        self.inputs: list[Tensor] = []

    def __enter__(self) -> "Caught":
        self._handle = self._layer.register_forward_pre_hook(self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _catch(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.inputs.append(inputs[0].detach())
