"""A study's figures and verdicts as tables, plain or in Markdown."""

from earsight.evaluation.repeats import Estimate
from earsight.evaluation.rows import is_share
from earsight.studies.statistics import ROUNDING
from earsight.studies.summary import Figure, Finding, Summary

Table = list[tuple[str, ...]]

POST_HOC = "(post hoc)"
"""Follows claims that were added when figures had been seen."""


def figure_table(summary: Summary) -> Table:
    """One line per figure, one column per arm: mean ± deviation, and the mean's 95 % interval."""
    head = ("figure", *summary.arms, "chance")
    lines = [head]
    for report in dict.fromkeys(figure.report for figure in summary.figures):
        found = {f.arm: f for f in summary.figures if f.report == report}
        guesses = {arm: _guess(figure) for arm, figure in found.items()}
        guess, *others = dict.fromkeys(guesses.values())
        cells = [cell(found[arm]) if arm in found else "–" for arm in summary.arms]
        lines.append((report, *cells, "below" if others else guess))
        if others:
            # Arms that tell other things apart have other chances.
            by_arm = [guesses.get(arm, "–") for arm in summary.arms]
            lines.append((f"{report}, by guessing", *by_arm, "–"))
    return lines


def _guess(figure: Figure) -> str:
    return "–" if figure.chance is None else number(figure.metric, figure.chance)


def finding_table(summary: Summary) -> Table:
    """One line per claim."""
    metrics = {figure.report: figure.metric for figure in summary.figures}
    lines: Table = [("claim", "difference", "p", "p, opposite", "detectable", "verdict")]
    lines += [_finding(finding, metrics[finding.report]) for finding in summary.findings]
    return lines


def _finding(finding: Finding, metric: str) -> tuple[str, ...]:
    each_way = ("–" if p is None else f"{p:.2g}" for p in (finding.p, finding.against))
    smallest = "–" if finding.detectable is None else number(metric, finding.detectable)
    return (
        f"{finding.says} {POST_HOC}" if finding.post_hoc else finding.says,
        spread(metric, finding.difference),
        *each_way,
        smallest,
        finding.verdict,
    )


def cell(figure: Figure) -> str:
    """A figure for a table."""
    return spread(figure.metric, figure.estimate)


def spread(metric: str, found: Estimate) -> str:
    """``mean ± deviation [low, high]``."""
    text = number(metric, found.mean)
    if found.low is None or found.high is None:
        return text
    interval = f"[{number(metric, found.low)}, {number(metric, found.high)}]"
    return f"{text} ± {number(metric, found.std)} {interval}"


def number(metric: str, value: float) -> str:
    """Shares in per cent, other figures with three digits."""
    if is_share(metric):
        return f"{100 * value:.1f}"
    return f"{0.0 if abs(value) < ROUNDING else value:.3g}"


def plain(table: Table) -> str:
    """A table for a terminal."""
    widths = [max(len(line[at]) for line in table) for at in range(len(table[0]))]
    drawn = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]
    return "\n".join([drawn[0], "  ".join("-" * width for width in widths), *drawn[1:]])


def markdown(table: Table) -> str:
    """A table for a page."""
    rows = ["| " + " | ".join(line) + " |" for line in table]
    return "\n".join([rows[0], "|" + "---|" * len(table[0]), *rows[1:]])


def format_summary(summary: Summary) -> str:
    """What a study found, for a terminal."""
    seeds = f"{len(summary.seeds)} seeds" if len(summary.seeds) > 1 else "1 seed"
    head = (
        f"{summary.name}: {summary.about.strip()} ({seeds}, corpus {summary.corpus}; shares in "
        "per cent)"
    )
    parts = [head, plain(figure_table(summary))]
    if summary.findings:
        parts.append(plain(finding_table(summary)))
    return "\n\n".join(parts)
