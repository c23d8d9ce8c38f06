"""The page of an evaluation of negatives: unique categories by rule, tables, clips to play."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from earsight.corpus.instances import Instances
from earsight.evaluation.negatives import Direction, Norms, Unique
from earsight.evaluation.negatives_run import NegativesResult
from earsight.evaluation.negatives_tables import RULE_NAMES, grids_of
from earsight.evaluation.results import write_whole
from earsight.report.curves import draw
from earsight.report.gallery import Embedder, Medium, clip_caption
from earsight.report.metrics import Panel, Series
from earsight.report.page import SCRIPT, environment, script_hash
from earsight.report.words import say

_CLIPS = 8
"""Clips shown of each kind."""


@dataclass(frozen=True, kw_only=True)
class ShownNegative:
    """A negative, what to call it, its player, and the norm of its gradient."""

    caption: str
    medium: Medium
    norm: float


@dataclass(frozen=True, kw_only=True)
class ShownDirection:
    """The negatives of a dictionary, by title.

    Attributes:
        title: from queries to keys.
        muted: whether the keys are pictures alone.
        groups: negatives chosen by their gradients, and random ones.
    """

    title: str
    muted: bool
    groups: tuple[tuple[str, tuple[ShownNegative, ...]], ...]


def write_negatives(result: NegativesResult, output: Path) -> None:
    """Write the page, complete in itself.

    Raises:
        OSError: it cannot be written; a former file is untouched.
    """
    embedder = Embedder()
    shown = [
        _shown(result.instances, direction, norms, embedder)
        for direction, norms in result.figures.norms.items()
    ]
    charts = [draw(panel, at) for at, panel in enumerate(panels(result.figures.unique), 1)]
    text = (
        environment()
        .get_template("negatives.html.j2")
        .render(
            evaluation=result.evaluation,
            charts=charts,
            grids=grids_of(result.evaluation),
            directions=shown,
            left_out=embedder.left_out,
            script=Markup(SCRIPT),
            script_hash=script_hash(),
        )
    )
    write_whole(output, text)


def panels(unique: Sequence[Unique]) -> list[Panel]:
    """Per label and direction, unique categories over ``M``, and over steps of the largest.

    Where there is but one ``M``, steps are enough.
    """
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
            for rule, name in RULE_NAMES.items()
        ),
    )


def _shown(
    instances: Instances, direction: Direction, norms: Norms, embedder: Embedder
) -> ShownDirection:
    def clip(row: int, norm: float) -> ShownNegative:
        span = (float(instances.start[row]), float(instances.end[row]))
        medium = embedder.embed(Path(instances.path[row]), span)
        return ShownNegative(caption=clip_caption(instances, row), medium=medium, norm=norm)

    kinds = (("chosen by gradient, highest norms", norms.best), ("random", norms.others))
    return ShownDirection(
        title=say(str(direction)),
        muted=direction.key == "video",
        groups=tuple((title, tuple(clip(*one) for one in some[:_CLIPS])) for title, some in kinds),
    )
