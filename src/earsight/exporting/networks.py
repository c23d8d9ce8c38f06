"""What each exported graph computes: from the inputs of one encoder to features and embedding."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from earsight.encoders.pair import MODALITIES, Pair
from earsight.encoders.probed import Probed
from earsight.errors import RunError
from earsight.exporting.raw import Pixels, RawSound, check_waveform
from earsight.exporting.subject import Subject
from earsight.methods.base import unit
from earsight.transforms.inputs import Inputs

BATCHES = (1, 2, 5)
"""Sizes of the batches by which a graph is checked."""

TOLERANCE = 1e-4
"""Largest difference from torch, as a share of the output's largest value."""

_KEY = "_key"


class Graph(nn.Module):
    """Inputs to pooled features and to what the head makes of them.

    Args:
        prepare: what makes network inputs of raw ones; None where they come prepared.
        encoder: network inputs to features ``(B, dim)``.
        head: features to embeddings, or to logits.
        blocks: of how many blocks there are logits, 0 where there is but one kind.
        embeds: whether the head's output is an embedding, to be L2-normalised.
    """

    def __init__(
        self,
        prepare: nn.Module | None,
        encoder: nn.Module,
        head: nn.Module,
        *,
        blocks: int = 0,
        embeds: bool = True,
    ) -> None:
        super().__init__()
        self.prepare, self.encoder, self.head = prepare, encoder, head
        self.blocks, self.embeds = blocks, embeds

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(B, dim)``; embeddings ``(B, D)``, or logits ``(B, [blocks,] classes)``."""
        prepared = x if self.prepare is None else self.prepare(x)
        features: Tensor = self.encoder(prepared)
        y: Tensor = self.head(features)
        if self.embeds:
            return features, unit(y)
        return features, y.reshape(-1, self.blocks, y.shape[1] // self.blocks) if self.blocks else y


@dataclass(frozen=True, kw_only=True)
class Network:
    """One graph to be exported.

    Attributes:
        name: as the method's spaces call its embedding: ``video``, ``audio_key``.
        modality: ``video`` or ``audio``.
        graph: what is computed.
        shape: of one input, without the batch.
        raw: whether inputs are pixels and samples.
        outputs: names of the two outputs.
    """

    name: str
    modality: str
    graph: Graph
    shape: tuple[int, ...]
    raw: bool
    outputs: tuple[str, str]

    @property
    def input(self) -> str:
        """The name of the input."""
        return {"video": "pixels", "audio": "waveform"}[self.modality] if self.raw else "inputs"

    def sample(self, batch: int) -> Tensor:
        """``(batch, …)`` made-up inputs, the same each time."""
        generator = torch.Generator().manual_seed(batch)
        shape = (batch, *self.shape)
        if not self.raw:
            return torch.randn(shape, generator=generator)
        if self.modality == "video":
            return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return 0.1 * torch.randn(shape, generator=generator)


def networks(subject: Subject, *, raw: bool = False) -> tuple[Network, ...]:
    """The graphs of a run: each encoder's, and the key encoders' that its spaces name.

    Args:
        subject: the run.
        raw: take pixels and samples instead of prepared inputs.

    Raises:
        ValueError: the method names embeddings that are made in a way not known here.
    """
    model, keys = subject.loaded.encoder.model, subject.loaded.encoder.method.keys
    wanted = dict.fromkeys(model.encoders, model)
    for name in sorted({name for pair in subject.spaces for name in pair} - set(wanted)):
        if keys is None or name.removesuffix(_KEY) not in keys.encoders:
            raise ValueError(
                f"{subject.run}: the method {subject.config.method.name} compares an embedding "
                f"{name!r}, and only those of its encoders and key encoders can be exported as a "
                "graph; export safetensors"
            )
        wanted[name] = keys.eval()
    made = tuple(_network(subject, name, pair, raw) for name, pair in wanted.items())
    _check_against_method(subject, [n for n in made if not n.raw])
    return made


def _network(subject: Subject, name: str, pair: Pair, raw: bool) -> Network:
    modality = name.removesuffix(_KEY)
    encoder = pair.encoders[modality]
    head = {"video": pair.video_head, "audio": pair.audio_head}[modality]
    assert head is not None
    embeds = subject.target is None
    blocks = len(encoder.blocks) if isinstance(encoder, Probed) else 0
    inputs = subject.loaded.inputs
    prepare = _preparation(inputs, modality) if raw else None
    graph = Graph(prepare, encoder, head, blocks=blocks, embeds=embeds)
    return Network(
        name=name,
        modality=modality,
        graph=graph.eval(),
        shape=_shape(inputs, modality, raw),
        raw=raw,
        outputs=("features", "embedding" if embeds else "logits"),
    )


def _preparation(inputs: Inputs, modality: str) -> nn.Module:
    if modality == "video":
        return Pixels()
    sound = RawSound(inputs.audio, inputs.normalise)
    check_waveform(sound.waveform)
    return sound


def _shape(inputs: Inputs, modality: str, raw: bool) -> tuple[int, ...]:
    video, audio = inputs.video, inputs.audio
    if modality == "video":
        return (3, video.frames, video.size, video.size)
    if raw:
        return (round(audio.duration * audio.rate),)
    return (1, audio.frames, audio.bands)


@torch.no_grad()
def _check_against_method(subject: Subject, made: list[Network]) -> None:
    """The graphs must give what the method itself embeds, whatever it may do besides.

    Raises:
        ValueError: they do not.
    """
    view = {n.modality: n.sample(2) for n in made if n.name in MODALITIES}
    encoder = subject.loaded.encoder
    expected = encoder.method.embed(encoder.model, view) if view else {}
    for network in made:
        if network.name not in expected:
            continue
        _, embedding = network.graph(view[network.modality])
        if difference(embedding, expected[network.name]) > TOLERANCE:
            raise ValueError(
                f"{subject.run}: the method {subject.config.method.name} embeds {network.name} in "
                "a way of its own, which cannot be exported as a graph; export safetensors"
            )


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest value expected; NaN counts as infinite."""
    if found.shape != expected.shape:
        return float("inf")
    largest = expected.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    share = float((found - expected).abs().max() / largest)
    return share if share == share else float("inf")  # noqa: PLR0124 - NaN


Answers = Iterator[tuple[Tensor, tuple[Tensor, ...]]]


@torch.no_grad()
def examples(network: Network) -> Answers:
    """Inputs of several batch sizes, with what the graph answers in torch."""
    for batch in BATCHES:
        x = network.sample(batch)
        yield x, network.graph(x)


def check_answers(
    network: Network, found: tuple[Tensor, ...], expected: tuple[Tensor, ...]
) -> float:
    """The largest difference of a graph's outputs.

    Raises:
        RunError: it is too large.
    """
    differences = [difference(f.float(), e) for f, e in zip(found, expected, strict=True)]
    worst = max(differences)
    if worst > TOLERANCE:
        raise RunError(
            f"{network.name}: the exported graph differs from torch by {worst:.1e} of its largest "
            f"value for a batch of {len(expected[0])}, where {TOLERANCE:g} is allowed; nothing was "
            "written"
        )
    return worst
