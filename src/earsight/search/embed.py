"""Embeddings of windows of instances, by a run's encoders."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight.corpus.batch import Failure, View
from earsight.corpus.clips import ClipSettings
from earsight.corpus.instances import Instances
from earsight.corpus.loader import load
from earsight.corpus.windows import WindowClips, Windows, cut_windows
from earsight.encoders.pair import MODALITIES
from earsight.evaluation.features import Encoder
from earsight.evaluation.load import Loaded
from earsight.methods.base import unit
from earsight.training.setup import clip_settings

Missing = Literal["skip", "silence", "error"]
"""What becomes of an instance without sound: no embedding of sound, that of silence, or a fault."""

_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Span:
    """How instances are cut into windows.

    Attributes:
        seconds: length of a window; None for that of the model's clips.
        hop: from one start to the next; None for the length.
        missing: what becomes of instances without sound.
    """

    seconds: float | None = None
    hop: float | None = None
    missing: Missing = "skip"


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Windows of instances, embedded.

    Attributes:
        row: ``(W,)`` int64, the instance of each.
        start: ``(W,)`` float64, seconds from the file's zero.
        end: ``(W,)`` float64.
        vectors: name of an embedding to ``(W, D)`` float32 of unit length; NaN where there is none.
        failures: instances that could not be read.
    """

    row: NDArray[np.int64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    vectors: Mapping[str, Tensor]
    failures: tuple[Failure, ...] = field(default=())


@torch.inference_mode()
def embed_view(encoder: Encoder, view: View) -> dict[str, Tensor]:
    """Embeddings ``(B, D)`` of unit length by name, of a prepared view's modalities.

    Where a method embeds nothing (a supervised run's outputs are classes), pooled features stand in
    for it.
    """
    own = {name: view[name] for name in MODALITIES if name in view}
    embedded = encoder.method.embed(encoder.model, own)
    if embedded:
        return embedded
    known = {name: x for name, x in own.items() if name in encoder.model.encoders}
    return {name: unit(x) for name, x in encoder.model.features(known).items()}


@dataclass(frozen=True, kw_only=True)
class WindowEmbedder:
    """Embeds windows of instances, a group of modalities at a time.

    Attributes:
        loaded: the run.
        device: where its encoders are.
        span: how instances are cut.
        workers: decoding processes.
        wanted: modalities that are asked for.
    """

    loaded: Loaded
    device: torch.device
    span: Span
    workers: int = 0
    wanted: Sequence[str] = MODALITIES

    @property
    def seconds(self) -> float:
        """Length of a window."""
        config = self.loaded.config
        clip = max(
            config.video.duration if "video" in self.modalities else 0.0,
            config.audio.duration if "audio" in self.modalities else 0.0,
        )
        return clip if self.span.seconds is None else self.span.seconds

    @property
    def hop(self) -> float:
        """Seconds from one window's start to the next."""
        return self.seconds if self.span.hop is None else self.span.hop

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that are asked for and that the run has encoders of."""
        return tuple(name for name in self.loaded.encoder.model.encoders if name in self.wanted)

    def windows(self, instances: Instances) -> Windows:
        """The windows of instances."""
        return cut_windows(instances, seconds=self.seconds, hop=self.hop)

    def embed(self, instances: Instances) -> Embedded:
        """Embed every window of every instance that can be read.

        Raises:
            ValueError: an instance lacks sound, where that is an error.
        """
        windows = self.windows(instances)
        parts: dict[str, list[Tensor]] = {}
        places: dict[str, list[Tensor]] = {}
        failures: dict[str, Failure] = {}
        for wanted, rows in self.groups(instances):
            at = np.flatnonzero(np.isin(windows.row, rows))
            for place, vectors, failed in self._group(instances, windows, at, wanted):
                failures |= {one.key: one for one in failed}
                for name, x in vectors.items():
                    parts.setdefault(name, []).append(x)
                    places.setdefault(name, []).append(place)
        found = {
            name: _spread(len(windows), torch.cat(places[name]), torch.cat(parts[name]))
            for name in parts
        }
        return Embedded(
            row=windows.row,
            start=windows.start,
            end=windows.start + windows.seconds,
            vectors=found,
            failures=tuple(failures.values()),
        )

    def groups(self, instances: Instances) -> list[tuple[tuple[str, ...], NDArray[np.int64]]]:
        """Rows by the modalities that are read of them."""
        video, audio = instances.has_video, instances.has_audio
        if "audio" in self.modalities and self.span.missing != "skip":
            silent = np.flatnonzero(video & ~audio)
            if self.span.missing == "error" and len(silent):
                raise ValueError(
                    f"{instances.path[int(silent[0])]} has no sound; skip it, or take "
                    "silence for it"
                )
            audio = audio | video
        kinds = {
            ("video", "audio"): video & audio,
            ("video",): video & ~audio,
            ("audio",): audio & ~video,
        }
        found = []
        for names, mask in kinds.items():
            wanted = tuple(name for name in names if name in self.modalities)
            if wanted and mask.any():
                found.append((wanted, np.flatnonzero(mask)))
        return found

    def _group(
        self,
        instances: Instances,
        windows: Windows,
        at: NDArray[np.int64],
        wanted: Sequence[str],
    ) -> Iterator[tuple[Tensor, dict[str, Tensor], Sequence[Failure]]]:
        """Batches of windows ``at``: their places, vectors by name, and what failed."""
        some = Windows(row=windows.row[at], start=windows.start[at], seconds=windows.seconds)
        settings: ClipSettings = replace(clip_settings(self.loaded.config), modalities=wanted)
        clips = WindowClips(instances, settings, some, batch=_BATCH)
        self.loaded.encoder.model.eval()
        for batch in load(clips, range(len(clips)), self.loaded.config.data, workers=self.workers):
            if not len(batch):
                yield torch.empty(0, dtype=torch.int64), {}, batch.failures
                continue
            view = self.loaded.inputs.prepare(batch.to(self.device).views[0], training=False)
            vectors = {n: x.cpu() for n, x in embed_view(self.loaded.encoder, view).items()}
            yield torch.from_numpy(at)[batch.row], vectors, batch.failures


def _spread(count: int, at: Tensor, x: Tensor) -> Tensor:
    """``x`` at its places among ``count``; NaN elsewhere."""
    full = torch.full((count, x.shape[1]), torch.nan)
    full[at] = x
    return full
