"""The encoders that a method trains, each with its head, as one module with one gradient path."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from earsight.config import AUDIO_ENCODERS, VIDEO_ENCODERS, HeadConfig, RunConfig
from earsight.corpus.pairs import SIDE
from earsight.encoders.heads import MLPHead
from earsight.encoders.probed import BlockClassifiers, Probed
from earsight.transforms.pictures import grid_of

MODALITIES = ("video", "audio")
OTHER = {"video": "audio", "audio": "video"}


class Pair(nn.Module):
    """A video and an audio encoder, each with its head; a modality may be without both.

    Args:
        video_encoder: clips ``(B, 3, T, H, W)`` to features ``(B, video_encoder.dim)``.
        audio_encoder: spectrograms ``(B, 1, frames, bands)`` to ``(B, audio_encoder.dim)``.
        video_head: features to embeddings ``(B, D)``.
        audio_head: likewise.
    """

    def __init__(
        self,
        video_encoder: nn.Module | None,
        audio_encoder: nn.Module | None,
        video_head: nn.Module | None,
        audio_head: nn.Module | None,
    ) -> None:
        super().__init__()
        self.video_encoder = video_encoder
        self.audio_encoder = audio_encoder
        self.video_head = video_head
        self.audio_head = audio_head

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """Modality to encoder, of the modalities that there are."""
        both = zip(MODALITIES, (self.video_encoder, self.audio_encoder), strict=True)
        return {name: encoder for name, encoder in both if encoder is not None}

    @property
    def backbones(self) -> dict[str, nn.Module]:
        """The encoders themselves, also of those that are frozen and read block by block."""
        return {
            name: encoder.encoder if isinstance(encoder, Probed) else encoder
            for name, encoder in self.encoders.items()
        }

    def forward(
        self, video: Tensor | None, audio: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Unnormalised embeddings ``(B, D)`` of both modalities; None where the input is None.

        A modality without encoder gives None too.
        """
        given = {"video": video, "audio": audio}
        view = {name: x for name, x in given.items() if x is not None}
        embedded = self.project(self.features(view))
        return embedded.get("video"), embedded.get("audio")

    def features(self, view: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Pooled features before the heads, ``(B, dim)``, of the modalities that ``view`` has."""
        return {
            name: encoder(view[name]) for name, encoder in self.encoders.items() if name in view
        }

    def project(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Unnormalised embeddings ``(B, D)`` from the pooled features of each modality."""
        heads = {"video": self.video_head, "audio": self.audio_head}
        embedded = {}
        for name, x in features.items():
            head = heads[name]
            assert head is not None
            embedded[name] = head(x)
        return embedded


def build_pair(config: RunConfig) -> Pair:
    """Encoders and heads as configured, with weights drawn from torch's generator.

    The settings of a method may have a function ``heads(settings)``, which takes those of the
    section ``head`` and returns the heads wanted by modality; a modality without a head is not
    built. All others get both, as the section says.

    The caller seeds the generator (``torch.manual_seed``); the weights are a function of that seed
    alone.
    """
    wanted = wanted_heads(config)
    encoders: dict[str, Any] = dict.fromkeys(MODALITIES)
    heads: dict[str, nn.Module | None] = dict.fromkeys(MODALITIES)
    for name in MODALITIES:
        if name in wanted:
            encoders[name] = _BUILD[name](getattr(config, f"{name}_encoder"))
    for name, head in wanted.items():
        blocks = getattr(config.method, "blocks", ())
        if blocks:
            encoders[name] = Probed(encoders[name], blocks, _example(config, name))
            heads[name] = BlockClassifiers(encoders[name].dims, head.dim)
        else:
            heads[name] = MLPHead(encoders[name].dim, head)
    return Pair(encoders["video"], encoders["audio"], heads["video"], heads["audio"])


_BUILD = {"video": VIDEO_ENCODERS.build, "audio": AUDIO_ENCODERS.build}


def _example(config: RunConfig, modality: str) -> Tensor:
    """An input of the size that the settings give."""
    if config.pictures.cells:
        rows, columns = grid_of(config.pictures.cells)
        return torch.zeros(1, 1, rows * SIDE, columns * SIDE)
    if modality == "video":
        return torch.zeros(1, 3, config.video.frames, config.video.size, config.video.size)
    return torch.zeros(1, 1, config.audio.frames, config.audio.bands)


def wanted_heads(config: RunConfig) -> Mapping[str, HeadConfig]:
    """Modality to the settings of its head, of the modalities that the method trains."""
    own = getattr(config.method, "heads", None)
    if own is None:
        return dict.fromkeys(MODALITIES, config.head)
    heads: Mapping[str, HeadConfig] = own(config.head)
    return heads
