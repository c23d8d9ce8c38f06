"""The report: one HTML file of a run that needs nothing beside it, and no network."""

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from markupsafe import Markup

from earsight.evaluation.results import write_whole
from earsight.report.curves import draw
from earsight.report.gallery import (
    ITEM_BYTES,
    TOTAL_BYTES,
    Embedder,
    Gallery,
    ShownQuery,
    show,
)
from earsight.report.page import SCRIPT, environment, script_hash
from earsight.report.run import headlines, read_run
from earsight.report.tables import tables_of
from earsight.version import __version__


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
    page = environment().get_template("report.html.j2")
    text = page.render(
        facts=facts,
        cards=headlines(facts.evaluations),
        loss_charts=charts[held_out : held_out + 1],
        evaluation_charts=charts[:held_out],
        other_charts=charts[held_out + 1 :],
        evaluations=[(e, tables_of(e)) for e in reversed(facts.evaluations)],
        directions=_by_direction(shown),
        gallery_size=0 if gallery is None else gallery.size,
        left_out=embedder.left_out,
        repeated=any(_repeats(query) for query in shown),
        script=Markup(SCRIPT),
        script_hash=script_hash(),
        version=__version__,
        written=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
    )
    write_whole(output, text)


def _by_direction(shown: Iterable[ShownQuery]) -> list[tuple[str, list[ShownQuery]]]:
    ordered = sorted(shown, key=lambda item: item.query.direction, reverse=True)
    return [(d, list(items)) for d, items in groupby(ordered, lambda item: item.query.direction)]


def _repeats(shown: ShownQuery) -> bool:
    media = [shown.medium, *(item.medium for item in shown.neighbours)]
    return any(medium.same_as is not None for medium in media)
