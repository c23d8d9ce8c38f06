"""Clips that an evaluation names, so that pages can show them: plain data for its details."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from earsight.corpus.instances import Instances


@dataclass(frozen=True, kw_only=True)
class ShownClip:
    """A clip to be played.

    Attributes:
        path: its file.
        start: second of the file at which it starts.
        end: second at which it ends.
        caption: what to call it.
        of: figures to stand beside it, such as ``norm``, or similarities by modality.
    """

    path: str
    start: float
    end: float
    caption: str
    of: Mapping[str, float]


def shown_clip(instances: Instances, row: int, **of: float) -> ShownClip:
    """The clip at a row, with figures to stand beside it."""
    return ShownClip(
        path=instances.path[row],
        start=float(instances.start[row]),
        end=float(instances.end[row]),
        caption=clip_caption(instances, row),
        of=of,
    )


def clip_caption(instances: Instances, row: int) -> str:
    """A clip's file name and labels."""
    labels = [
        instances.vocabulary[name][int(codes[row])]
        for name, codes in instances.labels.items()
        if codes.ndim == 1 and codes[row] >= 0
    ]
    return ", ".join([Path(instances.path[row]).name, *labels])


@dataclass(frozen=True, kw_only=True)
class ShownExample:
    """A reference and clips beside it, or none and clips alone.

    Attributes:
        title: what it is of; empty where the reference tells.
        reference: None where there is none.
        groups: title to clips.
    """

    title: str = ""
    reference: ShownClip | None
    groups: Mapping[str, tuple[ShownClip, ...]]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for an evaluation's details."""
        return asdict(self)
