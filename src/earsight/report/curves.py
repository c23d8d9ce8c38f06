"""Panels as SVG that follows the page: its colours, its font, its width."""

import io
import re
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from earsight.evaluation.rows import LOWER_IS_BETTER, format_value
from earsight.report.metrics import Panel, Series

COLOURS = 6
"""Colours of curves; after the last they begin again."""

# Stand-ins that the drawing carries, each replaced by a colour of the style sheet.
_INK, _GRID = "#010101", "#020202"
_SERIES = tuple(f"#0300{i:02x}" for i in range(COLOURS))
_PAGE_COLOURS = {
    _INK: "var(--muted)",
    _GRID: "var(--line)",
    **{stand_in: f"var(--s{i})" for i, stand_in in enumerate(_SERIES)},
}
_DOTS: Any = (0, (2, 2.5))
_STYLES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (6, 2, 1, 2)))
"""Of lines: those that have the colour of another are broken."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "earsight",
    "font.size": 9.5,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.limits": (-3, 5),
}


@dataclass(frozen=True, kw_only=True)
class LegendEntry:
    """A curve's colour number, name, last value and chance, the latter two as text.

    ``round`` counts how often the colours had begun again before it.
    """

    colour: int
    round: int = 0
    name: str
    last: str
    chance: str | None


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawn panel.

    Attributes:
        title: above it.
        note: what to know of it, or nothing.
        svg: the drawing, without words of its own but the axes'.
        legend: one entry for each curve.
        chance: that of all curves, as text; None where they differ.
    """

    title: str
    note: str
    svg: Markup
    legend: tuple[LegendEntry, ...]
    chance: str | None = None


def draw(panel: Panel, number: int) -> Chart:
    """A panel as a chart; ``number`` keeps its ids apart from those of others on the page."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.2, 2.3), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for index, series in enumerate(panel.series):
            _curve(axes, series, index if series.colour is None else series.colour)
        if panel.chance is not None:
            axes.axhline(panel.chance, color=_INK, linewidth=1.1, linestyle=_DOTS)
        _dress(axes, panel)
        raw = io.StringIO()
        figure.savefig(raw, format="svg", transparent=True)
    notes = []
    if panel.metric in LOWER_IS_BETTER:
        notes.append("lower is better")
    if panel.averaged > 1:
        notes.append(f"each point is the mean of {panel.averaged} readings")
    return Chart(
        title=panel.title,
        note="; ".join(notes),
        svg=_inline(raw.getvalue(), _summary(panel), number),
        legend=tuple(_legend(panel)),
        chance=None if panel.chance is None else format_value(_metric(panel), panel.chance),
    )


def _curve(axes: Axes, series: Series, number: int) -> None:
    colour, few = _SERIES[number % COLOURS], len(series.x) <= 40
    style = _STYLES[number // COLOURS % len(_STYLES)]
    axes.plot(
        series.x,
        series.y,
        color=colour,
        linewidth=1.6,
        linestyle=style,
        marker="o" if few else "",
        ms=3,
    )
    if series.chance is not None:
        axes.axhline(series.chance, color=colour, linewidth=1.1, linestyle=_DOTS)


def _dress(axes: Axes, panel: Panel) -> None:
    axes.set_xlabel(panel.x_label)
    axes.grid(axis="y", color=_GRID, linewidth=0.7)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    if panel.share:
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0))
        highest = max(float(series.y.max()) for series in panel.series)
        axes.set_ylim(0, min(1.0, max(1.08 * highest, 0.05)))
    axes.margins(x=0.02)
    places = {float(x) for series in panel.series for x in series.x}
    if len(places) == 1:
        # A single point would stand in a range of hundredths of a step.
        axes.set_xlim(min(places) - 1, max(places) + 1)


def _metric(panel: Panel) -> str:
    return "accuracy" if panel.share else panel.metric


def _ends(panel: Panel, series: Series) -> tuple[str, str, str | None]:
    """The first value, the last and chance, as text."""
    metric = _metric(panel)
    chance = None if series.chance is None else format_value(metric, series.chance)
    first, last = float(series.y[0]), float(series.y[-1])
    return format_value(metric, first), format_value(metric, last), chance


def _legend(panel: Panel) -> list[LegendEntry]:
    entries = []
    for index, series in enumerate(panel.series):
        _, last, chance = _ends(panel, series)
        number = index if series.colour is None else series.colour
        entries.append(
            LegendEntry(
                colour=number % COLOURS,
                round=number // COLOURS,
                name=series.name,
                last=last,
                chance=chance,
            )
        )
    return entries


def _summary(panel: Panel) -> str:
    """The chart in words, for those who do not see it."""
    parts = []
    for series in panel.series:
        first, last, chance = _ends(panel, series)
        beside = "" if chance is None else f", chance {chance}"
        parts.append(f"{series.name} from {first} to {last}{beside}")
    return f"{panel.title} by {panel.x_label}: {'; '.join(parts)}."


def _inline(svg: str, summary: str, number: int) -> Markup:
    """The drawing as part of a page: no prologue, ids of its own, colours of the style sheet."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="chart{number}-', body)
    body = re.sub(r'href="#', f'href="#chart{number}-', body)
    body = body.replace("url(#", f"url(#chart{number}-")
    for stand_in, colour in _PAGE_COLOURS.items():
        body = body.replace(stand_in, colour)
    body = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
    viewbox = re.search(r'viewBox="[^"]*"', body)
    assert viewbox is not None, "matplotlib writes a viewBox"
    inner = body[body.index(">") + 1 :]
    opening = Markup('<svg {} role="img" aria-label="{}">')
    return opening.format(Markup(viewbox.group()), summary) + Markup(inner)
