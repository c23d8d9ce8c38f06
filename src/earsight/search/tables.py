"""What a search found, for people."""

from collections.abc import Sequence

from earsight.corpus.scan_report import shown
from earsight.evaluation.rows import draw_table
from earsight.search.query import By, Hit


def format_hits(by: By, hits: Sequence[Hit]) -> str:
    """A line for each hit: its score, when it is, and where."""
    if not hits:
        return "nothing in the index can be compared with this"
    agreement = by == "agreement"
    lines = []
    for hit in hits:
        scores = [f"{hit.score:.3f}"]
        if agreement and hit.video is not None and hit.audio is not None:
            scores += [f"{hit.video:.3f}", f"{hit.audio:.3f}"]
        lines.append((shown(hit.path), f"{_clock(hit.start)}–{_clock(hit.end)}", *scores))
    names = ("agreement", "video", "audio") if agreement else (by,)
    return draw_table(("file", "when"), names, lines)


def _clock(seconds: float) -> str:
    """``1:02.5``."""
    minutes, rest = divmod(round(10 * seconds), 600)
    return f"{minutes}:{rest / 10:04.1f}"
