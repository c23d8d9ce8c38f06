"""The contract between a method and the loop that drives it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from earsight.corpus.batch import Batch, View
from earsight.encoders.pair import Pair
from earsight.objectives.scores import widened

Spaces = frozenset[tuple[str, str]]
"""Ordered pairs of embedding names: a query of the first may be compared with the second."""

Show = Callable[[int, int, str], None]
"""Told of what is done, of how much there is, and of what it is."""


def nothing_shown(done: int, of: int, what: str) -> None:
    """Shows nothing."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a method wants loaded.

    Attributes:
        views: views per sample.
        labels: whether labels are used.
        clips: clips to encode at the start of each epoch, beside those trained on.
        first_clips: clips more at the start of the first.
        memory: whether a run that starts from another takes over what that one keeps by row.
    """

    views: int = 1
    labels: bool = False
    clips: int = 0
    first_clips: int = 0
    memory: bool = False


@dataclass(frozen=True, kw_only=True)
class Inherited:
    """What another run's method knows, for one that starts from it.

    Attributes:
        run: its name, for people.
        state: its buffers by name.
        rows: ``(N,)`` int64, its row of each of this run's instances; -1 where it has none.
        gone: how many of its rows are not among this run's.
        heads: whether its heads were taken over, which its embeddings come from.
        temperature: that it compared them by; None where its method has none.
    """

    run: str
    state: Mapping[str, Tensor]
    rows: Tensor
    gone: int
    heads: bool
    temperature: float | None

    def described(self, taken: int) -> str:
        """What was taken over, a line for the log."""
        new = len(self.rows) - taken
        return (
            f"memory of {self.run}: {taken} of {len(self.rows)} rows taken over, {new} are new, "
            f"{self.gone} of its rows are gone"
        )


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a batch brought.

    Attributes:
        loss: scalar, with its gradient.
        metrics: scalars by name, detached, left on the device.
        updates: detached tensors by name. The loop joins each over micro-batches and ranks along
            the first dimension and hands them to ``commit``.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    updates: dict[str, Tensor]


class Method(nn.Module, ABC):
    """A way of learning; its parameters and buffers are its state, saved with the run."""

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What is to be loaded."""

    @property
    @abstractmethod
    def spaces(self) -> Spaces:
        """Which embeddings may be compared across modalities; retrieval and export obey it."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Step:
        """The loss of a batch.

        Args:
            model: ``forward(video, audio)`` gives unnormalised embeddings ``(B, D)``; the only
                path of the gradient.
            batch: with views ready for the network: ``video (B, 3, T, H, W)`` and
                ``audio (B, 1, frames, bands)``, both float.
        """

    def commit(self, updates: Mapping[str, Tensor]) -> None:
        """Change the state, once per optimiser step and after it; without state, nothing."""

    def whole_state(self) -> dict[str, Tensor]:
        """All that a checkpoint keeps, for any number of ranks to load; called on all ranks.

        What ranks share is there on rank 0 alone, which writes it.
        """
        return dict(self.state_dict())

    def describe(self) -> str:
        """A line for the log: what a query is compared with."""
        return ""

    @property
    def keys(self) -> Pair | None:
        """Encoders beside the model that embeddings come from, saved and loaded with it."""
        return None

    def attach(self, model: Pair) -> None:
        """Told of the model that is trained, or embeds, and again when its weights change."""

    def check_rows(self) -> None:
        """Before training, and not where it only embeds: are there enough rows?

        Raises:
            ValueError: there are too few.
        """

    def inherit(self, before: Inherited) -> str:
        """Take over what another run keeps by row, where ``needs`` asks for it; a line on it.

        Raises:
            ValueError: this method cannot do without it, and it is not there.
        """
        return ""

    def begin_epoch(
        self, epoch: int, source: Iterable[Batch] | None, show: Show = nothing_shown
    ) -> str:
        """Called before each epoch.

        Args:
            epoch: its number, from 0.
            source: yields the clips that ``needs`` asked for, with views ready for the network.
            show: told of progress, of how much there is, and of what is done.

        Returns:
            A line for the log, or nothing.
        """
        return ""

    def embed(self, model: nn.Module, view: View) -> dict[str, Tensor]:
        """L2-normalised float32 embeddings ``(B, D)``, by the names that ``spaces`` uses."""
        embeddings = model(view.get("video"), view.get("audio"))
        named = zip(("video", "audio"), embeddings, strict=True)
        return {name: unit(x) for name, x in named if x is not None}


def unit(x: Tensor) -> Tensor:
    """``x`` ``(…, D)`` L2-normalised, in float32 at least."""
    return F.normalize(widened(x), dim=-1)


def rank() -> tuple[int, int]:
    """This process's number, and how many there are."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def over_ranks(x: Tensor) -> Tensor:
    """``x``, of one shape on every rank, of all of them, one after the other."""
    _, ranks = rank()
    if ranks == 1:
        return x
    every = [torch.empty_like(x) for _ in range(ranks)]
    distributed.all_gather(every, x.contiguous())
    return torch.cat(every)


def mean_over_ranks(x: Tensor) -> Tensor:
    """``x`` averaged over all ranks, the same on each; ``x`` itself in a single process."""
    _, ranks = rank()
    if ranks == 1:
        return x
    # For few numbers, gloo gathers in a third of the time in which it reduces.
    return over_ranks(x.detach()[None]).mean(dim=0)
