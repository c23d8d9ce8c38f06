"""Cutting files into segments: each is an instance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.keys import MICROSECONDS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Instances cut from ``F`` files, file after file.

    Attributes:
        file: ``(R,)`` the file each instance is cut from.
        start: ``(R,)`` seconds from the file's zero.
        end: ``(R,)`` seconds.
        key_start: ``(R,)`` the span that the key is made of, in seconds: zero for whole files,
        key_end: ``(R,)`` and one segment from ``start`` for all others, so that a duration that
            is probed a little differently moves no key.
    """

    file: Ints
    start: Floats
    end: Floats
    key_start: Floats
    key_end: Floats


def cut(durations: Floats, segment: float | None) -> Spans:
    """Cut files longer than two segments; the others stay whole.

    A remainder of half a segment or more is an instance, else it joins the last: instances of a
    cut file last from half a segment to just under one and a half.

    Args:
        durations: ``(F,)`` seconds.
        segment: seconds; None leaves every file whole.
    """
    length = np.round(durations * MICROSECONDS).astype(np.int64)
    step = max(1, round(segment * MICROSECONDS)) if segment is not None else 1
    # Whole microseconds: the rule compares durations with multiples of the segment exactly.
    is_cut = (length > 2 * step) & (segment is not None)
    full, rest = np.divmod(length, step)
    count = np.where(is_cut, full + (2 * rest >= step), 1)
    file = np.repeat(np.arange(len(length)), count)
    first = np.cumsum(count) - count
    number = np.arange(len(file)) - first[file]
    is_last = number == count[file] - 1
    start = number * step
    end = np.where(is_last, length[file], start + step)
    return Spans(
        file=file,
        start=start / MICROSECONDS,
        end=end / MICROSECONDS,
        key_start=start / MICROSECONDS,
        key_end=np.where(is_cut[file], start + step, 0) / MICROSECONDS,
    )
