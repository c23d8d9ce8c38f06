"""One optimiser step: a batch prepared, the method's loss, its gradient, and what follows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from earsight.config import RunConfig
from earsight.corpus.batch import Batch
from earsight.encoders.pair import Pair
from earsight.methods.base import Method
from earsight.training.devices import autocast_dtype
from earsight.training.distributed import ALONE, Ranks
from earsight.training.spans import Span, unwatched
from earsight.training.timed import Timed
from earsight.transforms.inputs import Inputs

_METRICS = " metrics"
"""A name that no update of a method has."""


@dataclass(kw_only=True)
class Parts:
    """What a run is made of; everything here is saved.

    ``wrapped`` is what the method calls: ``model`` itself, or what averages its gradients over
    ranks.
    """

    model: Pair
    wrapped: nn.Module
    method: Method
    inputs: Inputs
    optimizer: torch.optim.Optimizer


def make_optimizer(config: RunConfig, model: nn.Module, device: torch.device) -> torch.optim.Adam:
    """Adam with coupled weight decay; the fused form can skip an update on the device."""
    return torch.optim.Adam(
        model.parameters(),
        lr=config.optimizer.lr,
        weight_decay=config.optimizer.weight_decay,
        fused=device.type in ("cpu", "cuda", "mps"),
    )


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a step brought; but for ``batches``, the same on all ranks.

    Attributes:
        metrics: means over micro-batches and ranks.
        finite: whether the update was made: a bool tensor on the device.
        batches: this rank's.
        rows: of all ranks' batches, in main memory.
        failed: how many clips of them could not be read.
        signal: that stops the run, or 0.
    """

    metrics: dict[str, Tensor]
    finite: Tensor
    batches: list[Batch]
    rows: Tensor
    failed: int
    signal: int


def train_step(
    config: RunConfig,
    parts: Parts,
    batches: Iterator[Batch],
    device: torch.device,
    ranks: Ranks = ALONE,
    span: Span = unwatched,
    caught: Sequence[int] = (),
) -> Taken:
    """One optimiser step over ``accumulate`` micro-batches, of which each rank takes its part.

    On processors, each of several ranks fetches its next batch while gradients travel: one that is
    late makes the others wait only where it is later than that takes.

    Args:
        config: of the run.
        parts: that take the step.
        batches: of this rank; its :meth:`~earsight.training.timed.Timed.fetch`, where it has one,
            fetches the next batch early.
        device: where they are computed on.
        ranks: that take the step together.
        span: entered around each of its parts (:data:`~earsight.training.spans.PARTS`).
        caught: signals that came to this rank; the first is told to the others.
    """
    parts.optimizer.zero_grad(set_to_none=True)
    updates: list[dict[str, Tensor]] = []
    used: list[Batch] = []
    for number in range(1, config.train.accumulate + 1):
        last = number == config.train.accumulate
        with span("waiting for clips"):
            batch = next(batches)
        used.append(batch)
        ready = prepare(config, parts.inputs, batch, device, span)
        with ranks.accumulating(parts.wrapped, last=last):
            with span("loss"), autocast(config, device):
                step = parts.method.loss(parts.wrapped, ready)
            metrics = {"loss": step.loss.detach(), **step.metrics}
            updates.append({**step.updates, _METRICS: _row(metrics)})
            if last:
                told, joined = ranks.start_gather(_news(used, caught)), ranks.start_join(updates)
            with span("backward"):
                torch.autograd.backward(step.loss / config.train.accumulate)
    averaged = ranks.start_average(parts.wrapped)
    if ranks.size > 1 and device.type == "cpu" and isinstance(batches, Timed):
        with span("waiting for clips"):
            batches.fetch()
    with span("optimiser"):
        averaged()
        norm = gradient_norm(parts.model)
        update = joined()
        mean = dict(zip(metrics, update.pop(_METRICS).mean(dim=0).unbind(), strict=True))
        finite = torch.isfinite(norm) & torch.isfinite(mean["loss"])
        clip_gradients(parts.model, norm, config.optimizer.clip_norm)
        # The fused optimiser leaves everything as it was where this is one: no wait for the device.
        parts.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        parts.optimizer.step()
    with span("commit"):
        parts.method.commit(update)
    every = told()
    signals, failed = every[:, :2].t().tolist()
    return Taken(
        metrics={**mean, "gradient_norm": norm},
        finite=finite,
        batches=used,
        rows=every[:, 2:].flatten(),
        failed=sum(failed),
        signal=max(signals),
    )


def _row(metrics: Mapping[str, Tensor]) -> Tensor:
    """Scalars in their order, ``(1, metrics)``."""
    return torch.stack([value.detach().float() for value in metrics.values()])[None]


def _news(used: Sequence[Batch], caught: Sequence[int]) -> Tensor:
    """What a rank tells the others: a signal that it caught, failures, rows."""
    failed = sum(len(batch.failures) for batch in used)
    own = torch.tensor([caught[0] if caught else 0, failed])
    return torch.cat([own, *(batch.row for batch in used)])


def prepare(
    config: RunConfig,
    inputs: Inputs,
    batch: Batch,
    device: torch.device,
    span: Span = unwatched,
) -> Batch:
    """The batch on the device, its views as network inputs, changed as in training."""
    with span("to the device"):
        moved = batch.to(device)
    # Draws are made from the index on the CPU: fetching it back would wait for the device.
    with span("transforms"):
        views = tuple(
            inputs.prepare(
                view,
                training=True,
                seed=config.seed,
                index=batch.index,
                view_number=n,
                fused=config.train.compile in ("inputs", "all"),
            )
            for n, view in enumerate(moved.views)
        )
    return replace(moved, views=views)


def autocast(config: RunConfig, device: torch.device) -> torch.autocast:
    """The precision that the settings ask for."""
    dtype = autocast_dtype(config.train.precision, device)
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def gradient_norm(model: nn.Module) -> Tensor:
    """The L2 norm of all gradients together."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def clip_gradients(model: nn.Module, norm: Tensor, largest: float) -> None:
    """Scale gradients down to ``largest``; 0 leaves them."""
    if largest:
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), largest, norm)
