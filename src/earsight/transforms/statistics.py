"""Mean and deviation of spectrograms per frequency, gathered batch by batch."""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor


class Statistics:
    """Streaming mean and variance per band, in float64, merged as Chan, Golub and LeVeque (1979).

    Attributes:
        clips: clips seen.
        frames: frames seen.
        mean: ``(bands,)`` float64, of the frames seen.
        m2: ``(bands,)`` float64, their summed squared distances from the mean.
    """

    def __init__(self, bands: int) -> None:
        if bands < 1:
            raise ValueError(f"bands: must be 1 or more, not {bands}")
        self.clips = 0
        self.frames = 0
        self.mean = torch.zeros(bands, dtype=torch.float64)
        self.m2 = torch.zeros(bands, dtype=torch.float64)

    def update(self, spectrogram: Tensor) -> None:
        """Take in a batch.

        Args:
            spectrogram: ``(B, 1, frames, bands)``, on any device.

        Raises:
            ValueError: another number of bands, or a value that is not finite; nothing is then
                taken in.
        """
        bands = len(self.mean)
        if spectrogram.dim() != 4 or spectrogram.shape[3] != bands:
            raise ValueError(
                f"spectrogram: has shape {tuple(spectrogram.shape)}; "
                f"give (B, 1, frames, {bands}), or count with as many bands as it has"
            )
        x = spectrogram.detach().cpu().reshape(-1, bands).double()
        if len(x) == 0:
            return
        mean = x.mean(0)
        if not bool(mean.isfinite().all()):
            raise ValueError("spectrogram: has values that are not finite; look for broken sound")
        m2 = x.sub_(mean).square_().sum(0)
        self._merge(len(spectrogram), len(x), mean, m2)

    def merge(self, other: "Statistics") -> None:
        """Take in what another has gathered (of other clips).

        Raises:
            ValueError: another number of bands.
        """
        if other.mean.shape != self.mean.shape:
            raise ValueError(
                f"statistics of {len(other.mean)} bands cannot join those of {len(self.mean)}"
            )
        if other.frames:
            self._merge(other.clips, other.frames, other.mean, other.m2)

    def _merge(self, clips: int, frames: int, mean: Tensor, m2: Tensor) -> None:
        total = self.frames + frames
        delta = mean - self.mean
        self.mean = self.mean + delta * (frames / total)
        self.m2 = self.m2 + m2 + delta.square() * (self.frames * frames / total)
        self.clips, self.frames = self.clips + clips, total

    def finish(self, *, floor: float = 1.0) -> tuple[Tensor, Tensor]:
        """The mean and the deviation (of the population) so far.

        Args:
            floor: least deviation in decibel. A band that never sounds in the sample would
                otherwise be divided by about nothing when it does sound later.

        Returns:
            Mean and deviation, ``(bands,)`` float32 each.

        Raises:
            ValueError: nothing has been taken in.
        """
        if self.frames == 0:
            raise ValueError(
                "statistics: no clip with sound was seen; take a corpus in which some have sound"
            )
        std = (self.m2 / self.frames).sqrt().clamp(min=floor)
        return self.mean.float(), std.float()

    def state(self) -> dict[str, Tensor]:
        """Everything gathered, as plain tensors."""
        return {
            "clips": torch.tensor(self.clips),
            "frames": torch.tensor(self.frames),
            "mean": self.mean.clone(),
            "m2": self.m2.clone(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """Continue from what :meth:`state` gave."""
        made = cls(len(state["mean"]))
        made.clips, made.frames = int(state["clips"]), int(state["frames"])
        made.mean, made.m2 = state["mean"].double().clone(), state["m2"].double().clone()
        return made
