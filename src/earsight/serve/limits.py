"""What an upload may cost, and how one that costs more is refused."""

from collections.abc import Mapping
from dataclasses import dataclass


class RefusedError(ValueError):
    """A request that is not answered; ``status`` is that of HTTP, the message is for people."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.headers = dict(headers or {})
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class UploadLimits:
    """What an upload may cost before it is refused.

    Attributes:
        size: bytes of the file.
        seconds: wall-clock time in which it must have arrived.
        at_once: uploads that are taken at a time; others are told to come again.
        duration: seconds that it may play.
        pixels: width × height of its pictures.
        decode_seconds: wall-clock time of its decoding.
        decode_cpu: seconds of computing of its decoding.
        decode_memory: bytes of address space of its decoding.
    """

    size: int = 256 * 2**20
    seconds: float = 60.0
    at_once: int = 2
    duration: float = 600.0
    pixels: int = 8192 * 4320
    decode_seconds: float = 60.0
    decode_cpu: int = 60
    decode_memory: int = 3 * 2**30
