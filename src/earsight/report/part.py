"""What a report shows of one of its runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from earsight.evaluation.negatives_tables import Grid, grids_of
from earsight.evaluation.results import Evaluation
from earsight.report.agreement import panels as agreement_panels
from earsight.report.curves import Chart, draw
from earsight.report.examples import PlayedExample, play_examples
from earsight.report.gallery import Embedder, ShownQuery, show
from earsight.report.look import Look
from earsight.report.negatives import panels as negatives_panels
from earsight.report.run import RunFacts
from earsight.report.tables import Table, tables_of


@dataclass(frozen=True, kw_only=True)
class Clips:
    """An evaluation with charts, tables and clips of its own; all empty where it was not made."""

    charts: tuple[Chart, ...] = ()
    grids: tuple[Grid, ...] = ()
    examples: tuple[PlayedExample, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Part:
    """A run on the page.

    Attributes:
        name: of the run.
        facts: what its folder tells.
        look: what its encoders make of held-out clips.
        evaluations: the latest first, with their tables.
        directions: of the gallery of nearest clips, with its queries.
        agreement: what agrees in its memory.
        negatives: what enters its dictionaries.
        notes: what is missing.
    """

    name: str
    facts: RunFacts
    look: Look
    evaluations: tuple[tuple[Evaluation, list[Table]], ...]
    directions: tuple[tuple[str, tuple[ShownQuery, ...]], ...]
    agreement: Clips
    negatives: Clips
    notes: tuple[str, ...]

    @property
    def gallery_size(self) -> int:
        """Clips that each query of the gallery was ranked against."""
        return 0 if self.look.gallery is None else self.look.gallery.size


def make_part(
    name: str, facts: RunFacts, look: Look, embedder: Embedder, numbers: Iterator[int]
) -> Part:
    """Everything of a run that its page shows, with players for its clips.

    Args:
        name: of the run.
        facts: what its folder tells.
        look: what its encoders make of held-out clips.
        embedder: makes the players.
        numbers: of the page's charts.
    """
    notes: list[str] = []
    found = {evaluation.name: evaluation for evaluation in facts.evaluations}
    shown = () if look.gallery is None else tuple(show(look.gallery, embedder))
    return Part(
        name=name,
        facts=facts,
        look=look,
        evaluations=tuple((e, tables_of(e)) for e in reversed(facts.evaluations)),
        directions=_by_direction(shown),
        agreement=_clips(found.get("agreement"), embedder, numbers, notes),
        negatives=_clips(found.get("negatives"), embedder, numbers, notes),
        notes=(*look.notes, *notes),
    )


def _clips(
    evaluation: Evaluation | None, embedder: Embedder, numbers: Iterator[int], notes: list[str]
) -> Clips:
    """An evaluation's charts, tables and clips; what it lacks is noted."""
    if evaluation is None:
        return Clips()
    again = f"`earsight evaluate {evaluation.name}` writes it anew"
    try:
        negatives = evaluation.name == "negatives"
        drawn = negatives_panels(evaluation) if negatives else agreement_panels(evaluation.rows)
        made = Clips(
            charts=tuple(draw(panel, next(numbers)) for panel in drawn),
            grids=tuple(grids_of(evaluation)) if negatives else (),
            examples=tuple(play_examples(evaluation, embedder)),
        )
    except (KeyError, TypeError, ValueError) as error:
        notes.append(f"evaluation/{evaluation.name}.json cannot be shown whole ({error}); {again}.")
        return Clips()
    if not made.examples:
        notes.append(f"The evaluation {evaluation.name} keeps no clips to show; {again}.")
    return made


def _by_direction(shown: Sequence[ShownQuery]) -> tuple[tuple[str, tuple[ShownQuery, ...]], ...]:
    ordered = sorted(shown, key=lambda item: item.query.direction, reverse=True)
    grouped = groupby(ordered, lambda item: item.query.direction)
    return tuple((direction, tuple(items)) for direction, items in grouped)
