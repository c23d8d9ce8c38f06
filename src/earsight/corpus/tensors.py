"""A data set in memory: clips that are tensors already, as instances and as their source."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from earsight.corpus.batch import View
from earsight.corpus.instances import Instances
from earsight.corpus.sources import stack
from earsight.media.types import AudioRequest, Clip, ClipRequest, Limits, VideoRequest

_FIRST = 1e-6
"""Seconds by which a time may round below that of its frame."""


class TensorClips:
    """A :class:`~earsight.corpus.sources.Source` of clips in memory.

    Requests are answered as files would be: spans, boxes and flips are cut from the tensors.

    Args:
        tensors: ``video (N, 3, T, H, W)`` uint8 in RGB, ``audio (N, samples)`` floats in [-1, 1],
            or one of them; every other name is a label column, ``(N,)`` integers, -1 for none.
        fps: frames of ``video`` per second.
        rate: samples of ``audio`` per second.

    Raises:
        ValueError: a tensor is of another shape or type, or they differ in ``N``.
    """

    shareable = False

    def __init__(self, tensors: Mapping[str, Tensor], *, fps: float, rate: int) -> None:
        _check(tensors)
        self.tensors = {name: x.detach().cpu() for name, x in tensors.items()}
        self.fps, self.rate = fps, rate
        self.instances = _instances(self.tensors, fps, rate)
        self._row = {key: row for row, key in enumerate(self.instances.key.tolist())}

    def read(self, key: int, request: ClipRequest, limits: Limits) -> Clip:
        """Cut a clip."""
        row = self._row[key]
        return Clip(
            video=tuple(self._pictures(row, wanted) for wanted in request.video),
            audio=tuple(self._sound(row, wanted) for wanted in request.audio),
        )

    def view(self, number: int, clips: Sequence[Clip], samples: int) -> View:
        """See :class:`~earsight.corpus.sources.Source`."""
        return stack(number, clips, samples)

    def _pictures(self, row: int, wanted: VideoRequest) -> NDArray[np.uint8]:
        """``(T, H, W, 3)``: the frames shown at the wanted times, cut and resized."""
        frames = self.tensors["video"][row]
        _, count, height, width = frames.shape
        at = wanted.start + torch.arange(wanted.frames, dtype=torch.float64) / wanted.fps
        shown = ((at + _FIRST) * self.fps).floor().long().clamp(0, count - 1)
        x0, y0, x1, y1 = wanted.box
        left, top = round(x0 * width), round(y0 * height)
        right, bottom = max(left + 1, round(x1 * width)), max(top + 1, round(y1 * height))
        cut = frames[:, shown, top:bottom, left:right]
        if wanted.flip:
            cut = cut.flip(-1)
        if cut.shape[2:] != wanted.size:
            small = F.interpolate(
                cut.transpose(0, 1).float(), wanted.size, mode="bilinear", antialias=True
            )
            cut = small.round_().clamp_(0, 255).to(torch.uint8).transpose(0, 1)
        return np.asarray(cut.contiguous().numpy().transpose(1, 2, 3, 0))

    def _sound(self, row: int, wanted: AudioRequest) -> NDArray[np.float32]:
        """``(samples,)``, silence beyond the ends."""
        assert wanted.rate == self.rate
        sound = self.tensors["audio"][row]
        begin, count = round(wanted.start * self.rate), round(wanted.duration * self.rate)
        found = np.zeros(count, np.float32)
        part = sound[max(0, begin) : max(0, begin + count)].float().numpy()
        offset = max(0, -begin)
        found[offset : offset + len(part)] = part
        return found


def _check(tensors: Mapping[str, Tensor]) -> None:
    video, audio = tensors.get("video"), tensors.get("audio")
    if video is None and audio is None:
        raise ValueError(f"tensors: give video or audio, not {', '.join(tensors) or 'nothing'}")
    if video is not None and (
        video.ndim != 5 or video.shape[1] != 3 or video.dtype != torch.uint8 or not video.numel()
    ):
        raise ValueError(
            f"tensors: video must be (N, 3, T, H, W) uint8, not {tuple(video.shape)} {video.dtype}"
        )
    if audio is not None and (
        audio.ndim != 2 or not audio.is_floating_point() or not audio.numel()
    ):
        raise ValueError(
            f"tensors: audio must be (N, samples) of floats, not {tuple(audio.shape)} {audio.dtype}"
        )
    for name in set(tensors) - {"video", "audio"}:
        label = tensors[name]
        if label.ndim != 1 or label.is_floating_point() or label.dtype == torch.bool:
            raise ValueError(
                f"tensors: the label {name} must be (N,) integers, not {tuple(label.shape)} "
                f"{label.dtype}"
            )
    sizes = {name: len(x) for name, x in tensors.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"tensors: all must hold as many clips, not {told}")


def _instances(tensors: Mapping[str, Tensor], fps: float, rate: int) -> Instances:
    """An instance for each clip; its key is of its place and content."""
    video, audio = tensors.get("video"), tensors.get("audio")
    size = len(next(iter(tensors.values())))
    whole, there = np.zeros(size, np.int64), np.ones(size, bool)
    seen = 0.0 if video is None else video.shape[2] / fps
    heard = 0.0 if audio is None else audio.shape[1] / rate
    height, width = (0, 0) if video is None else video.shape[3:]
    paths = [f"tensors/{number}" for number in range(size)]
    labels = {name: x.numpy() for name, x in tensors.items() if name not in {"video", "audio"}}
    return Instances(
        key=np.array([_key(tensors, row) for row in range(size)], np.uint64),
        path=paths,
        size=whole,
        mtime_ns=whole,
        group=np.array(paths, object),
        start=np.zeros(size),
        end=np.full(size, max(seen, heard)),
        width=np.full(size, width, np.int64),
        height=np.full(size, height, np.int64),
        fps=np.full(size, fps if seen else 0.0),
        video_stream=whole if seen else whole - 1,
        video_start=np.zeros(size),
        video_end=np.full(size, seen),
        audio_stream=whole if heard else whole - 1,
        audio_start=np.zeros(size),
        audio_end=np.full(size, heard),
        has_video=there if seen else ~there,
        has_audio=there if heard else ~there,
        labels={name: codes.astype(np.int64) for name, codes in labels.items()},
        vocabulary={
            name: tuple(str(number) for number in range(int(codes.max(initial=-1)) + 1))
            for name, codes in labels.items()
        },
    )


def _key(tensors: Mapping[str, Tensor], row: int) -> int:
    digest = blake2b(f"tensors/{row}".encode(), digest_size=8)
    for name in ("video", "audio"):
        if name in tensors:
            digest.update(tensors[name][row].contiguous().numpy().tobytes())
    return int.from_bytes(digest.digest(), "big")
