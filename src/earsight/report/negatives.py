"""The page of an evaluation of negatives: unique categories by rule, tables, clips to play."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from earsight.evaluation.negatives import Direction, Unique
from earsight.evaluation.negatives_tables import grids_of, rule_names
from earsight.evaluation.results import Evaluation
from earsight.files import write_whole
from earsight.report.curves import draw
from earsight.report.examples import play_examples
from earsight.report.gallery import Embedder
from earsight.report.metrics import Panel, Series
from earsight.report.page import SCRIPT, environment, script_hash
from earsight.report.words import say


def write_negatives(evaluation: Evaluation, output: Path) -> None:
    """Write the page, complete in itself.

    Raises:
        OSError: it cannot be written; a former file is untouched.
    """
    embedder = Embedder()
    shown = play_examples(evaluation, embedder)
    charts = [draw(panel, at) for at, panel in enumerate(panels(evaluation), 1)]
    text = (
        environment()
        .get_template("negatives.html.j2")
        .render(
            evaluation=evaluation,
            charts=charts,
            grids=grids_of(evaluation),
            examples=shown,
            left_out=embedder.left_out,
            script=Markup(SCRIPT),
            script_hash=script_hash(),
        )
    )
    write_whole(output, text)


def panels(evaluation: Evaluation) -> list[Panel]:
    """Per label and direction, unique categories over ``M``, and over steps of the largest.

    Where there is but one ``M``, steps are enough.
    """
    unique = [_unique(**one) for one in evaluation.details["unique"]]
    if not unique:
        return []
    last, most = unique[-1].step, max(one.size for one in unique)
    steps, sizes = (len({getattr(one, by) for one in unique}) > 1 for by in ("step", "size"))
    found = []
    for label, direction in dict.fromkeys((one.label, one.direction) for one in unique):
        own = [one for one in unique if (one.label, one.direction) == (label, direction)]
        about = f"{label} ({own[0].categories}), {say(str(direction))}"
        if sizes or not steps:
            over_sizes = {one: one.size for one in own if one.step == last}
            found.append(_panel(about, "M", over_sizes))
        if steps:
            over_steps = {one: one.step for one in own if one.size == most}
            found.append(_panel(f"{about}, M = {most}", "step", over_steps))
    return found


def _unique(query: str, key: str, **of: Any) -> Unique:
    """What :func:`earsight.evaluation.negatives_rows.plain` made plain."""
    return Unique(direction=Direction(query, key), **of)


def _panel(title: str, x_label: str, points: Mapping[Unique, int]) -> Panel:
    return Panel(
        title=f"Unique categories: {title}",
        metric="unique",
        x_label=x_label,
        share=False,
        series=tuple(
            Series(
                name=name,
                x=np.array([float(x) for one, x in points.items() if one.rule == rule]),
                y=np.array([one.value for one in points if one.rule == rule]),
            )
            for rule, name in rule_names(one.rule for one in points).items()
        ),
    )
