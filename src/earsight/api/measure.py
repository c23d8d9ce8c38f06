"""Evaluations that also write a page of clips to play."""

from collections.abc import Sequence
from pathlib import Path

from earsight.evaluation.agreement_run import evaluate_agreement
from earsight.evaluation.load import Progress
from earsight.evaluation.negatives_run import evaluate_negatives
from earsight.evaluation.results import Evaluation
from earsight.report.agreement import write_agreement
from earsight.report.negatives import write_negatives

AGREEMENT_PAGE = Path("evaluation/agreement.html")
"""Where a run folder keeps the page of its agreement."""

NEGATIVES_PAGE = Path("evaluation/negatives.html")
"""Where it keeps the page of its negatives."""


def agreement(
    run: Path,
    *,
    corpus: Path | None = None,
    settings: Sequence[str] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a run's memory bank; also writes ``RUN/evaluation/agreement.html``.

    Args and errors are those of :func:`earsight.evaluation.agreement_run.evaluate_agreement`.
    """
    evaluation = evaluate_agreement(run, corpus=corpus, settings=settings, progress=progress)
    write_agreement(evaluation, run / AGREEMENT_PAGE)
    return evaluation


def negatives(
    run: Path,
    *,
    corpus: Path | None = None,
    settings: Sequence[str] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate what enters a run's dictionaries; also writes ``RUN/evaluation/negatives.html``.

    Args and errors are those of :func:`earsight.evaluation.negatives_run.evaluate_negatives`.
    """
    evaluation = evaluate_negatives(run, corpus=corpus, settings=settings, progress=progress)
    write_negatives(evaluation, run / NEGATIVES_PAGE)
    return evaluation
