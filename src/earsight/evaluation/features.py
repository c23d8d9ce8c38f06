"""Features of instances: decoded once, passed through several models, averaged over clips."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from earsight.corpus.batch import Batch, Failure, View
from earsight.encoders.pair import Pair
from earsight.methods.base import Method
from earsight.transforms.inputs import Inputs


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A model to be evaluated, with the method that knows its spaces."""

    model: Pair
    method: Method


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features of ``n`` instances.

    Attributes:
        row: ``(n,)`` rows, in the order in which they were read.
        pooled: per modality ``(n, dim)``, before any head, averaged over clips.
        embedding: per name of the method's spaces ``(n, D)``, L2-normalised, averaged over clips
            and normalised again.
        failures: instances that could not be read and are left out.
    """

    row: Tensor
    pooled: dict[str, Tensor]
    embedding: dict[str, Tensor]
    failures: tuple[Failure, ...]


@torch.inference_mode()
def extract(
    encoders: Sequence[Encoder],
    inputs: Inputs,
    batches: Iterator[Batch],
    device: torch.device,
) -> list[Features]:
    """Features by each encoder, from one pass over the batches (views are clips)."""
    for encoder in encoders:
        encoder.model.eval()
    rows: list[Tensor] = []
    failures: list[Failure] = []
    collected: list[list[tuple[View, View]]] = [[] for _ in encoders]
    for batch in batches:
        failures += batch.failures
        if not len(batch):
            continue
        rows.append(batch.row)
        moved = batch.to(device)
        views = [_prepared(inputs, view) for view in moved.views]
        for encoder, parts in zip(encoders, collected, strict=True):
            parts.append(_batch_features(encoder, views))
    if not rows:
        raise ValueError(
            "no clip could be read for the evaluation; scan the sources again, so that what is "
            "gone or broken is left out"
        )
    return [
        Features(
            row=torch.cat(rows),
            pooled=_joined([pooled for pooled, _ in parts]),
            embedding=_joined([embedding for _, embedding in parts]),
            failures=tuple(failures),
        )
        for parts in collected
    ]


def _prepared(inputs: Inputs, view: View) -> View:
    return inputs.prepare(view, training=False)


def _batch_features(encoder: Encoder, views: Sequence[View]) -> tuple[View, View]:
    pooled = [encoder.model.features(view) for view in views]
    embedded = [encoder.method.embed(encoder.model, view) for view in views]
    unit = {
        name: torch.nn.functional.normalize(value, dim=1) for name, value in _mean(embedded).items()
    }
    return _mean(pooled), unit


def _mean(views: Sequence[View]) -> dict[str, Tensor]:
    return {name: torch.stack([view[name].float() for view in views]).mean(0) for name in views[0]}


def _joined(parts: Sequence[View]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
