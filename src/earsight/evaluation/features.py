"""Features of instances: decoded once, passed through several models, averaged over clips."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from earsight.corpus.batch import Batch, Failure, View
from earsight.encoders.blocks import encode
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
    """Features of ``n`` instances, averaged over clips.

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
    blocks: Collection[int] = (),
    *,
    embed: bool = True,
) -> list[Features]:
    """Features by each encoder, from one pass over the batches (views are clips).

    Each view goes through each backbone once, whatever is taken from it.

    Args:
        encoders: those to run.
        inputs: transforms.
        batches: of instances.
        device: where the encoders are.
        blocks: blocks to take the activations of, from encoders that have them.
        embed: have the methods embed too; False for what stands before the heads alone.

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
            parts.append(_batch_features(encoder, views, blocks, embed))
    if not rows:
        raise ValueError(
            "no clip could be read for the evaluation; scan the sources again, so that what is "
            "gone or broken is left out"
        )
    row = torch.cat(rows)
    return [unpack(row, _joined(parts), tuple(failures)) for parts in collected]


def _batch_features(
    encoder: Encoder, views: Sequence[View], blocks: Collection[int], embed: bool
) -> dict[str, Tensor]:
    """The means over the views, by flat names, on the CPU."""
    per_view = [_view_features(encoder, view, blocks, embed) for view in views]
    mean = {
        name: torch.stack([features[name] for features in per_view]).mean(0) for name in per_view[0]
    }
    return {name: _stored(name, value).cpu() for name, value in mean.items()}


def _view_features(
    encoder: Encoder, view: View, blocks: Collection[int], embed: bool
) -> dict[str, Tensor]:
    encoded = {
        name: encode(module, view[name], blocks)
        for name, module in encoder.model.encoders.items()
        if name in view
    }
    pooled = {name: one.pooled for name, one in encoded.items()}
    flat = {f"pooled.{name}": value.float() for name, value in pooled.items()}
    if embed:
        known = KnownFeatures(encoder.model, view, pooled)
        for name, value in encoder.method.embed(known, view).items():
            flat[f"embedding.{name}"] = normalize(value.float(), dim=1)
    for name, one in encoded.items():
        flat |= {f"block.{name}.{block}": grid.float() for block, grid in one.blocks.items()}
    return flat


def _stored(name: str, value: Tensor) -> Tensor:
    if name.startswith("embedding."):
        return normalize(value, dim=1)
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
