"""What preparing a corpus made, for people and machines."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A clip that could not be prepared."""

    key: str
    path: str
    reason: str
    passing: bool = False


@dataclass(frozen=True, kw_only=True)
class PrepareReport:
    """What a folder of shards holds.

    Attributes:
        output: the folder.
        clips: that were prepared.
        hours: of them all.
        shards: how many there are.
        reused: those that an earlier call had made.
        bytes: of the shards.
        source_bytes: of the files, by the share of them that was used.
        left_out: instances that no task can use, and copies of others.
        failed: clips that could not be prepared.
        seconds: this call took.
        part: which part these are, as ``i/n``; empty for all. ``left_out`` is of all all the same.
    """

    output: str
    clips: int
    hours: float
    shards: int
    reused: int
    bytes: int
    source_bytes: int
    left_out: int
    failed: Sequence[Failed]
    seconds: float
    part: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        ratio = self.bytes / max(1, self.source_bytes)
        lines = [
            f"{self.clips} clips ({self.hours:.2f} hours) in {self.shards} shards, "
            f"{self.bytes / 1e6:.1f} MB ({ratio:.2f} times the files), in {self.seconds:.1f} s"
        ]
        if self.reused:
            lines.append(f"{self.reused} shards were there already")
        if self.left_out:
            lines.append(f"{self.left_out} instances left out: of no use, or copies of others")
        if self.failed:
            lines.append(f"{len(self.failed)} clips could not be prepared:")
            lines += [f"  {one.path}: {one.reason}" for one in self.failed[:_SHOWN]]
            lines += [f"  … and {len(self.failed) - _SHOWN} more"] * (len(self.failed) > _SHOWN)
        passing = sum(one.passing for one in self.failed)
        if passing:
            lines.append(f"{passing} of them may pass: the same command tries them again")
        if not self.clips:
            last = "there is no clip to train on"
        elif self.part:
            last = f"it is part {self.part}; join all parts by `earsight merge`"
        else:
            last = f"give --corpus {self.output} to train on them"
        return "\n".join([*lines, last])
