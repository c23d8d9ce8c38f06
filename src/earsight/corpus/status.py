"""What a task may do with an instance: statuses and usable seconds, from the facts alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OK = "ok"
UNREADABLE = "unreadable"
NO_VIDEO = "no-video"
NO_AUDIO = "no-audio"
STILL = "still"
TOO_SHORT = "too-short"
STATUSES = (OK, NO_AUDIO, NO_VIDEO, STILL, TOO_SHORT, UNREADABLE)

FEWEST_FRAMES = 2
_ROUNDING = 1e-3

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Texts = NDArray[np.object_]


@dataclass(frozen=True, kw_only=True)
class Content:
    """What ``R`` instances hold, within their spans.

    Attributes:
        readable: ``(R,)`` bool, the file can be read.
        has_video: ``(R,)`` bool, there is a picture within the span.
        has_audio: ``(R,)`` bool, there is sound within the span.
        video: ``(R,)`` seconds of picture.
        audio: ``(R,)`` seconds of sound.
        both: ``(R,)`` seconds of picture and sound at once.
        frames: ``(R,)`` frames, estimated from the rate where the file is cut.
    """

    readable: Bools
    has_video: Bools
    has_audio: Bools
    video: Floats
    audio: Floats
    both: Floats
    frames: Floats


def content_of(columns: dict[str, NDArray[np.generic]]) -> Content:
    """What instances hold, from the manifest's columns of spans and streams.

    Args:
        columns: ``readable``, ``start``, ``end`` and the facts of the streams, each ``(R,)``.
    """
    start, end = (np.asarray(columns[name], np.float64) for name in ("start", "end"))

    def within(kind: str) -> tuple[Floats, Floats, Bools]:
        low = np.asarray(columns[f"{kind}_start"], np.float64)
        length = np.asarray(columns[f"{kind}_duration"], np.float64)
        first, last = np.maximum(start, low), np.minimum(end, low + length)
        # A single frame may last no time at all; it is there all the same.
        there = (last > first) | ((length == 0) & (last == first))
        return first, last, there & (columns[f"{kind}_stream"] >= np.int64(0))

    (v0, v1, has_video), (a0, a1, has_audio) = within("video"), within("audio")
    both = np.where(has_video & has_audio, np.minimum(v1, a1) - np.maximum(v0, a0), 0.0)
    video = np.where(has_video, v1 - v0, 0.0)
    frames = np.asarray(columns["video_frames"], np.float64)
    share = np.round(video * np.asarray(columns["video_fps"], np.float64))
    # A span that holds the whole stream has all of its frames, whatever the average rate says.
    partial = video < np.asarray(columns["video_duration"], np.float64) - _ROUNDING
    return Content(
        readable=np.asarray(columns["readable"], np.bool_),
        has_video=has_video,
        has_audio=has_audio,
        video=video,
        audio=np.where(has_audio, a1 - a0, 0.0),
        both=np.maximum(0.0, both),
        frames=np.where(partial, np.minimum(share, frames), frames),
    )


def first_fault(
    content: Content, min_duration: float, *, picture: bool = True, sound: bool = True
) -> Texts:
    """The first status that applies to each instance; ``ok`` where it has all that is asked for.

    ``too-short`` is measured where picture and sound overlap, for that is where clips are cut.

    Args:
        content: what the instances hold.
        min_duration: seconds.
        picture: whether pictures are asked for.
        sound: whether sound is asked for.
    """
    seconds = content.both if picture and sound else content.video if picture else content.audio
    faults: list[tuple[bool, Bools, str]] = [
        (True, ~content.readable, UNREADABLE),
        (picture, ~content.has_video, NO_VIDEO),
        (sound, ~content.has_audio, NO_AUDIO),
        (picture, content.frames < FEWEST_FRAMES, STILL),
        (True, seconds < min_duration - _ROUNDING, TOO_SHORT),
    ]
    status = np.full(content.video.shape, OK, dtype=object)
    for asked, applies, name in faults:
        if asked:
            status[applies & (status == OK)] = name
    return status


def reasons(status: Texts, error: Texts, min_duration: float) -> Texts:
    """A sentence per instance that says why it is not ``ok``; empty where it is.

    Args:
        status: ``(R,)``.
        error: ``(R,)`` why the file cannot be read, where it cannot.
        min_duration: seconds.
    """
    sentences = {
        OK: "",
        NO_VIDEO: "has no picture",
        NO_AUDIO: "has no sound",
        STILL: "shows a single picture",
        TOO_SHORT: f"has less than {min_duration:g} s of picture and sound together",
    }
    reason = np.array([sentences.get(name, "") for name in status], dtype=object)
    return np.where(status == UNREADABLE, error, reason)
