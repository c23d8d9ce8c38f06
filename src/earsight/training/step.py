"""One optimiser step: a batch prepared, the method's loss, its gradient, and what follows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from earsight.config import RunConfig
from earsight.corpus.batch import Batch
from earsight.encoders.pair import Pair
from earsight.methods.base import Method, mean_over_ranks
from earsight.training.devices import autocast_dtype
from earsight.training.distributed import ALONE, Ranks
from earsight.training.spans import Span, unwatched
from earsight.transforms.inputs import Inputs


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


def train_step(
    config: RunConfig,
    parts: Parts,
    batches: Iterator[Batch],
    device: torch.device,
    ranks: Ranks = ALONE,
    span: Span = unwatched,
) -> tuple[dict[str, Tensor], Tensor, list[Batch]]:
    """One optimiser step over ``accumulate`` micro-batches, of which each rank takes its part.

    ``span`` is entered around each of the step's parts
    (:data:`~earsight.training.spans.PARTS`).

    Returns:
        Metrics averaged over ranks, whether the update was made (a bool tensor on the device, the
        same on all ranks), and this rank's batches.
    """
    parts.optimizer.zero_grad(set_to_none=True)
    updates, metrics, used = [], [], []
    for number in range(1, config.train.accumulate + 1):
        with span("waiting for clips"):
            batch = next(batches)
        used.append(batch)
        ready = prepare(config, parts.inputs, batch, device, span)
        with ranks.accumulating(parts.wrapped, last=number == config.train.accumulate):
            with span("loss"), autocast(config, device):
                step = parts.method.loss(parts.wrapped, ready)
            with span("backward"):
                torch.autograd.backward(step.loss / config.train.accumulate)
        updates.append(step.updates)
        metrics.append({"loss": step.loss.detach(), **step.metrics})
    with span("optimiser"):
        norm = gradient_norm(parts.model)
        mean = average(metrics)
        finite = torch.isfinite(norm) & torch.isfinite(mean["loss"])
        clip_gradients(parts.model, norm, config.optimizer.clip_norm)
        # The fused optimiser leaves everything as it was where this is one: no wait for the device.
        parts.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        parts.optimizer.step()
    with span("commit"):
        parts.method.commit(ranks.join(updates))
    return {**mean, "gradient_norm": norm}, finite, used


def average(metrics: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Scalars averaged over micro-batches and ranks, by name."""
    own = [torch.stack([m[name].float() for m in metrics]).mean() for name in metrics[0]]
    return dict(zip(metrics[0], mean_over_ranks(torch.stack(own)).unbind(), strict=True))


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
