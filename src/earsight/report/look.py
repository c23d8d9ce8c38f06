"""What a report shows of a run's encoders themselves: a map, and a gallery of nearest clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from earsight.errors import RunError
from earsight.evaluation.load import Progress, embed_held_out
from earsight.report.embedding_map import EmbeddingMap, make_maps
from earsight.report.gallery import Gallery
from earsight.report.nearest import make_gallery


@dataclass(frozen=True, kw_only=True)
class Look:
    """A run, and what its encoders make of its held-out clips.

    Attributes:
        run: the run folder.
        gallery: clips with their nearest across modalities; None for no gallery.
        maps: of its embedding.
        notes: what is missing, and why.
    """

    run: Path
    gallery: Gallery | None = None
    maps: tuple[EmbeddingMap, ...] = ()
    notes: tuple[str, ...] = ()


def look_at(
    run: Path,
    *,
    corpus: Path | None = None,
    labels: Sequence[str] = (),
    most: int = 2,
    progress: Progress | None = None,
) -> Look:
    """Embed the held-out clips of a run; where that cannot be done, the reason is noted.

    Args:
        run: the run folder.
        corpus: another corpus than the run's.
        labels: columns to colour the map by; empty for the first that fit.
        most: how many these may be, unless they are named.
        progress: told of decoded batches.

    Raises:
        ValueError: the corpus has no such label, or one that is named cannot be used.
        OSError: likewise.
        RunError: likewise.
    """
    try:
        held_out = embed_held_out(run, corpus=corpus, progress=progress)
    except (ValueError, OSError, RunError) as error:
        if corpus is not None:
            raise  # it was asked for: a page without its clips must not replace a good one
        return Look(run=run, notes=(f"No map and no gallery of nearest clips: {error}",))
    gallery, notes = None, []
    if held_out.spaces:
        gallery = make_gallery(held_out.features, held_out.instances, held_out.spaces)
    else:
        notes.append(
            "No gallery of nearest clips: the method trains no space in which pictures and sounds "
            "can be compared."
        )
    maps: tuple[EmbeddingMap, ...] = ()
    if len(held_out.features.row) < 3:
        notes.append("No map: there are fewer than three held-out clips.")
    else:
        maps = make_maps(held_out, labels, most=most)
    return Look(run=run, gallery=gallery, maps=maps, notes=tuple(notes))
