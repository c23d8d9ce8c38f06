"""Features of instances: decoded once, passed through several models, averaged over clips."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from earsight.corpus.batch import Batch, Failure, View
from earsight.encoders.blocks import encode
from earsight.encoders.pair import Pair
from earsight.methods.base import Method
from earsight.transforms.inputs import Inputs

NOTHING_READ = (
    "no clip could be read for the evaluation; scan the sources again with --deep, so that what is "
    "gone or broken is left out; where they are shards, copy them again, or delete them and run "
    "`earsight prepare` again"
)
"""What is said where there is nothing to evaluate."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A model to be evaluated, with the method that knows its spaces."""

    model: Pair
    method: Method


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features of ``n`` instances, averaged over clips.

    Where single clips were asked for, all have a dimension of clips after the first.

    Attributes:
        row: ``(n,)`` rows, in the order in which they were read.
        pooled: per modality ``(n, dim)`` float32, before any head.
        embedding: per name of the method's spaces ``(n, D)`` float32, L2-normalised before and
            after averaging.
        blocks: per modality and block ``(n, channels · cells)`` float16, as
            :func:`earsight.encoders.blocks.pool_block` gives them; the rounding, to eleven bits, is
            far below what another clip changes, and halves what is held: at full size 140 kB an
            instance.
        failures: instances that could not be read and are left out.
    """

    row: Tensor
    pooled: Mapping[str, Tensor]
    embedding: Mapping[str, Tensor]
    blocks: Mapping[str, Mapping[int, Tensor]] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()

    def take(self, at: Tensor, row: Tensor) -> Self:
        """The features at places ``at (m,)``, named by ``row (m,)``."""
        blocks = {
            name: {number: x[at] for number, x in each.items()}
            for name, each in self.blocks.items()
        }
        return replace(
            self,
            row=row,
            pooled={name: x[at] for name, x in self.pooled.items()},
            embedding={name: x[at] for name, x in self.embedding.items()},
            blocks=blocks,
        )


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is taken of each instance.

    Attributes:
        clips: evenly spaced clips.
        blocks: blocks to take the activations of, from encoders that have them.
        embed: have the methods embed too; False for what stands before the heads alone.
        mean: average over clips; False to keep each.
    """

    clips: int = 1
    blocks: tuple[int, ...] = ()
    embed: bool = True
    mean: bool = True


class KnownFeatures(nn.Module):
    """A pair of encoders asked again about one view: only its heads are run.

    It stands in for the pair where a method embeds a view whose pooled features are known.
    """

    def __init__(self, model: Pair, view: View, features: View) -> None:
        super().__init__()
        self.model = model
        self.view = view
        self.features = features

    def forward(
        self, video: Tensor | None, audio: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """What the pair would answer; the inputs must be those of the view."""
        asked = {"video": video, "audio": audio}
        assert all(x is None or x is self.view[name] for name, x in asked.items())
        known = {name: x for name, x in self.features.items() if asked[name] is not None}
        embedded = self.model.project(known)
        return embedded.get("video"), embedded.get("audio")


@torch.inference_mode()
def extract(
    encoders: Sequence[Encoder],
    inputs: Inputs,
    batches: Iterator[Batch],
    device: torch.device,
    wanted: Wanted,
) -> list[Features]:
    """Features by each encoder, from one pass over the batches (views are clips).

    Each view goes through each backbone once, whatever is taken from it.

    Args:
        encoders: those to run.
        inputs: transforms.
        batches: of instances.
        device: where the encoders are.
        wanted: what is taken of them.

    Raises:
        ValueError: nothing could be read.
    """
    for encoder in encoders:
        encoder.model.eval()
    rows: list[Tensor] = []
    failures: list[Failure] = []
    collected: list[list[dict[str, Tensor]]] = [[] for _ in encoders]
    for batch in batches:
        failures += batch.failures
        if not len(batch):
            continue
        rows.append(batch.row)
        moved = batch.to(device)
        views = [inputs.prepare(view, training=False) for view in moved.views]
        for encoder, parts in zip(encoders, collected, strict=True):
            parts.append(_batch_features(encoder, views, wanted))
    if not rows:
        raise ValueError(NOTHING_READ)
    row = torch.cat(rows)
    return [unpack(row, _joined(parts), tuple(failures)) for parts in collected]


def _batch_features(encoder: Encoder, views: Sequence[View], wanted: Wanted) -> dict[str, Tensor]:
    """What the views give, averaged if that is wanted, by flat names, on the CPU."""
    per_view = [_view_features(encoder, view, wanted) for view in views]
    stacked = {name: torch.stack([one[name] for one in per_view], dim=1) for name in per_view[0]}
    taken = {name: x.mean(dim=1) if wanted.mean else x for name, x in stacked.items()}
    return {name: _stored(name, x).cpu() for name, x in taken.items()}


def _view_features(encoder: Encoder, view: View, wanted: Wanted) -> dict[str, Tensor]:
    encoded = {
        name: encode(module, view[name], wanted.blocks)
        for name, module in encoder.model.encoders.items()
        if name in view
    }
    pooled = {name: one.pooled for name, one in encoded.items()}
    flat = {f"pooled.{name}": value.float() for name, value in pooled.items()}
    if wanted.embed:
        known = KnownFeatures(encoder.model, view, pooled)
        for name, value in encoder.method.embed(known, view).items():
            flat[f"embedding.{name}"] = normalize(value.float(), dim=1)
    for name, one in encoded.items():
        flat |= {f"block.{name}.{block}": grid.float() for block, grid in one.blocks.items()}
    return flat


def _stored(name: str, value: Tensor) -> Tensor:
    if name.startswith("embedding."):
        return normalize(value, dim=-1)
    return value.half() if name.startswith("block.") else value


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The batches of each name in one, which leave ``parts`` so that no more than one is double."""
    names = list(parts[0])
    return {name: torch.cat([part.pop(name) for part in parts]) for name in names}


def pack(features: Features) -> dict[str, Tensor]:
    """The features by flat names: ``pooled.video``, ``embedding.video``, ``block.video.1``."""
    flat = {f"pooled.{name}": value for name, value in features.pooled.items()}
    flat |= {f"embedding.{name}": value for name, value in features.embedding.items()}
    for name, blocks in features.blocks.items():
        flat |= {f"block.{name}.{block}": value for block, value in blocks.items()}
    return flat


def unpack(row: Tensor, flat: Mapping[str, Tensor], failures: tuple[Failure, ...] = ()) -> Features:
    """The features that :func:`pack` gave the names of."""

    def part(prefix: str) -> dict[str, Tensor]:
        return {n.removeprefix(prefix): x for n, x in flat.items() if n.startswith(prefix)}

    blocks: dict[str, dict[int, Tensor]] = {}
    for name, value in part("block.").items():
        modality, _, block = name.rpartition(".")
        blocks.setdefault(modality, {})[int(block)] = value
    return Features(
        row=row,
        pooled=part("pooled."),
        embedding=part("embedding."),
        blocks=blocks,
        failures=failures,
    )
