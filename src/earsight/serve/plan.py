"""What the process that decodes uploads is told, as text."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from earsight.config import AudioConfig, VideoConfig
from earsight.serve.limits import UploadLimits

BATCH = 32
"""Windows that are handed over at a time."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a file is cut, and what that may cost.

    Attributes:
        video: what a clip's pictures are.
        audio: what its sound is.
        modalities: those that are read.
        seconds: length of a window, and from one start to the next.
        limits: of the decoding.
    """

    video: VideoConfig
    audio: AudioConfig
    modalities: tuple[str, ...]
    seconds: float
    limits: UploadLimits

    def shape(self, modality: str, count: int) -> tuple[int, ...]:
        """Shape of ``count`` windows: ``(B, T, H, W, 3)`` uint8, or ``(B, samples)`` float32."""
        if modality == "video":
            return (count, self.video.frames, self.video.size, self.video.size, 3)
        return (count, round(self.audio.duration * self.audio.rate))

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self))


def read_plan(text: str) -> Plan:
    """A plan from its text."""
    tree: dict[str, Any] = json.loads(text)
    return Plan(
        video=VideoConfig(**tree["video"]),
        audio=AudioConfig(**tree["audio"]),
        modalities=tuple(tree["modalities"]),
        seconds=tree["seconds"],
        limits=UploadLimits(**tree["limits"]),
    )
