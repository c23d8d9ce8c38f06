"""Clips at given places, without a draw and so without torch: windows, evenly spaced clips."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from earsight.config import AudioConfig, VideoConfig
from earsight.corpus.instances import Instances
from earsight.media.types import AudioRequest, ClipRequest, VideoRequest

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ROUNDING = 1e-6
EVALUATION_CROP = 0.875
"""Share of the short side that a centre crop keeps."""


def evaluation_requests(
    instances: Instances, row: Ints, *, clips: int, video: VideoConfig, audio: AudioConfig
) -> list[ClipRequest]:
    """One request per row: evenly spaced clips, the centre crop of the short side / 0.875."""
    low, room = room_for(instances, row, video.duration, audio.duration)
    latest = low + room
    places = [0.5] if clips == 1 else np.linspace(0, 1, clips)
    starts = [low + place * (latest - low) for place in places]
    sounds = [audio_start(instances, row, start, audio.duration) for start in starts]
    boxes = _centre_boxes(instances, row)
    return [
        clip_request(
            instances,
            int(row[b]),
            [picture_request(video, start[b], boxes[b], False) for start in starts],
            [sound_request(audio, start[b], audio.duration) for start in sounds],
        )
        for b in range(len(row))
    ]


def window_starts(length: float, seconds: float, hop: float) -> Floats:
    """Where windows of a stretch begin: every ``hop`` seconds, and the last one at its end.

    Raises:
        ValueError: a length or a hop is not above 0, or has no end.
    """
    if not (0 < seconds < math.inf and 0 < hop < math.inf):
        raise ValueError("window and hop: must be positive seconds")
    room = max(0.0, length - seconds)
    number = np.arange(1 + math.ceil(room / hop - _ROUNDING), dtype=np.float64)
    return np.asarray(np.minimum(number * hop, room))


def window_request(
    instances: Instances,
    row: int,
    starts: Floats,
    *,
    seconds: float,
    video: VideoConfig,
    audio: AudioConfig,
) -> ClipRequest:
    """A centre crop from the middle of each window of an instance, pictures and sound alike.

    Args:
        instances: all of them.
        row: which.
        starts: ``(W,)`` where the windows begin.
        seconds: their length.
        video: what a clip's pictures are.
        audio: what its sound is.
    """
    rows = np.full(len(starts), row)
    low, room = room_for(instances, rows, video.duration, audio.duration)
    middle = starts + seconds / 2
    pictures = np.clip(middle - video.duration / 2, low, low + room)
    sounds = audio_start(instances, rows, middle - audio.duration / 2, audio.duration)
    (box,) = _centre_boxes(instances, np.array([row]))
    return clip_request(
        instances,
        row,
        [picture_request(video, start, box, False) for start in pictures],
        [sound_request(audio, start, audio.duration) for start in sounds],
    )


def _centre_boxes(instances: Instances, row: Ints) -> Floats:
    """``(B, 4)``: squares in the middle, of the short side / 0.875."""
    width, height = instances.width[row], instances.height[row]
    side = EVALUATION_CROP * np.minimum(width, height)
    half = np.stack([side / np.maximum(width, 1), side / np.maximum(height, 1)], 1) / 2
    return np.concatenate([0.5 - half, 0.5 + half], 1)


def video_span(instances: Instances, row: Ints) -> tuple[Floats, Floats]:
    """First and last times ``(B,)`` of the pictures within the instances."""
    low = np.maximum(instances.start[row], instances.video_start[row])
    high = np.minimum(instances.end[row], instances.video_end[row])
    return low, np.maximum(low, high)


def room_for(instances: Instances, row: Ints, video: float, audio: float) -> tuple[Floats, Floats]:
    """First time ``(B,)`` at which a clip can begin, and by how much later it may.

    Its pictures decide; where there are none, its sound.

    Args:
        instances: all of them.
        row: which.
        video: seconds of pictures in a clip.
        audio: seconds of sound.
    """
    seen, heard = video_span(instances, row), audio_span(instances, row)
    has_video = instances.has_video[row]
    low = np.where(has_video, seen[0], heard[0])
    length = np.where(has_video, seen[1] - seen[0] - video, heard[1] - heard[0] - audio)
    return low, np.maximum(0.0, length)


def audio_start(instances: Instances, row: Ints, wanted: Floats, seconds: float) -> Floats:
    """``wanted``, moved as little as needed for the sound to lie within the instance."""
    low, high = audio_span(instances, row)
    return np.clip(wanted, low, np.maximum(low, high - seconds))


def audio_span(instances: Instances, row: Ints) -> tuple[Floats, Floats]:
    """First and last times ``(B,)`` of the sound within the instances."""
    low = np.maximum(instances.start[row], instances.audio_start[row])
    return low, np.minimum(instances.end[row], instances.audio_end[row])


def picture_request(video: VideoConfig, start: float, box: Floats, flip: bool) -> VideoRequest:
    """A clip's pictures from ``start`` on; ``box`` is ``(4,)``, shares of the picture."""
    x0, y0, x1, y1 = (float(edge) for edge in box)
    return VideoRequest(
        start=float(start),
        fps=video.fps,
        frames=video.frames,
        box=(x0, y0, x1, y1),
        size=(video.size, video.size),
        flip=flip,
    )


def sound_request(audio: AudioConfig, start: float, seconds: float) -> AudioRequest:
    """So many seconds of sound from ``start`` on."""
    return AudioRequest(start=float(start), duration=seconds, rate=audio.rate)


def clip_request(
    instances: Instances,
    row: int,
    pictures: Sequence[VideoRequest],
    sounds: Sequence[AudioRequest],
) -> ClipRequest:
    """Pictures and sounds of an instance, without what it has not."""
    seen, heard = instances.has_video[row], instances.has_audio[row]
    return ClipRequest(
        path=instances.path[row],
        video=tuple(pictures) if seen else (),
        audio=tuple(sounds) if heard else (),
        video_stream=int(instances.video_stream[row]) if seen else None,
        audio_stream=int(instances.audio_stream[row]) if heard else None,
    )
