"""What an index holds, for people and machines."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from earsight.corpus.batch import Failure
from earsight.corpus.discover import Skipped
from earsight.corpus.scan_report import shown, skipped_lines
from earsight.search.gather import COPIES

_FAILURES = 5


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
        passing: how many of them may be read later.
        seconds: this call took.
        part: which part this is, as ``i/n``; empty for all. ``left_out`` is of all all the same.
        kinds: what instances were left out for, and how many for each; empty for parts joined.
        first: path and reason of the first few that were left out and are no copies.
        skipped: files and folders that a scan of the source could not look at.
    """

    folder: str
    files: int
    windows: int
    embeddings: dict[str, int]
    reused: int
    parts: int
    left_out: int
    failures: tuple[Failure, ...]
    passing: int
    seconds: float
    part: str = ""
    kinds: Mapping[str, int] = field(default_factory=dict)
    first: Sequence[Skipped] = ()
    skipped: Sequence[Skipped] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        each = ", ".join(f"{count} {name}" for name, count in self.embeddings.items())
        lines = [f"{self.windows} windows of {self.files} files embedded ({each})"]
        lines += [*self._left_out(), *self._failed()]
        lines += skipped_lines(self.skipped, "could not be looked at")
        lines += [f"{self.reused} of {self.parts} blocks were there already"] * (self.reused > 0)
        if self.part:
            last = f"part {self.part} is in {self.folder}; join all parts by `earsight merge`"
        else:
            last = f"the index is in {self.folder}"
        return "\n".join([*lines, last])

    def _left_out(self) -> Iterator[str]:
        if not self.left_out:
            return
        kinds = ", ".join(f"{name} ({count})" for name, count in self.kinds.items())
        why = kinds or "nothing to embed, or copies of others"
        yield f"{self.left_out} instances left out: {why}"
        yield from (f"  {shown(path)}: {shown(reason)}" for path, reason in self.first)
        more = sum(n for name, n in self.kinds.items() if name != COPIES) - len(self.first)
        if more > 0:
            yield f"  … and {more} more"

    def _failed(self) -> Iterator[str]:
        for one in self.failures[:_FAILURES]:
            yield f"could not be read: {shown(one.path)}: {shown(one.reason)}"
        if len(self.failures) > _FAILURES:
            yield f"… and {len(self.failures) - _FAILURES} more"
        if self.passing:
            yield f"{self.passing} of them may pass: the same `earsight embed` tries them again"
