"""What is known of fitted classifiers beside their figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from earsight.evaluation.probe import ProbeScores
from earsight.evaluation.rows import Scores
from earsight.evaluation.svm import SvmScores


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A logistic regression or an SVM.

    Attributes:
        task: ``probe``, ``svm`` or ``memory``.
        modality: as :class:`~earsight.evaluation.rows.Row` has it.
        label: the label column.
        block: likewise; None where there is no such choice.
        baseline: whether it is of the random initialisation.
        seed: of its draws.
        fold: the official split; 0 for that of the manifest.
        C: the chosen strength.
        validation: share of correct answers with it where it was chosen.
        converged: whether this fit, and that of every other C, reached its optimum.
    """

    task: str
    modality: str
    label: str
    block: str | None = None
    baseline: bool = False
    seed: int
    fold: int = 0
    C: float
    validation: float
    converged: bool


Note = Callable[..., None]
"""Told of a classifier's scores, and by keywords of ``modality``, ``label`` and so on."""


def note_fit(fits: list[Fitted], scores: Scores, **about: Any) -> None:
    """Add what is known of a fit; of neighbours, which fit nothing, there is nothing.

    Args:
        fits: of an evaluation.
        scores: of a classifier.
        about: the other fields of :class:`Fitted`.
    """
    if isinstance(scores, ProbeScores | SvmScores):
        known = {name: getattr(scores, name) for name in ("C", "validation", "converged")}
        fits.append(Fitted(**about, **known))


def unfinished(fits: Sequence[Fitted]) -> list[str]:
    """What to tell of fits that have not converged; nothing where all have."""
    cut_short = [fit for fit in fits if not fit.converged]
    if not cut_short:
        return []
    first = cut_short[0]
    named = [first.task, first.modality, first.label, first.block or ""]
    named += [f"fold {first.fold}"] if first.fold else []
    named += ["random initialisation"] if first.baseline else []
    return [
        f"{len(cut_short)} of {len(fits)} classifiers have not converged with every C that was "
        f"tried, the first: {' '.join(filter(None, named))}; their figures depend a little on "
        "where the solver stopped"
    ]
