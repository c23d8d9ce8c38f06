"""All benchmarks one after the other, each in a process of its own: one JSON, one table.

The benchmarks lie in the project's repository, in ``benchmarks/``: they measure beside references
that an installation has no use for. What a user wants to know of a machine, ``earsight doctor``
tells.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from earsight.version import __version__

SCHEMA = 1
"""Version of the JSON."""

FOLDER = Path("benchmarks")
"""Where they are looked for: in the checkout that one stands in."""

MEMORY = 8 * 2**30
"""Bytes of memory that the full sizes need."""

CORES = 2
"""Cores that they are made for."""

Size = Literal["full", "quick"]
Show = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a benchmark.

    Attributes:
        name: its file's, without ending.
        seconds: on the clock.
        report: what it wrote; None where it did not. Where the machine lacks what it measures,
            ``left_out`` says so.
        reason: why it wrote nothing: its last line.
    """

    name: str
    seconds: float
    report: Mapping[str, Any] | None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Benchmarks:
    """What became of all.

    Attributes:
        size: ``quick`` figures show that a benchmark works, and nothing else.
        why: why that size.
        outcomes: in the order in which they ran.
    """

    size: Size
    why: str
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> list[str]:
        """Benchmarks that wrote nothing."""
        return [one.name for one in self.outcomes if one.report is None]

    @property
    def missed(self) -> list[str]:
        """``benchmark: figure`` of each target that is not met; at quick sizes none counts."""
        if self.size == "quick":
            return []
        return [
            f"{one.name}: {target['name']}"
            for one in self.outcomes
            if one.report is not None
            for target in one.report["targets"]
            if not target["met"]
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"schema": SCHEMA, "earsight": __version__, **asdict(self)}

    def __str__(self) -> str:
        head = ("benchmark", "figure", "measured", "target", "met")
        rows = [head, *(row for one in self.outcomes for row in _rows(one, self.size))]
        widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([f"{self.size} sizes: {self.why}", "", *(x.rstrip() for x in lines)])


def _rows(outcome: Outcome, size: Size) -> list[tuple[str, ...]]:
    if outcome.report is None:
        return [(outcome.name, "not measured", outcome.reason, "", "")]
    if "left_out" in outcome.report:
        return [(outcome.name, "left out", outcome.report["left_out"], "", "")]
    rows: list[tuple[str, ...]] = []
    for target in outcome.report["targets"]:
        least, most, unit = target["least"], target["most"], target["unit"]
        wanted = f"at least {least:g}" if least is not None else f"at most {most:g}"
        met = "–" if size == "quick" else "yes" if target["met"] else "NO"
        measured = f"{target['measured']:.3g}{unit}"
        rows.append((outcome.name, target["name"], measured, f"{wanted}{unit}", met))
    return rows


def bench(
    names: Sequence[str] = (),
    *,
    folder: Path = FOLDER,
    quick: bool = False,
    minutes: float | None = None,
    show: Show | None = None,
) -> Benchmarks:
    """Run benchmarks.

    Args:
        names: of those to run; none for all.
        folder: where they lie.
        quick: small sizes, to see that they work; taken unasked where the machine is too small
            for the full ones.
        minutes: after which no other is begun, and the one that runs is ended; None for no limit.
        show: told how many are done, of how many, and which runs.

    Raises:
        ValueError: there are none, or not those that are named.
    """
    known = find(folder)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    size, why = _size(quick)
    until = None if minutes is None else time.monotonic() + 60 * minutes
    outcomes = []
    chosen = list(names) or known
    for number, name in enumerate(chosen):
        if show is not None:
            show(number, len(chosen), name)
        outcomes.append(_run(folder / f"{name}.py", size, until))
    return Benchmarks(size=size, why=why, outcomes=tuple(outcomes))


def find(folder: Path) -> list[str]:
    """Names of the benchmarks in a folder: of its scripts that can be run.

    Raises:
        ValueError: there are none.
    """
    scripts = sorted(folder.glob("*.py")) if folder.is_dir() else []
    names = [one.stem for one in scripts if "__main__" in one.read_text(encoding="utf-8")]
    if not names:
        raise ValueError(
            f"{folder}: has no benchmarks; they lie in the project's repository: clone it and call "
            "this there, or give --folder. For this machine's speed, see `earsight doctor`"
        )
    return names


def _size(quick: bool) -> tuple[Size, str]:
    """Which size, and why."""
    if quick:
        return "quick", "as asked; they show that the benchmarks work, not how fast anything is"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if (cores or 1) < CORES:
        return "quick", f"the full ones need {CORES} cores"
    if hasattr(os, "sysconf") and os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") < MEMORY:
        return "quick", f"the full ones need {MEMORY / 2**30:.0f} GiB of memory"
    return "full", "the machine has the cores and the memory"


def _run(script: Path, size: Size, until: float | None) -> Outcome:
    """One benchmark, in a process of its own."""
    began = time.monotonic()
    left = None if until is None else until - began
    if left is not None and left <= 0:
        return Outcome(name=script.stem, seconds=0.0, report=None, reason="no time was left")
    with tempfile.TemporaryDirectory() as place:
        written = Path(place) / "report.json"
        command = [sys.executable, str(script), "--json", str(written)]
        try:
            done = subprocess.run(
                [*command, *(["--quick"] if size == "quick" else [])],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=left,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _without(script, began, "ended: the time was over")
        if done.returncode in {0, 1} and written.exists():
            report = json.loads(written.read_text(encoding="utf-8"))
            seconds = time.monotonic() - began
            return Outcome(name=script.stem, seconds=seconds, report=report)
    said = [line for line in done.stdout.splitlines() if line.strip()]
    return _without(script, began, said[-1].strip() if said else f"exit code {done.returncode}")


def _without(script: Path, began: float, reason: str) -> Outcome:
    return Outcome(name=script.stem, seconds=time.monotonic() - began, report=None, reason=reason)
