"""The page of an agreement evaluation: precision by criterion, and clips to play."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from earsight.corpus.instances import Instances
from earsight.evaluation.agreement_run import AgreementResult, Alike, Example
from earsight.evaluation.results import write_whole
from earsight.evaluation.rows import PRECISION, Row
from earsight.report.curves import draw
from earsight.report.gallery import Embedder, Medium, clip_caption
from earsight.report.metrics import Panel, Series
from earsight.report.page import SCRIPT, environment, script_hash
from earsight.report.tables import tables_of
from earsight.report.words import say


@dataclass(frozen=True, kw_only=True)
class ShownClip:
    """A clip, what to call it, its player, and how alike it is to the reference."""

    caption: str
    medium: Medium
    alike: Alike | None = None


@dataclass(frozen=True, kw_only=True)
class ShownExample:
    """A reference and the clips beside it, by title."""

    reference: ShownClip
    groups: tuple[tuple[str, tuple[ShownClip, ...]], ...]


def write_agreement(result: AgreementResult, output: Path) -> None:
    """Write the page, complete in itself.

    Raises:
        OSError: it cannot be written; a former file is untouched.
    """
    embedder = Embedder()
    shown = [_shown(result.instances, example, embedder) for example in result.examples]
    evaluation = result.evaluation
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


def _shown(instances: Instances, example: Example, embedder: Embedder) -> ShownExample:
    def clip(row: int, alike: Alike | None = None) -> ShownClip:
        span = (float(instances.start[row]), float(instances.end[row]))
        medium = embedder.embed(Path(instances.path[row]), span)
        return ShownClip(caption=clip_caption(instances, row), medium=medium, alike=alike)

    groups = (
        ("agree in both", example.positives),
        ("rejected: alike in picture alone", example.video_only),
        ("rejected: alike in sound alone", example.audio_only),
    )
    return ShownExample(
        reference=clip(example.reference),
        groups=tuple(
            (title, tuple(clip(a.row, a) for a in some)) for title, some in groups if some
        ),
    )
