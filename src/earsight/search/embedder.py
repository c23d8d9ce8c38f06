"""A run's encoders for anyone's files and arrays."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from earsight.corpus.batch import View
from earsight.corpus.loose import loose_instances
from earsight.corpus.requests import window_starts
from earsight.encoders.pair import MODALITIES
from earsight.evaluation.load import Loaded
from earsight.media.types import Limits, MediaError
from earsight.methods.base import Spaces, unit
from earsight.search.arrays import as_pictures, as_sound, audio_clips, video_clips
from earsight.search.embed import Embedded, Missing, Span, WindowEmbedder, embed_view
from earsight.search.spaces import space_between

File = str | Path
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Embeddings of a file or of arrays, window by window.

    Attributes:
        start: ``(W,)`` seconds at which the windows begin.
        end: ``(W,)`` at which they end.
        vectors: ``(W, D)`` of unit length by name: ``video`` and ``audio``, and ``video_key`` and
            ``audio_key`` where the method compares queries with other encoders' keys. What a file
            lacks is not among them.
        path: the file; empty for arrays.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    vectors: Mapping[str, Tensor]
    path: str = ""

    def __len__(self) -> int:
        return len(self.start)

    def mean(self) -> "Embedding":
        """One embedding of the whole: the windows' mean, of unit length again."""
        means = {name: unit(x.mean(dim=0, keepdim=True)) for name, x in self.vectors.items()}
        return Embedding(start=self.start[:1], end=self.end[-1:], vectors=means, path=self.path)


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """Encoders ready to embed pictures and sound of any length.

    Attributes:
        loaded: the run's encoders, settings and transforms.
        device: where they are.
        limits: what a file may cost.
    """

    loaded: Loaded
    device: torch.device
    limits: Limits = field(default_factory=Limits)

    @property
    def video(self) -> nn.Module:
        """The bare video encoder: ``(B, 3, T, H, W)`` to pooled features ``(B, dim)``; its
        ``forward_features`` gives the four blocks."""
        return self._encoder("video")

    @property
    def audio(self) -> nn.Module:
        """The bare audio encoder: ``(B, 1, frames, bands)`` to pooled features ``(B, dim)``."""
        return self._encoder("audio")

    def _encoder(self, modality: str) -> nn.Module:
        known = self.loaded.encoder.model.backbones
        if modality not in known:
            raise ValueError(f"this run has no {modality} encoder, but {', '.join(known)}")
        return known[modality]

    @property
    def spaces(self) -> Spaces:
        """Which embeddings the method trains to agree across modalities."""
        return self.loaded.encoder.method.spaces

    def embed(self, file: File, **options: Any) -> Embedding:
        """Embed a file of any length, in pictures and sound; see :meth:`embed_all`."""
        return self.embed_all([file], **options)[0]

    def embed_all(
        self,
        files: Sequence[File],
        *,
        window: float | None = None,
        hop: float | None = None,
        missing: Missing = "skip",
        modalities: Sequence[str] = MODALITIES,
        workers: int = 0,
    ) -> list[Embedding]:
        """Embed files of any length.

        Args:
            files: their paths.
            window: seconds of a window; None for that of the model's clips. The clip is taken from
                its middle.
            hop: seconds from one window's start to the next; None for the length of a window.
            missing: what becomes of a file without sound: no embedding of it (``skip``), that of
                ``silence``, or an ``error``.
            modalities: those that are wanted.
            workers: processes that decode.

        Returns:
            An embedding for each.

        Raises:
            ValueError: a file cannot be read, or has no sound where that is an error.
        """
        span = Span(seconds=window, hop=hop, missing=missing)
        embedder = WindowEmbedder(
            loaded=self.loaded, device=self.device, span=span, workers=workers, wanted=modalities
        )
        found = embedder.embed(loose_instances(files, self.limits))
        if found.failures:
            first = found.failures[0]
            raise MediaError(f"{first.path} {first.reason}")
        return [_of_file(found, row, str(path)) for row, path in enumerate(files)]

    def embed_video(
        self,
        source: File | NDArray[np.uint8] | Tensor,
        *,
        fps: float | None = None,
        window: float | None = None,
        hop: float | None = None,
    ) -> Embedding:
        """Embed pictures: of a file, or ``(T, H, W, 3)`` uint8 in memory with their ``fps``.

        Raises:
            ValueError: the file cannot be read or has no picture, pictures are of another shape or
                type, or ``fps`` is no positive finite number.
        """
        if isinstance(source, str | Path):
            return self._alone(source, "video", window, hop)
        if fps is None or not 0 < fps < math.inf:
            raise ValueError("fps: give how many pictures a second has, such as fps=25")
        config = self.loaded.config.video
        frames = as_pictures(source)
        length = len(frames) / fps
        seconds, starts = _windows(length, window, hop, config.duration)
        clips = video_clips(frames, fps, starts, seconds, config)
        return self._arrays({"video": clips}, starts, np.minimum(starts + seconds, length))

    def embed_audio(
        self,
        source: File | NDArray[np.floating[Any] | np.signedinteger[Any]] | Tensor,
        *,
        rate: int | None = None,
        window: float | None = None,
        hop: float | None = None,
    ) -> Embedding:
        """Embed sound: of a file, or ``(samples,)`` or ``(channels, samples)`` with their ``rate``.

        In memory it is floats in [-1, 1] or signed integers of full scale, such as 16-bit PCM;
        channels are averaged.

        Raises:
            ValueError: the file cannot be read or has no sound, or sound is of another shape or
                type, such as ``(samples, channels)`` or unsigned integers.
        """
        if isinstance(source, str | Path):
            return self._alone(source, "audio", window, hop)
        if rate is None or rate <= 0:
            raise ValueError("rate: give the samples a second, such as rate=44100")
        config = self.loaded.config.audio
        wave = as_sound(source)
        length = len(wave) / rate
        seconds, starts = _windows(length, window, hop, config.duration)
        clips = audio_clips(wave, rate, starts, seconds, config)
        return self._arrays({"audio": clips}, starts, np.minimum(starts + seconds, length))

    def similarity(
        self,
        query: Embedding,
        gallery: Embedding,
        space: Literal["video-audio", "audio-video", "video-video", "audio-audio"],
    ) -> Tensor:
        """Cosine similarities ``(W, W')`` of all windows of the one with all of the other.

        Args:
            query: what is asked with.
            gallery: what is compared.
            space: the modality of the query's side, and of the gallery's.

        Raises:
            ValueError: the method trains no such space, or a side lacks the modality.
        """
        asked = space_between(self.spaces, *space.split("-", 1))
        for side, name in ((query, asked.query), (gallery, asked.gallery)):
            if name not in side.vectors:
                known = ", ".join(side.vectors) or "nothing"
                raise ValueError(f"{side.path or 'the arrays'} has no {name}, but {known}")
        return query.vectors[asked.query] @ gallery.vectors[asked.gallery].T

    def _alone(
        self, file: File, modality: str, window: float | None, hop: float | None
    ) -> Embedding:
        """A file by one modality, which it must have."""
        self._encoder(modality)
        found = self.embed(file, window=window, hop=hop, modalities=(modality,))
        if modality not in found.vectors:
            raise ValueError(f"{file} has no {'picture' if modality == 'video' else 'sound'}")
        return found

    @torch.inference_mode()
    def embed_clips(self, view: View) -> dict[str, Tensor]:
        """Embed clips that are cut already.

        Args:
            view: ``video (B, 3, T, size, size)`` uint8, ``audio (B, samples)`` float32, or both, as
                long and as large as the model's clips.

        Returns:
            Name of an embedding to ``(B, D)`` of unit length.
        """
        self.loaded.encoder.model.eval()
        on_device = {name: x.to(self.device) for name, x in view.items()}
        prepared = self.loaded.inputs.prepare(on_device, training=False)
        return {name: x.cpu() for name, x in embed_view(self.loaded.encoder, prepared).items()}

    def _arrays(
        self, view: View, starts: NDArray[np.float64], ends: NDArray[np.float64]
    ) -> Embedding:
        (name,) = view
        self._encoder(name)
        parts = [self.embed_clips({name: some}) for some in torch.split(view[name], _BATCH)]
        vectors = {n: torch.cat([part[n] for part in parts]) for n in parts[0]}
        return Embedding(start=starts, end=ends, vectors=vectors)


def _windows(
    length: float, window: float | None, hop: float | None, clip: float
) -> tuple[float, NDArray[np.float64]]:
    """Length and starts of windows."""
    seconds = clip if window is None else window
    return seconds, window_starts(length, seconds, seconds if hop is None else hop)


def _of_file(found: Embedded, row: int, path: str) -> Embedding:
    """The windows of one file, with what it has."""
    mine = found.row == row
    vectors = {name: x[torch.from_numpy(mine)] for name, x in found.vectors.items()}
    there = {name: x for name, x in vectors.items() if not bool(x.isnan().any())}
    return Embedding(start=found.start[mine], end=found.end[mine], vectors=there, path=path)
