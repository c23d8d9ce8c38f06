"""Joining the parts that the jobs of an array made."""

from collections.abc import Sequence
from pathlib import Path

from earsight.corpus.merge import MergeReport, merge_manifests
from earsight.corpus.shards.merge import merge_shards
from earsight.corpus.shards.plan import SHARDS
from earsight.corpus.shards.report import PrepareReport
from earsight.search.index import ABOUT
from earsight.search.merge import merge_indexes
from earsight.search.report import IndexReport


def merge(
    parts: Sequence[Path], output: Path, *, corpus: Path | None = None
) -> MergeReport | PrepareReport | IndexReport:
    """Join parts that were made with ``shard`` to what one call without makes.

    What they are is told by what they hold: manifests (see
    :func:`earsight.corpus.merge.merge_manifests`), folders of shards (see
    :func:`earsight.corpus.shards.merge.merge_shards`) or of an index (see
    :func:`earsight.search.merge.merge_indexes`).

    Args:
        parts: all of them, in any order.
        output: a manifest for manifests, else a folder, which may be among the parts.
        corpus: for shards, the manifest that they were made from, where it has moved.

    Raises:
        ValueError: parts are missing, of different kinds, or contradict each other.
        RunError: the disk is full.
        OSError: the output cannot be written.
    """
    kinds = {_kind(part) for part in parts}
    if len(kinds) > 1:
        raise ValueError(f"these are {' and '.join(sorted(kinds))}; merge those of one kind")
    if not kinds:
        raise ValueError("nothing to merge; give all parts")
    (kind,) = kinds
    if corpus is not None and kind != "shards":
        raise ValueError(f"corpus: has no effect on {kind}; leave it out")
    if kind == "shards":
        return merge_shards(parts, output, corpus=corpus)
    return merge_indexes(parts, output) if kind == "indexes" else merge_manifests(parts, output)


def _kind(part: Path) -> str:
    if not part.exists():
        raise ValueError(f"{part}: is not there; give parts that --shard made")
    if part.is_file():
        return "manifests"
    if (part / SHARDS).is_file():
        return "shards"
    if (part / ABOUT).is_file():
        return "indexes"
    raise ValueError(f"{part}: holds neither shards nor an index, nor is it a manifest")
