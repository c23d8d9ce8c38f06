"""The pair of encoders that a method trains, as one module with one gradient path."""

from collections.abc import Mapping

from torch import Tensor, nn

from earsight.config import AUDIO_ENCODERS, VIDEO_ENCODERS, RunConfig
from earsight.encoders.heads import MLPHead


class Pair(nn.Module):
    """A video and an audio encoder, each with its head.

    Args:
        video_encoder: clips ``(B, 3, T, H, W)`` to features ``(B, video_encoder.dim)``.
        audio_encoder: spectrograms ``(B, 1, frames, bands)`` to ``(B, audio_encoder.dim)``.
        video_head: features to embeddings ``(B, D)``.
        audio_head: likewise.
    """

    def __init__(
        self,
        video_encoder: nn.Module,
        audio_encoder: nn.Module,
        video_head: nn.Module,
        audio_head: nn.Module,
    ) -> None:
        super().__init__()
        self.video_encoder = video_encoder
        self.audio_encoder = audio_encoder
        self.video_head = video_head
        self.audio_head = audio_head

    def forward(
        self, video: Tensor | None, audio: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Unnormalised embeddings ``(B, D)`` of both modalities; None where the input is None."""
        video_embedding = None if video is None else self.video_head(self.video_encoder(video))
        audio_embedding = None if audio is None else self.audio_head(self.audio_encoder(audio))
        return video_embedding, audio_embedding

    def features(self, view: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Pooled features before the heads, ``(B, dim)``, of the modalities that ``view`` has."""
        encoders = {"video": self.video_encoder, "audio": self.audio_encoder}
        return {name: encoders[name](x) for name, x in view.items()}


def build_pair(config: RunConfig) -> Pair:
    """Encoders and heads as configured, with weights drawn from torch's generator.

    The caller seeds it (``torch.manual_seed``); the weights are a function of that seed alone.
    """
    video_encoder = VIDEO_ENCODERS.build(config.video_encoder)
    audio_encoder = AUDIO_ENCODERS.build(config.audio_encoder)
    return Pair(
        video_encoder,
        audio_encoder,
        MLPHead(video_encoder.dim, config.head),
        MLPHead(audio_encoder.dim, config.head),
    )
