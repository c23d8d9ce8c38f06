"""From the outcomes of a study's stages to its figures, and to a verdict for each claim."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from scipy import stats

from earsight.evaluation.repeats import LEVEL, Estimate, estimate
from earsight.evaluation.rows import LOWER_IS_BETTER, Row, as_metrics, is_share
from earsight.files import write_whole
from earsight.studies.design import EVERY, Question, Report, questions, reports
from earsight.studies.plan import Plan
from earsight.studies.stages import Outcome
from earsight.studies.statistics import (
    POWER,
    Comparison,
    compare_equal,
    compare_greater,
    verdicts,
)

SCHEMA = 1
"""Version of a study's file."""

DEVIATION = "deviation"
"""Metric that goes with a mean: its deviation under guessing."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A reported figure of one arm.

    Attributes:
        report: its name.
        arm: the arm.
        metric: such as ``accuracy``.
        values: one per seed.
        estimate: their mean and interval.
        chance: of guessing, averaged over seeds; None where guessing means nothing.
    """

    report: str
    arm: str
    metric: str
    values: tuple[float, ...]
    estimate: Estimate
    chance: float | None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A claim, and what became of it.

    Attributes:
        says: the claim.
        report: the figure that it is about.
        arms: of which it speaks.
        test: how it was judged, in words.
        difference: by how much the first is better (so where less is better, the second less the
            first), seed by seed; for a claim that nothing differs, the first less the second; for
            a claim about chance, the distance from it.
        p: before Holm's correction; None where no test was made.
        against: p of the opposite finding, alike.
        detectable: smallest effect (of a claim that nothing differs: margin) that so many seeds
            would find four times in five, at the strictest level of Holm's correction; of a claim
            about chance, the distance that would be found outside the interval so often.
        verdict: ``holds``, ``does not`` or ``undecided``.
        post_hoc: the claim was added when figures of the study had been seen.
    """

    says: str
    report: str
    arms: tuple[str, ...]
    test: str
    difference: Estimate
    p: float | None
    against: float | None
    detectable: float | None
    verdict: str
    post_hoc: bool = False


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that a study found.

    Attributes:
        name: of the study.
        about: what it asks.
        corpus: its digest.
        seeds: of the runs.
        labels: that it looked at.
        settings: changes to the study's own that decide what is found, for all stages that train.
        arms: their names.
        stages: key of each stage by ``arm/seed/stage``.
        figures: of every report, and every arm that has it.
        findings: of every claim.
    """

    name: str
    about: str
    corpus: str
    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    stages: Mapping[str, str]
    figures: tuple[Figure, ...]
    findings: tuple[Finding, ...]
    labels: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


def summarise(plan: Plan, outcomes: Mapping[str, Outcome], corpus: str) -> Summary:
    """Figures and verdicts of a study whose evaluations are all done.

    Raises:
        ValueError: an evaluation lacks a figure that is reported.
    """
    design = plan.design
    figures = [
        _figure(plan, outcomes, report, arm)
        for report in reports(design)
        for arm in design.of_stage(report.stage)
    ]
    return Summary(
        name=design.name,
        about=design.about,
        corpus=corpus,
        seeds=plan.seeds,
        arms=tuple(design.arms),
        stages={f"{arm}/{seed}/{stage}": job.key for (arm, seed, stage), job in plan.jobs.items()},
        figures=tuple(figures),
        findings=tuple(_findings(plan, outcomes, questions(design), figures)),
        labels=design.labels,
        settings=plan.settings,
    )


def _rows(plan: Plan, outcomes: Mapping[str, Outcome], arm: str, stage: str) -> list[list[Row]]:
    """The rows of an evaluation, per seed."""
    return [list(outcomes[plan.jobs[arm, seed, stage].key].rows) for seed in plan.seeds]


def _figure(plan: Plan, outcomes: Mapping[str, Outcome], report: Report, arm: str) -> Figure:
    found = [_row(rows, report) for rows in _rows(plan, outcomes, arm, report.stage)]
    values = [_value(row, report, arm) for row in found]
    chances = [row.chance for row in found if row.chance is not None]
    whole = len(chances) == len(found) and not report.gain
    return Figure(
        report=report.name,
        arm=arm,
        metric=found[0].metric,
        values=tuple(values),
        estimate=estimate(values),
        chance=sum(chances) / len(chances) if whole else None,
    )


def _value(row: Row, report: Report, arm: str) -> float:
    if arm in report.untrained or EVERY in report.untrained:
        return _baseline(row, report)
    return row.value - _baseline(row, report) if report.gain else row.value


def _row(rows: Sequence[Row], report: Report) -> Row:
    named = {name: row for row in rows for name in as_metrics([row]) if "/chance/" not in name}
    if EVERY in report.row:
        found = [row for name, row in named.items() if _matches(name, report.row)]
        if found:
            return _mean(found)
    if report.row not in named:
        raise ValueError(
            f"report {report.name!r}: the evaluation has no {report.row!r}; it has "
            f"{', '.join(sorted(named))}"
        )
    return named[report.row]


def _matches(name: str, row: str) -> bool:
    """Whether a figure's name is ``row``, in which ``*`` stands for any one part."""
    parts, wanted = name.split("/"), row.split("/")
    if len(parts) != len(wanted):
        return False
    return all(w in (EVERY, part) for part, w in zip(parts, wanted, strict=True))


