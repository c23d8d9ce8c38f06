"""The report: one HTML file of a run that needs nothing beside it, and no network."""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from earsight.evaluation.results import Evaluation, write_whole
from earsight.evaluation.rows import LOWER_IS_BETTER, Row, format_value, is_block, is_share
from earsight.report.curves import draw
from earsight.report.gallery import (
    ITEM_BYTES,
    TOTAL_BYTES,
    Embedder,
    Gallery,
    ShownQuery,
    show,
)
from earsight.report.run import headlines, read_run
from earsight.report.words import say
from earsight.version import __version__

_SCRIPT = """
document.querySelectorAll("[data-same-as]").forEach(function (player) {
  var first = document.getElementById(player.dataset.sameAs);
  player.src = first.src.split("#")[0] + player.dataset.fragment;
});
document.addEventListener("play", function (event) {
  document.querySelectorAll("video, audio").forEach(function (player) {
    if (player !== event.target) { player.pause(); }
  });
}, true);
"""
"""A clip shown twice is held once; one clip plays at a time."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of one evaluation that belong together.

    Attributes:
        title: the task, and whatever is the same in all rows and has no column therefore.
        rows: one line each.
        columns: of ``of``, ``label``, ``block`` and ``metric`` those that are needed.
    """

    title: str
    rows: tuple[Row, ...]
    columns: frozenset[str]


def write_report(
    run: Path,
    output: Path,
    *,
    gallery: Gallery | None = None,
    item_bytes: int = ITEM_BYTES,
    total_bytes: int = TOTAL_BYTES,
) -> None:
    """Write the report of a run; what the run lacks is said in the page.

    Args:
        run: the run folder: ``config.yaml``, ``metrics.jsonl``, ``log.txt`` and
            ``evaluation/*.json``, as far as they are there.
        output: the HTML file, replaced whole.
        gallery: clips with their nearest across modalities; None for no gallery.
        item_bytes: largest clip that is embedded.
        total_bytes: largest sum of the clips that are embedded.

    Raises:
        ValueError: ``run`` is no folder.
        OSError: ``output`` cannot be written; a former file is untouched.
    """
    facts = read_run(run)
    embedder = Embedder(item_bytes=item_bytes, total_bytes=total_bytes)
    shown = () if gallery is None else tuple(show(gallery, embedder))
    panels = [*facts.metrics.evaluation, *facts.metrics.train]
    charts = [draw(panel, number) for number, panel in enumerate(panels, 1)]
    held_out = len(facts.metrics.evaluation)
    page = _environment().get_template("report.html.j2")
    text = page.render(
        facts=facts,
        cards=headlines(facts.evaluations),
        loss_charts=charts[held_out : held_out + 1],
        evaluation_charts=charts[:held_out],
        other_charts=charts[held_out + 1 :],
        evaluations=[(e, _tables(e)) for e in reversed(facts.evaluations)],
        directions=_by_direction(shown),
        gallery_size=0 if gallery is None else gallery.size,
        left_out=embedder.left_out,
        repeated=any(_repeats(query) for query in shown),
        script=Markup(_SCRIPT),
        script_hash=_script_hash(),
        version=__version__,
        written=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
    )
    write_whole(output, text)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("earsight.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["say"] = say
    environment.globals.update(
        format_value=format_value, is_share=is_share, lower_is_better=LOWER_IS_BETTER
    )
    return environment


def _script_hash() -> str:
    """The digest by which the page's policy admits its own script and no other."""
    return base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode("ascii")


def _tables(evaluation: Evaluation) -> list[Table]:
    """A table for each task, and for each direction of retrieval, in the order they appear."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in evaluation.rows:
        one = row.modality if row.task == "retrieve" else ""
        groups.setdefault((row.task, one), []).append(row)
    return [_table(task, one, tuple(rows)) for (task, one), rows in groups.items()]


def _table(task: str, one: str, rows: tuple[Row, ...]) -> Table:
    metrics = {row.metric for row in rows}
    same = [one, *(metrics if len(metrics) == 1 else ())]
    needed = {
        "of": not one,
        "label": any(row.label for row in rows),
        "block": any(is_block(row) for row in rows),
        "metric": len(metrics) > 1,
    }
    return Table(
        title=", ".join(say(word) for word in (task, *same) if word),
        rows=rows,
        columns=frozenset(name for name, wanted in needed.items() if wanted),
    )


def _by_direction(shown: Iterable[ShownQuery]) -> list[tuple[str, list[ShownQuery]]]:
    ordered = sorted(shown, key=lambda item: item.query.direction, reverse=True)
    return [(d, list(items)) for d, items in groupby(ordered, lambda item: item.query.direction)]


def _repeats(shown: ShownQuery) -> bool:
    media = [shown.medium, *(item.medium for item in shown.neighbours)]
    return any(medium.same_as is not None for medium in media)
