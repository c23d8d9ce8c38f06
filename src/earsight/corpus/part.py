"""Parts of work, for the jobs of an array: which of n a file, an archive or a block belongs to.

Files of a scan are parted by the key of their path, archives of shards and blocks of an index by
their numbers. Neither depends on the order of a listing, nor on what other jobs have done.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from earsight.corpus.keys import key_of

_TEXT = re.compile(r"\s*(-?\d+)\s*/\s*(-?\d+)\s*")
_SHOWN = 10


@dataclass(frozen=True, order=True, kw_only=True)
class Part:
    """One of several parts.

    Attributes:
        number: from 0 to ``of - 1``.
        of: how many there are.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if self.of < 1:
            raise ValueError(f"shard: {self} divides into fewer than one part; write 0/1 for all")
        if not 0 <= self.number < self.of:
            raise ValueError(
                f"shard: {self} is no part of {self.of}; they are numbered from 0 on, so the last "
                f"is {self.of - 1}/{self.of}"
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has_file(self, path: str) -> bool:
        """Whether a file of a scan, by its path in the corpus, belongs to the part."""
        return key_of(path) % self.of == self.number

    def has(self, place: int) -> bool:
        """Whether the archive or block of that number belongs to the part."""
        return place % self.of == self.number


def parse_part(text: str | Part | None) -> Part | None:
    """The part of a text ``i/n``, where ``i`` runs from 0 to ``n - 1``; None for None.

    Raises:
        ValueError: it is none.
    """
    if text is None or isinstance(text, Part):
        return text
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(
            f"shard: {text!r} names no part; write i/n, such as 0/8 for the first of 8 parts"
        )
    return Part(number=int(found[1]), of=int(found[2]))


def check_parts(parts: Sequence[Part], command: str) -> int:
    """How many parts there are, where none is missing.

    Parts of an earlier, other division do no harm, as long as one division is complete.

    Args:
        parts: those that are there, in any order, perhaps repeated.
        command: that makes them, for the message.

    Raises:
        ValueError: says which are missing, and of how many.
    """
    there: dict[int, set[int]] = {}
    for part in parts:
        there.setdefault(part.of, set()).add(part.number)
    # The one that is nearest to its end.
    of = max(there, key=lambda one: (len(there[one]) / one, one))
    missing = sorted({*range(of)} - there[of])
    if not missing:
        return of
    names = ", ".join(f"{number}/{of}" for number in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    are = "parts are" if len(missing) > 1 else "part is"
    others = f" (there are parts of {len(there)} divisions)" if len(there) > 1 else ""
    raise ValueError(
        f"{len(missing)} of {of} {are} missing{others}: {names}{more}; run `earsight {command}` "
        f"with --shard {missing[0]}/{of}{' and so on' if len(missing) > 1 else ''}, and give all "
        "parts"
    )
