"""The report: one HTML file of a run, or of several, that needs nothing beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from markupsafe import Markup

from earsight.evaluation.compare import compare, differing_settings
from earsight.evaluation.negatives_tables import Grid
from earsight.files import write_whole
from earsight.report.by_category import category_grids
from earsight.report.curves import Chart, draw
from earsight.report.embedding_map import WIDTH
from earsight.report.gallery import ITEM_BYTES, TOTAL_BYTES, Embedder, Gallery
from earsight.report.look import Look
from earsight.report.metrics import Panel
from earsight.report.page import SCRIPT, environment, script_hash
from earsight.report.part import Part, make_part
from earsight.report.run import RunFacts, headlines, read_run
from earsight.report.side_by_side import (
    Figures,
    beside,
    figures_beside,
    headlines_beside,
    overlay,
    settings_beside,
)
from earsight.version import __version__

_LEFT_TO_DETAILS = (", R@5", ", R@10", ", R@20", ", R@50")
"""Ends of titles of curves that say little beside those of R@1."""


@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """A report that was written.

    Attributes:
        path: the page.
        runs: names of the runs in it.
        bytes: its size.
        clips: clips and previews that it holds to be played.
        left_out: clips that it does not hold, and why.
        notes: what it lacks, by run.
    """

    path: str
    runs: tuple[str, ...]
    bytes: int
    clips: int
    left_out: dict[str, str]
    notes: dict[str, tuple[str, ...]]

    def __str__(self) -> str:
        lines = [f"{self.bytes / 1e6:.1f} MB, with {self.clips} clips to play"]
        lines += [f"{run}: {note}" for run, notes in self.notes.items() for note in notes]
        if self.left_out:
            lines.append(f"{len(self.left_out)} clips are left out; the page says why")
        return "\n".join([*lines, f"open {self.path} in a browser"])


def write_report(
    run: Path,
    output: Path,
    *,
    gallery: Gallery | None = None,
    item_bytes: int = ITEM_BYTES,
    total_bytes: int = TOTAL_BYTES,
) -> WrittenReport:
    """Write the report of one run from what lies in its folder; see :func:`write_reports`."""
    return write_reports(
        [Look(run=run, gallery=gallery)], output, item_bytes=item_bytes, total_bytes=total_bytes
    )


def write_reports(
    looks: Sequence[Look],
    output: Path,
    *,
    media: bool = True,
    item_bytes: int = ITEM_BYTES,
    total_bytes: int = TOTAL_BYTES,
) -> WrittenReport:
    """Write the report of runs; what they lack is said in the page.

    Args:
        looks: runs, with what their encoders make of held-out clips. Of a run folder are read
            ``config.yaml``, ``metrics.jsonl``, ``log.txt`` and ``evaluation/*.json``, as far as
            they are there.
        output: the HTML file, replaced whole.
        media: False to leave all clips out.
        item_bytes: largest clip that is embedded as it is.
        total_bytes: largest sum of what is embedded.

    Raises:
        ValueError: a run is no folder.
        OSError: ``output`` cannot be written; a former file is untouched.
    """
    embedder = Embedder(media=media, item_bytes=item_bytes, total_bytes=total_bytes)
    numbers = count(1)
    names = _names([look.run for look in looks])
    facts = [read_run(look.run) for look in looks]
    parts = [
        make_part(name, one, look, embedder, numbers)
        for name, one, look in zip(names, facts, looks, strict=True)
    ]
    notes = {part.name: [*part.facts.notes, *part.notes] for part in parts}
    text = (
        environment()
        .get_template("report.html.j2")
        .render(
            parts=parts,
            several=len(parts) > 1,
            **_compared(looks, parts, notes),
            **_curves(parts, numbers),
            cards=headlines(parts[0].facts.evaluations) if len(parts) == 1 else [],
            category_grids=_category_grids(parts, notes),
            notes=notes,
            media=media,
            map_width=WIDTH,
            embedder=embedder,
            script=Markup(SCRIPT),
            script_hash=script_hash(),
            version=__version__,
            written=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        )
    )
    write_whole(output, text)
    return WrittenReport(
        path=str(output),
        runs=tuple(names),
        bytes=output.stat().st_size,
        clips=embedder.held,
        left_out={str(path): reason for path, reason in embedder.left_out.items()},
        notes={name: tuple(said) for name, said in notes.items() if said},
    )


def _names(runs: Sequence[Path]) -> list[str]:
    """Folder names, or whole paths where two folders have the same."""
    short = [run.resolve().name for run in runs]
    return short if len(set(short)) == len(short) else [str(run) for run in runs]


def _compared(
    looks: Sequence[Look], parts: Sequence[Part], notes: dict[str, list[str]]
) -> dict[str, Any]:
    """What only a page of several runs has."""
    shown: dict[str, Any] = {
        "figures": Figures(),
        "headlines": None,
        "methods": sorted({part.facts.method for part in parts} - {""}),
        "settings": (),
        "own_settings": (),
        "facts_beside": beside([(*p.facts.data, *p.facts.facts) for p in parts]),
        "seconds_beside": beside([p.facts.seconds for p in parts]),
    }
    if len(parts) < 2:
        return shown
    runs = [look.run for look in looks]
    settings, own_settings = settings_beside(differing_settings(runs))
    shown |= {"settings": settings, "own_settings": own_settings}
    if not any(part.evaluations for part in parts):
        return shown
    try:
        comparison = compare(runs)
    except ValueError as error:
        notes[parts[0].name].append(f"Figures are not put side by side: {error}")
        return shown
    figures = figures_beside(comparison)
    return shown | {"figures": figures, "headlines": headlines_beside(comparison, figures)}


def _curves(parts: Sequence[Part], numbers: Iterator[int]) -> dict[str, list[Chart]]:
    """Charts of the loss, of what was held out, and of everything else."""
    named: list[tuple[str, RunFacts]] = [(part.name, part.facts) for part in parts]
    train = overlay([(name, facts.metrics.train) for name, facts in named])
    held_out = overlay([(name, facts.metrics.evaluation) for name, facts in named])
    shown = [panel for panel in held_out if not _is_detail(panel, len(parts))]
    groups = {
        "loss_charts": train[:1],
        "evaluation_charts": shown,
        "other_charts": [*train[1:], *(panel for panel in held_out if panel not in shown)],
    }
    return {
        name: [draw(panel, next(numbers)) for panel in panels] for name, panels in groups.items()
    }


def _is_detail(panel: Panel, runs: int) -> bool:
    if all(len(series.x) == 1 for series in panel.series):
        return True  # a table says as much
    return runs > 1 and (not panel.share or panel.title.endswith(_LEFT_TO_DETAILS))


def _category_grids(parts: Sequence[Part], notes: dict[str, list[str]]) -> list[Grid]:
    try:
        return category_grids([(part.name, part.facts.evaluations) for part in parts])
    except ValueError as error:
        notes[parts[0].name].append(f"No tables of categories: {error}")
        return []
