"""A study's figures as a plot."""

from collections.abc import Sequence
from io import StringIO

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from earsight.evaluation.rows import is_share
from earsight.studies.summary import Figure, Summary

_COLUMNS = 2
_SEED, _MEAN, _CHANCE = "#9aa5b1", "#1f5fa8", "#b04a3a"


def plot(summary: Summary) -> str:
    """An SVG with one panel per figure: every seed, the mean, its 95 % interval, and chance."""
    names = list(dict.fromkeys(figure.report for figure in summary.figures))
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    height = rows * (0.9 + 0.28 * len(summary.arms))
    with mpl.rc_context({"svg.hashsalt": summary.name, "font.size": 9}):
        canvas = Canvas(figsize=(4.5 * columns, height))
        panels = canvas.subplots(rows, columns, squeeze=False).ravel()
        for panel, name in zip(panels, names, strict=False):
            _panel(panel, name, [f for f in summary.figures if f.report == name])
        for panel in panels[len(names) :]:
            panel.set_visible(False)
        canvas.tight_layout()
        text = StringIO()
        canvas.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _panel(panel: Axes, name: str, figures: Sequence[Figure]) -> None:
    scale = 100 if is_share(figures[0].metric) else 1
    for at, figure in enumerate(figures):
        found = figure.estimate
        panel.plot(
            [scale * x for x in figure.values], [at] * found.n, "o", ms=3, color=_SEED, zorder=3
        )
        if found.low is not None and found.high is not None:
            panel.plot([scale * found.low, scale * found.high], [at, at], color=_MEAN, lw=2)
        panel.plot([scale * found.mean], [at], "D", ms=5, color=_MEAN)
    chances = [figure.chance for figure in figures]
    known = [chance for chance in chances if chance is not None]
    if len(known) == len(chances) and len({f"{chance:.3f}" for chance in known}) == 1:
        panel.axvline(scale * known[0], color=_CHANCE, lw=1, ls="--")
    else:
        marks = [(scale * x, at) for at, x in enumerate(chances) if x is not None]
        panel.plot([x for x, _ in marks], [at for _, at in marks], "|", ms=9, color=_CHANCE)
    panel.set_yticks(range(len(figures)), [figure.arm for figure in figures])
    panel.set_ylim(len(figures) - 0.5, -0.5)
    panel.set_title(f"{name} (%)" if scale == 100 else name, fontsize=9)