def _mean(rows: Sequence[Row]) -> Row:
    """Figures of one metric averaged, with chance and baseline where all have them."""

    def mean(values: Sequence[float | None]) -> float | None:
        known = [x for x in values if x is not None]
        return sum(known) / len(known) if len(known) == len(values) else None

    return replace(
        rows[0],
        value=sum(row.value for row in rows) / len(rows),
        chance=mean([row.chance for row in rows]),
        baseline=mean([row.baseline for row in rows]),
    )


def _baseline(row: Row, report: Report) -> float:
    if row.baseline is None:
        raise ValueError(f"report {report.name!r}: the random initialisation was not measured")
    return row.baseline


def _findings(
    plan: Plan,
    outcomes: Mapping[str, Outcome],
    asked: Sequence[Question],
    figures: Sequence[Figure],
) -> list[Finding]:
    by_place = {(figure.report, figure.arm): figure for figure in figures}
    tested = [q for q in asked if q.claim.chance is None]
    comparisons = [_compare(q, by_place, len(tested)) for q in tested]
    judged = iter(zip(comparisons, verdicts(comparisons), strict=True))
    findings = []
    for question in asked:
        if question.claim.chance is not None:
            findings.append(_against_chance(plan, outcomes, question))
            continue
        comparison, verdict = next(judged)
        findings.append(
            Finding(
                says=question.says,
                report=question.report,
                arms=question.claim.arms,
                test=_test(question, by_place[question.report, question.claim.arms[0]].metric),
                difference=comparison.difference,
                p=comparison.p,
                against=comparison.against,
                detectable=comparison.detectable,
                verdict=verdict,
                post_hoc=question.claim.post_hoc,
            )
        )
    return findings


def _test(question: Question, metric: str) -> str:
    claim = question.claim
    if claim.same is not None:
        return f"two one-sided paired t-tests within ±{_amount(claim.within, metric)}"
    over = f" by more than {_amount(claim.margin, metric)}" if claim.margin > 0 else ""
    if claim.margin < 0:
        over = f", against being less by {_amount(-claim.margin, metric)} or more"
    beyond = f", of the difference and of that in “{question.beyond}”" if claim.beyond else ""
    other = f" with “{question.than}”" if claim.than else ""
    return f"one-sided paired t-test{over}{beyond}{other}"


def _amount(value: float, metric: str) -> str:
    """As tables have it: shares are told in per cent."""
    return f"{100 * value:g} points" if is_share(metric) else f"{value:g}"


def _compare(
    question: Question, figures: Mapping[tuple[str, str], Figure], claims: int
) -> Comparison:
    claim = question.claim
    first = figures[question.report, claim.arms[0]]
    second = figures[question.than or question.report, claim.arms[1]]
    if claim.same is not None:
        return compare_equal(first.values, second.values, claim.within, claims)
    if question.beyond:
        other = [figures[question.beyond, arm] for arm in claim.arms]
        return compare_greater(_gains(first, second), _gains(*other), claim.margin, claims)
    return compare_greater(_signed(first), _signed(second), claim.margin, claims)


def _signed(figure: Figure) -> list[float]:
    """Its values, turned so that more is better."""
    sign = -1 if figure.metric in LOWER_IS_BETTER else 1
    return [sign * x for x in figure.values]


def _gains(first: Figure, second: Figure) -> list[float]:
    """By how much the first is better, seed by seed."""
    return [a - b for a, b in zip(_signed(first), _signed(second), strict=True)]


def _against_chance(plan: Plan, outcomes: Mapping[str, Outcome], question: Question) -> Finding:
    """Is the mean over seeds within the 95 % interval that guessing gives?

    The deviation of each seed's figure under guessing is a row of its own, exact for a random
    pairing. Seeds are taken as independent; if their errors are alike, the interval should be
    wider, so the claim is judged too strictly rather than too kindly.
    """
    (arm,) = question.claim.arms
    report = next(r for r in reports(plan.design) if r.name == question.report)
    spread = Report(name=report.name, stage=report.stage, row=f"{report.row}_{DEVIATION}")
    rows = _rows(plan, outcomes, arm, report.stage)
    found = [_row(some, report) for some in rows]
    deviations = [_row(some, spread).value for some in rows]
    distance = estimate([_beyond_chance(row, report) for row in found])
    deviation = math.sqrt(sum(d * d for d in deviations)) / len(found)
    half = stats.norm.isf(LEVEL / 2) * deviation
    return Finding(
        says=question.says,
        report=question.report,
        arms=(arm,),
        test=f"mean within ±{half:.3g} of chance, the 95 % interval of a random pairing",
        difference=distance,
        p=None,
        against=None,
        detectable=float(half + stats.norm.ppf(POWER) * deviation),
        verdict="holds" if abs(distance.mean) <= half else "does not",
        post_hoc=question.claim.post_hoc,
    )


def _beyond_chance(row: Row, report: Report) -> float:
    if row.chance is None:
        raise ValueError(f"report {report.name!r}: guessing means nothing for {report.row!r}")
    return row.value - row.chance


def write_summary(home: Path, summary: Summary) -> Path:
    """Write ``HOME/NAME.json``: the same bytes whenever and wherever the stages were done."""
    tree: dict[str, Any] = {"schema": SCHEMA, **asdict(summary)}
    path = home / f"{summary.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(tree, indent=1, allow_nan=False) + "\n")
    return path


def read_summary(path: Path) -> Summary:
    """Read what :func:`write_summary` wrote.

    Raises:
        ValueError: of another schema, or damaged.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if tree.pop("schema") != SCHEMA:
            raise ValueError("it has another schema")
        return TypeAdapter(Summary).validate_python(tree)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); do the study again") from error
