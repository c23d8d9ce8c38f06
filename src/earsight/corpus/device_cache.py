"""Decoded clips kept on the device that trains: cut, resized and joined there, without workers.

Draws are those of any other source, and so is the sound. Pictures are resized from RGB by products
with triangle filters, not from the codec's planes by libswscale: they differ by rounding and by
how the subsampled colours are spread.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight.corpus.batch import View
from earsight.corpus.cache import ClipCache
from earsight.media.frames import tick_shown
from earsight.media.keep import Kept, frame_of
from earsight.media.picture import Converter, pixel_box
from earsight.media.sound import first_sample, sample_count
from earsight.media.types import ClipRequest, Limits, MediaError, VideoRequest


@dataclass(frozen=True, kw_only=True)
class Picked:
    """A request as places in the cache.

    Attributes:
        frames: per video request ``(T,)`` int64.
        boxes: per video request ``(x, y, width, height)`` in pixels.
        flips: per video request, whether to mirror.
        audio: per audio request ``(first, count)`` samples.
        sizes: per video request ``(height, width)``.
    """

    frames: tuple[NDArray[np.int64], ...]
    boxes: tuple[tuple[int, int, int, int], ...]
    flips: tuple[bool, ...]
    audio: tuple[tuple[int, int], ...]
    sizes: tuple[tuple[int, int], ...]


class DeviceCache:
    """A :class:`~earsight.corpus.sources.Source` of tensors on ``device``.

    Raises:
        ValueError: pictures are not all of one size.
    """

    shareable = False

    def __init__(self, cache: ClipCache, device: torch.device) -> None:
        self._index = cache.index
        self._sound_at = np.concatenate([[0], np.cumsum(cache.index.samples)])
        frames: list[NDArray[np.uint8]] = []
        sound: list[NDArray[np.int16]] = []
        for key in cache.index.key.tolist():
            kept = cache.kept(key)
            frames += _upright(kept)
            sound.append(kept.samples.copy())
        sizes = {frame.shape for frame in frames}
        if len(sizes) > 1:
            known = ", ".join(sorted(f"{wide} × {high}" for _, high, wide in sizes)[:3])
            raise ValueError(
                f"data.cache: device needs pictures of one size, and the corpus has several "
                f"({known}); set data.cache=memory, or bring them to one size first"
            )
        pictures = np.stack(frames) if frames else np.empty((0, 3, 1, 1), np.uint8)
        self.frames = torch.from_numpy(pictures).to(device)
        self.sound = torch.from_numpy(np.concatenate(sound)).to(device)

    @property
    def size(self) -> int:
        """Bytes on the device."""
        return self.frames.numel() + 2 * self.sound.numel()

    def read(self, key: int, request: ClipRequest, limits: Limits) -> Picked:
        """Find the places of a request; raises MediaError where the file could not be read."""
        index = self._index
        if key in index.reasons:
            raise MediaError(index.reasons[key])
        at = int(np.searchsorted(index.key, np.uint64(key)))
        begin, end = int(index.frames[at]), int(index.frames[at + 1])
        if request.video and begin == end:
            raise MediaError("has no picture: none is kept")
        ticks = index.tick[begin:end]
        zero, per_tick = float(index.zero[at]), float(index.per_tick[at])
        height, width = self.frames.shape[2:]
        frames = []
        for wanted in request.video:
            shown = [tick_shown(wanted, slot, per_tick, zero) for slot in range(wanted.frames)]
            frames.append(begin + np.maximum(np.searchsorted(ticks, shown, "right") - 1, 0))
        sound = int(self._sound_at[at]) - int(index.first[at])
        return Picked(
            frames=tuple(frames),
            boxes=tuple(pixel_box(wanted.box, width, height) for wanted in request.video),
            flips=tuple(wanted.flip for wanted in request.video),
            audio=tuple(
                (sound + first_sample(wanted, zero), sample_count(wanted))
                for wanted in request.audio
            ),
            sizes=tuple(wanted.size for wanted in request.video),
        )

    def view(self, number: int, clips: Sequence[Picked], samples: int) -> View:
        """See :class:`~earsight.corpus.sources.Source`; tensors lie on the device."""
        view = {"video": self._pictures(number, clips)} if clips[0].frames else {}
        return view | ({"audio": self._sounds(number, clips, samples)} if samples else {})

    def _pictures(self, number: int, clips: Sequence[Picked]) -> Tensor:
        device = self.frames.device
        places = torch.from_numpy(np.stack([clip.frames[number] for clip in clips])).to(device)
        boxes = np.array([clip.boxes[number] for clip in clips], np.int64)
        flips = np.array([clip.flips[number] for clip in clips])
        high, wide = clips[0].sizes[number]
        rows = _filters(boxes[:, 1], boxes[:, 3], high, self.frames.shape[2], device)
        columns = _filters(boxes[:, 0], boxes[:, 2], wide, self.frames.shape[3], device)
        mirrored = torch.from_numpy(flips).to(device)[:, None, None]
        columns = torch.where(mirrored, columns.flip(1), columns)
        pictures = self.frames[places].float()
        resized = rows[:, None, None] @ pictures @ columns.transpose(1, 2)[:, None, None]
        video = resized.round_().clamp_(0, 255).to(torch.uint8).transpose(1, 2)
        return video.contiguous()

    def _sounds(self, number: int, clips: Sequence[Picked], samples: int) -> Tensor:
        device = self.sound.device
        first = [clip.audio[number][0] if clip.audio else 0 for clip in clips]
        there = torch.tensor([bool(clip.audio) for clip in clips], device=device)
        at = torch.tensor(first, device=device)[:, None] + torch.arange(samples, device=device)
        # Clips without sound point at what belongs to others, which the mask then removes.
        found = self.sound[at.clamp_(0, max(0, len(self.sound) - 1))].float() / 2**15
        return torch.where(there[:, None], found, 0.0)


def _upright(kept: Kept) -> list[NDArray[np.uint8]]:
    """Each frame as upright RGB, ``(3, H, W)``."""
    pictures = [np.empty((3, 0, 0), np.uint8)] * len(kept.pixels)
    for number, kind in enumerate(kept.kinds):
        places = np.flatnonzero(kept.kind == number).tolist()
        size = (kind.height, kind.width)
        request = VideoRequest(
            start=0.0,
            fps=1.0,
            frames=len(places),
            size=size[::-1] if kind.turn.transpose else size,
        )
        converter = Converter(request, Limits(), kind.turn)
        for slot, place in enumerate(places):
            converter.convert(frame_of(kept.pixels[place], kind), slot)
            pictures[place] = converter.pixels[slot].transpose(2, 0, 1)
    return pictures


def _filters(
    first: NDArray[np.int64], length: NDArray[np.int64], size: int, full: int, device: torch.device
) -> Tensor:
    """Triangle filters that bring ``length`` pixels from ``first`` on to ``size``.

    They average where they shrink, and take the outermost pixel for what lies beyond the crop.

    Returns:
        ``(B, size, full)`` float32; each row sums to one.
    """
    begin = torch.from_numpy(first).to(device)[:, None, None]
    end = begin + torch.from_numpy(length).to(device)[:, None, None] - 1
    scale = torch.from_numpy(length / size).to(device, torch.float32)[:, None, None]
    reach = scale.clamp(min=1)
    margin = int(np.ceil(max(1.0, float((length / size).max(initial=1.0)))))
    centre = begin + (torch.arange(size, device=device)[:, None] + 0.5) * scale - 0.5
    pixel = torch.arange(-margin, full + margin, device=device)
    weight = (1 - (pixel - centre).abs() / reach).clamp_(min=0)
    weight /= weight.sum(2, keepdim=True)
    inside = torch.minimum(torch.maximum(pixel.expand_as(weight), begin), end)
    return weight.new_zeros(len(first), size, full).scatter_add_(2, inside, weight)
