"""Clips that an evaluation of agreement or of negatives names, with their players."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from earsight.evaluation.results import Evaluation
from earsight.evaluation.shown import ShownClip, ShownExample
from earsight.report.gallery import Embedder, Medium
from earsight.report.words import say

_FIGURES = {"norm": "gradient norm {:.3g}"}


@dataclass(frozen=True, kw_only=True)
class PlayedClip:
    """A clip, its player, and the figures beside it in words."""

    caption: str
    medium: Medium
    figures: str
    muted: bool


@dataclass(frozen=True, kw_only=True)
class PlayedExample:
    """A reference, if there is one, and the clips beside it, by title."""

    title: str
    reference: PlayedClip | None
    groups: tuple[tuple[str, tuple[PlayedClip, ...]], ...]


def play_examples(evaluation: Evaluation, embedder: Embedder) -> list[PlayedExample]:
    """The examples of an evaluation with their players; see :func:`read_examples`."""
    return [_played(example, embedder) for example in read_examples(evaluation)]


def read_examples(evaluation: Evaluation) -> tuple[ShownExample, ...]:
    """The examples of an evaluation; none of one that was made before they were recorded.

    Raises:
        ValueError: they are damaged; the message names the entry.
    """
    try:
        return TypeAdapter(tuple[ShownExample, ...]).validate_python(
            evaluation.details.get("examples", ())
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("details", "examples", *first["loc"])))
        raise ValueError(f"{evaluation.name}: {where}: {first['msg']}; evaluate again") from error


def _played(example: ShownExample, embedder: Embedder) -> PlayedExample:
    # Negatives that are pictures are looked at, not listened to.
    muted = example.title.endswith("-video")

    def clip(one: ShownClip) -> PlayedClip:
        return PlayedClip(
            caption=one.caption,
            medium=embedder.embed(Path(one.path), (one.start, one.end)),
            figures=" · ".join(_figures(one)),
            muted=muted,
        )

    return PlayedExample(
        title=say(example.title),
        reference=None if example.reference is None else clip(example.reference),
        groups=tuple((title, tuple(map(clip, clips))) for title, clips in example.groups.items()),
    )


def _figures(clip: ShownClip) -> Iterator[str]:
    for name, value in clip.of.items():
        yield _FIGURES.get(name, say(name) + " {:.2f}").format(value)
