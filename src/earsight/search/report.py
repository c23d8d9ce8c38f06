"""What an index holds, for people and machines."""

from dataclasses import asdict, dataclass
from typing import Any

from earsight.corpus.batch import Failure


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """What an index holds.

    Attributes:
        folder: of the index.
        files: that have windows.
        windows: in all.
        embeddings: name to how many windows have it.
        reused: blocks of instances that an earlier call had made.
        parts: blocks in all.
        left_out: instances that hold nothing the run can embed, and copies of others.
        failures: instances that could not be read.
        seconds: this call took.
        part: which part this is, as ``i/n``; empty for all. ``left_out`` is of all all the same.
    """

    folder: str
    files: int
    windows: int
    embeddings: dict[str, int]
    reused: int
    parts: int
    left_out: int
    failures: tuple[Failure, ...]
    seconds: float
    part: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        each = ", ".join(f"{count} {name}" for name, count in self.embeddings.items())
        lines = [f"{self.windows} windows of {self.files} files embedded ({each})"]
        lines += [f"{self.left_out} instances left out: nothing to embed, or copies of others"] * (
            self.left_out > 0
        )
        lines += [f"could not be read: {one.path}: {one.reason}" for one in self.failures[:5]]
        lines += [f"… and {len(self.failures) - 5} more"] * (len(self.failures) > 5)
        lines += [f"{self.reused} of {self.parts} blocks were there already"] * (self.reused > 0)
        if self.part:
            last = f"part {self.part} is in {self.folder}; join all parts by `earsight merge`"
        else:
            last = f"the index is in {self.folder}"
        return "\n".join([*lines, last])
