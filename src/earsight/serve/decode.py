"""Decodes the file on its standard input, within limits that it sets itself before it looks.

The server starts this as a process of its own for each upload: ``python -m earsight.serve.decode
PLAN``. What comes out is a line of JSON for each batch of windows, then their bytes; a last line
says that this was all, or why the file is refused. Nothing but standard output can be written.
"""

import json
import resource
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.instances import Instances
from earsight.corpus.loose import loose_instances
from earsight.corpus.requests import window_request, window_starts
from earsight.media.decode import decode
from earsight.media.types import Clip, ClipRequest, Limits, MediaError
from earsight.serve.limits import UploadLimits
from earsight.serve.plan import BATCH, Plan, read_plan

FILE = "/dev/fd/0"
"""The upload has no name: it is on standard input, a regular file that can be sought in."""

_HANDLES = 64
Piece = tuple[dict[str, Any], list[NDArray[Any]]]


def restrict(limits: UploadLimits) -> None:
    """Give up, for good, what decoding needs no more of."""
    wanted = {
        resource.RLIMIT_AS: limits.decode_memory,
        resource.RLIMIT_CPU: limits.decode_cpu,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: _HANDLES,
        resource.RLIMIT_CORE: 0,
    }
    for what, most in wanted.items():
        _, hard = resource.getrlimit(what)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))


def pieces(plan: Plan) -> Iterator[Piece]:
    """Batches of windows: what is said of each, and its arrays.

    Raises:
        MediaError: the file cannot be read.
    """
    limits = Limits(
        pixels=plan.limits.pixels,
        duration=plan.limits.duration,
        seconds=plan.limits.decode_seconds,
    )
    instances = loose_instances([FILE], limits)
    there = {"video": bool(instances.has_video[0]), "audio": bool(instances.has_audio[0])}
    names = [name for name in plan.modalities if there[name]]
    if not names:
        raise MediaError(f"has no {' and no '.join(plan.modalities)}, which these encoders take")
    end = float(instances.end[0])
    starts = window_starts(end, plan.seconds, plan.seconds)
    for first in range(0, len(starts), BATCH):
        some = starts[first : first + BATCH]
        clip = decode(_request(instances, some, plan, names), limits)
        arrays = [_stacked(clip, name) for name in names]
        ends = np.minimum(some + plan.seconds, end).tolist()
        yield {"start": some.tolist(), "stop": ends, "modalities": names}, arrays


def _request(
    instances: Instances, starts: NDArray[np.float64], plan: Plan, names: list[str]
) -> ClipRequest:
    asked = window_request(
        instances, 0, starts, seconds=plan.seconds, video=plan.video, audio=plan.audio
    )
    return ClipRequest(
        path=asked.path,
        video=asked.video if "video" in names else (),
        audio=asked.audio if "audio" in names else (),
        video_stream=asked.video_stream,
        audio_stream=asked.audio_stream,
    )


def _stacked(clip: Clip, name: str) -> NDArray[Any]:
    return np.stack(clip.video) if name == "video" else np.stack(clip.audio)


def main(text: str) -> None:
    """Decode, and say how it went."""
    plan = read_plan(text)
    restrict(plan.limits)
    out = sys.stdout.buffer

    def say(line: dict[str, Any]) -> None:
        out.write(json.dumps(line).encode() + b"\n")

    try:
        for line, arrays in pieces(plan):
            say(line)
            for array in arrays:
                out.write(np.ascontiguousarray(array).data)
            out.flush()
        say({"end": True})
    except MediaError as error:
        say({"refused": str(error).removeprefix(f"{FILE} ")})
    except MemoryError:
        say({"refused": "needs more memory to be decoded than it may take"})
    out.flush()


if __name__ == "__main__":
    main(sys.argv[1])
