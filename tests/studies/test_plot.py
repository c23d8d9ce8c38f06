"""Plots of a study's figures: chance is marked where there is one."""

from earsight.evaluation.repeats import estimate
from earsight.studies.plot import plot
from earsight.studies.summary import Figure, Summary
from earsight.studies.tables import figure_table


def summary(*chances):
    figures = [
        Figure(
            report="digit", arm=f"arm {at}", metric="accuracy", values=(0.2, 0.3),
            estimate=estimate([0.2, 0.3]), chance=chance,
        )
        for at, chance in enumerate(chances)
    ]  # fmt: skip
    arms = tuple(figure.arm for figure in figures)
    return Summary(
        name="own", about="", corpus="", seeds=(1, 2), arms=arms, stages={},
        figures=tuple(figures), findings=(),
    )  # fmt: skip


def test_a_figure_may_lack_chance_for_some_arms():
    mixed = summary(0.1, None)
    assert "arm 1" in plot(mixed)
    assert figure_table(mixed)[2] == ("digit, by guessing", "10.0", "–", "–")


def test_plots_are_the_same_every_time():
    assert plot(summary(0.1, 0.1)) == plot(summary(0.1, 0.1))
