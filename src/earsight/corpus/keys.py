"""Keys: 64-bit names of instances, the same wherever and in whatever order one scans."""

import unicodedata
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import PurePosixPath

MICROSECONDS = 1_000_000

WHOLE = (0.0, 0.0)
"""The span that stands for a whole file, whatever duration was probed."""


def normal_path(path: str) -> str:
    """A relative path as keys and labels see it: posix, composed Unicode (NFC), no ``./``."""
    return unicodedata.normalize("NFC", str(PurePosixPath(path)))


def key_of(path: str, start: float = WHOLE[0], end: float = WHOLE[1]) -> int:
    """The key of a span of a file.

    Args:
        path: relative to the named root of its source.
        start: seconds; whole files leave both times out.
        end: seconds.

    Returns:
        An unsigned 64-bit integer: BLAKE2b of the normal path and the span in microseconds.
    """
    return keys_of(path, [(start, end)])[0]


def keys_of(path: str, spans: Iterable[tuple[float, float]]) -> list[int]:
    """The keys of several spans, in seconds, of one file."""
    base = blake2b(_posix(path), digest_size=8)
    keys = []
    for start, end in spans:
        one = base.copy()
        one.update(_microseconds(start) + _microseconds(end))
        keys.append(int.from_bytes(one.digest(), "big"))
    return keys


def key_text(key: int) -> str:
    """A key as 16 hexadecimal digits."""
    return f"{int(key):016x}"


def parse_keys(texts: Sequence[str]) -> list[int]:
    """Keys from their text form.

    Raises:
        ValueError: names the first text that is not 16 hexadecimal digits.
    """
    keys = []
    for text in texts:
        digits = text.strip().lower()
        if len(digits) != 16 or not set(digits) <= set("0123456789abcdef"):
            raise ValueError(f"{text!r} is no key; keys are 16 hexadecimal digits")
        keys.append(int(digits, 16))
    return keys


def _posix(path: str) -> bytes:
    # The zero byte cannot occur in a path, so path and span cannot run into one another.
    return normal_path(path).encode() + b"\0"


def _microseconds(seconds: float) -> bytes:
    return round(seconds * MICROSECONDS).to_bytes(8, "big", signed=True)
