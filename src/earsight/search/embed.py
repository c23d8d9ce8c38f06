"""Embeddings of windows of instances, by a run's encoders."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight.corpus.batch import Batch, Failure, View
from earsight.corpus.instances import Instances
from earsight.corpus.loader import load
from earsight.corpus.requests import window_starts
from earsight.corpus.windows import WindowBatch, WindowClips, Windows, cut_windows
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

    @property
    def is_out_of_reach(self) -> bool:
        """Whether nothing could be read, and all of it may be read later."""
        lost = bool(self.failures) and not self.vectors
        return lost and all(one.passing for one in self.failures)


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

    def check(self) -> None:
        """Refuse settings that nothing can be embedded with, before anything is read.

        Raises:
            ValueError: of the window, the hop or the workers.
        """
        if self.workers < 0:
            raise ValueError("workers: must be 0 or more processes")
        window_starts(0.0, self.seconds, self.hop)

    def windows(self, instances: Instances) -> Windows:
        """The windows of instances."""
        return cut_windows(instances, seconds=self.seconds, hop=self.hop)

    def embed(self, instances: Instances) -> Embedded:
        """Embed every window of every instance that can be read.

        Raises:
            ValueError: an instance lacks sound, where that is an error.
        """
        (found,) = self.embed_parts(instances, [range(len(instances))])
        return found

    def embed_parts(
        self, instances: Instances, parts: Sequence[range]
    ) -> Generator[Embedded, None, None]:
        """Embed the windows of one part of the instances after another.

        One loader reads them all: the next part is decoded while this one is embedded or written.
        A part's embeddings do not depend on which others there are, to the bit.

        Args:
            instances: all of them.
            parts: rows of each, without gaps.

        Yields:
            The windows of each part; ``row`` is of all instances.

        Raises:
            ValueError: an instance lacks sound, where that is an error; nothing is yielded then.
        """
        clips, planned = self.plan(instances, parts)
        self.loaded.encoder.model.eval()
        stream = load(
            clips,
            range(len(clips)),
            self.loaded.config.data,
            workers=self.workers,
            pin=self.device.type == "cuda",
        )
        for span, count in planned:
            yield self._part(clips.windows, span, islice(stream, count), instances.end)

    def plan(
        self, instances: Instances, parts: Sequence[range]
    ) -> tuple[WindowClips, list[tuple[slice, int]]]:
        """How the windows of parts of the instances are read.

        Returns:
            The clips, in batches of one part after another; and for each part its span of the
            windows, and how many batches it has.

        Raises:
            ValueError: an instance lacks sound, where that is an error.
        """
        windows, groups = self.windows(instances), self.groups(instances)
        batches: list[WindowBatch] = []
        planned = []
        for rows in parts:
            span = slice(*np.searchsorted(windows.row, (rows.start, rows.stop)).tolist())
            own = _batches(windows, span, groups)
            batches += own
            planned.append((span, len(own)))
        clips = WindowClips(instances, clip_settings(self.loaded.config), windows, batches)
        return clips, planned

    def groups(self, instances: Instances) -> list[tuple[tuple[str, ...], NDArray[np.bool_]]]:
        """Which instances ``(N,)`` are read in which modalities; in none where they have none."""
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
        wanted = {
            names: tuple(name for name in names if name in self.modalities) for names in kinds
        }
        return [(wanted[names], mask) for names, mask in kinds.items() if wanted[names]]

    def _part(
        self, windows: Windows, span: slice, batches: Iterator[Batch], ends: NDArray[np.float64]
    ) -> Embedded:
        """The windows of a part, from its batches; the last ends with its instance."""
        vectors: dict[str, Tensor] = {}
        failures: dict[str, Failure] = {}
        for batch in batches:
            failures |= {one.key: one for one in batch.failures}
            if not len(batch):
                continue
            for name, x in self.vectors(batch).items():
                if name not in vectors:
                    vectors[name] = torch.full((span.stop - span.start, x.shape[1]), torch.nan)
                vectors[name][batch.row - span.start] = x
        row, start = windows.row[span], windows.start[span]
        return Embedded(
            row=row,
            start=start,
            end=np.minimum(start + windows.seconds, np.maximum(ends[row], start)),
            vectors=vectors,
            failures=tuple(failures.values()),
        )

    @torch.inference_mode()
    def vectors(self, batch: Batch) -> dict[str, Tensor]:
        """Embeddings ``(B, D)`` by name of a batch of windows, on the CPU."""
        view = {name: x.to(self.device, non_blocking=True) for name, x in batch.views[0].items()}
        prepared = self.loaded.inputs.prepare(view, training=False)
        return {name: x.cpu() for name, x in embed_view(self.loaded.encoder, prepared).items()}


def _batches(
    windows: Windows, span: slice, groups: Sequence[tuple[tuple[str, ...], NDArray[np.bool_]]]
) -> list[WindowBatch]:
    """The windows in ``span`` by what is read of them, and some at a time."""
    row = windows.row[span]
    found = []
    for modalities, mask in groups:
        at = span.start + np.flatnonzero(mask[row])
        found += [
            WindowBatch(at=at[begin : begin + _BATCH], modalities=modalities)
            for begin in range(0, len(at), _BATCH)
        ]
    return found
