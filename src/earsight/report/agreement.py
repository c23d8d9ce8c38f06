"""The page of an agreement evaluation: precision by criterion, and clips to play."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from earsight.evaluation.results import Evaluation
from earsight.evaluation.rows import PRECISION, Row
from earsight.files import write_whole
from earsight.report.curves import draw
from earsight.report.examples import play_examples
from earsight.report.gallery import Embedder
from earsight.report.metrics import Panel, Series
from earsight.report.page import SCRIPT, environment, script_hash
from earsight.report.tables import tables_of
from earsight.report.words import say


def write_agreement(evaluation: Evaluation, output: Path) -> None:
    """Write the page, complete in itself.

    Raises:
        OSError: it cannot be written; a former file is untouched.
    """
    embedder = Embedder()
    shown = play_examples(evaluation, embedder)
    text = (
        environment()
        .get_template("agreement.html.j2")
        .render(
            evaluation=evaluation,
            charts=[draw(panel, number) for number, panel in enumerate(panels(evaluation.rows), 1)],
            tables=tables_of(evaluation),
            examples=shown,
            left_out=embedder.left_out,
            script=Markup(SCRIPT),
            script_hash=script_hash(),
        )
    )
    write_whole(output, text)


def panels(rows: Sequence[Row]) -> list[Panel]:
    """Per label, precision by number of positives: a curve for each criterion."""
    chosen = [row for row in rows if row.metric.startswith(PRECISION)]
    return [
        Panel(
            title=f"Precision of positives: {label}",
            metric="accuracy",
            x_label="positives",
            share=True,
            series=tuple(_curves([row for row in chosen if row.label == label])),
        )
        for label in dict.fromkeys(row.label for row in chosen)
    ]


def _curves(rows: Sequence[Row]) -> list[Series]:
    curves = []
    for name in dict.fromkeys(row.modality for row in rows):
        own = [row for row in rows if row.modality == name]
        curves.append(
            Series(
                name=say(name),
                x=np.array([float(row.metric.removeprefix(PRECISION)) for row in own]),
                y=np.array([row.value for row in own]),
                chance=own[0].chance,
            )
        )
    return curves
