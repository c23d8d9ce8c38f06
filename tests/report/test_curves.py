"""Charts: inline, without scripts, styles or ids that could meet others on the page."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from earsight.report.curves import COLOURS, Chart, draw
from earsight.report.metrics import Panel, Series


def panel(*series: Series, share: bool = False, metric: str = "loss") -> Panel:
    return Panel(title="a <b> & c", metric=metric, x_label="step", share=share, series=series)


def curve(name: str, *values: float, chance: float | None = None) -> Series:
    y = np.array(values, dtype=np.float64)
    return Series(name=name, x=np.arange(1.0, len(y) + 1), y=y, chance=chance)


def lines(chart: Chart) -> list[str]:
    """The paths drawn in colours of the style sheet's series."""
    return re.findall(r'<path d="[^"]*"[^>]*stroke: var\(--s\d\)', chart.svg)


def test_drawing_is_well_formed_and_self_contained() -> None:
    chart = draw(panel(curve("R@1", 0.1, 0.4, chance=0.05), share=True), 3)
    root = ElementTree.fromstring(str(chart.svg).replace("xlink:href", "href"))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == (
        "a <b> & c by step: R@1 from 10.0 % to 40.0 %, chance 5.0 %."
    )
    assert "http" not in chart.svg
    assert "<style" not in chart.svg
    assert not re.search(r"#0[123]00|#0[12]0[12]0", chart.svg), "a stand-in colour was left"
    assert set(re.findall(r"var\(--(\w+)\)", chart.svg)) == {"muted", "line", "s0"}


def test_ids_are_apart_and_references_hold() -> None:
    one, two = (draw(panel(curve("x", 1.0, 2.0)), number) for number in (1, 2))

    def ids(chart: Chart) -> set[str]:
        return set(re.findall(r'\bid="([^"]*)"', chart.svg))

    assert ids(one)
    assert not ids(one) & ids(two)
    for chart in (one, two):
        used = re.findall(r'(?:href="|url\()#([^")]*)', chart.svg)
        assert used
        assert set(used) <= ids(chart)


def test_one_line_per_curve_and_one_for_chance() -> None:
    plain = draw(panel(curve("a", 1.0, 2.0), curve("b", 2.0, 3.0)), 1)
    chance = draw(panel(curve("a", 1.0, 2.0, chance=1.5), curve("b", 2.0, 3.0)), 1)
    assert len(lines(chance)) == len(lines(plain)) + 1
    assert "stroke-dasharray" in chance.svg
    assert "stroke-dasharray" not in plain.svg


def test_legend() -> None:
    chart = draw(panel(curve("R@1", 0.2, 0.5, chance=0.01), share=True), 1)
    entry = chart.legend[0]
    assert (entry.colour, entry.name, entry.last, entry.chance) == (0, "R@1", "50.0 %", "1.0 %")
    many = draw(panel(*(curve(str(i), i, i) for i in range(COLOURS + 1))), 1)
    assert [entry.colour for entry in many.legend] == [*range(COLOURS), 0]


def test_notes() -> None:
    assert draw(panel(curve("x", 3.0), metric="median_rank"), 1).note == "lower is better"
    averaged = Panel(
        title="loss",
        metric="loss",
        x_label="step",
        share=False,
        series=(curve("loss", 1.0),),
        averaged=4,
    )
    assert draw(averaged, 1).note == "each point is the mean of 4 readings"


@pytest.mark.parametrize("values", [(0.0,), (0.0, 0.0), (1e-12, 1e12), (-5.0, 5.0)])
def test_odd_ranges(values: tuple[float, ...]) -> None:
    assert draw(panel(curve("x", *values)), 1).svg.endswith("</svg>\n")
    assert draw(panel(curve("x", *np.clip(values, 0, 1)), share=True), 1).legend


def test_the_same_twice() -> None:
    made = panel(curve("x", 1.0, 2.0))
    assert draw(made, 1) == draw(made, 1)
