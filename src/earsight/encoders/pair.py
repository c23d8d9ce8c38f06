"""The encoders that a method trains, each with its head, as one module with one gradient path."""

from collections.abc import Mapping

from torch import Tensor, nn

from earsight.config import AUDIO_ENCODERS, VIDEO_ENCODERS, HeadConfig, RunConfig
from earsight.encoders.heads import MLPHead

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
    video = VIDEO_ENCODERS.build(config.video_encoder) if "video" in wanted else None
    audio = AUDIO_ENCODERS.build(config.audio_encoder) if "audio" in wanted else None
    return Pair(
        video,
        audio,
        None if video is None else MLPHead(video.dim, wanted["video"]),
        None if audio is None else MLPHead(audio.dim, wanted["audio"]),
    )


def wanted_heads(config: RunConfig) -> Mapping[str, HeadConfig]:
    """Modality to the settings of its head, of the modalities that the method trains."""
    own = getattr(config.method, "heads", None)
    if own is None:
        return dict.fromkeys(MODALITIES, config.head)
    heads: Mapping[str, HeadConfig] = own(config.head)
    return heads
