"""The scan: from sources to a manifest, reading only what changed."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from earsight.corpus.assemble import Assembled, assemble
from earsight.corpus.collect import Collected, Progress, Reading, collect
from earsight.corpus.discover import Discovery, discover, find_media
from earsight.corpus.facts import Probe, Verify
from earsight.corpus.labels import Labels, match_files, read_labels
from earsight.corpus.layouts.listing import Listing
from earsight.corpus.layouts.locate import Located, locate
from earsight.corpus.manifest import SPLIT, Corpus, ScanSettings, read, write
from earsight.corpus.parallel import cores
from earsight.corpus.part import Part
from earsight.corpus.scan_report import (
    Named,
    ScanReport,
    cut_short,
    format_report,
    most_frequent,
    reasons_of,
)
from earsight.corpus.split import unknown_splits
from earsight.corpus.status import OK
from earsight.media.probe import probe as probe_file
from earsight.media.types import Limits
from earsight.media.verify import verify as verify_file

__all__ = ["ScanReport", "format_report", "scan"]


def scan(
    sources: Sequence[str],
    output: Path,
    *,
    segment: float | None = None,
    labels: Path | None = None,
    listing: Listing | None = None,
    group_by: str | None = None,
    min_duration: float = 1.0,
    workers: int | None = None,
    deep: bool = False,
    shard: Part | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
    probe: Probe = probe_file,
    verify: Verify = verify_file,
) -> ScanReport:
    """Find media, read their facts, cut them into instances, and write the manifest.

    Where ``output`` is the manifest of an earlier scan, only files whose size or time of change
    differ are read. It is replaced at the end, in one step.

    Args:
        sources: folders or files, each perhaps ``name=PATH``.
        output: the manifest.
        segment: seconds; files longer than two segments are cut. None leaves them whole.
        labels: CSV or TSV file: a path (or key) per line, and a column per label.
        listing: what a known data set should hold, instead of ``labels``: only its files are
            scanned, with its labels and splits.
        group_by: label column whose values never stand in two splits; None for the file.
        min_duration: seconds of picture and sound together that an instance needs.
        workers: processes that read; 0 for none but this one (a file that hangs then hangs the
            scan), None for one per core.
        deep: decode every file in full.
        shard: read only the files of this part; :func:`earsight.corpus.merge.merge_manifests` joins
            all parts to what one scan would have written.
        limits: what a file may cost; ``limits.seconds`` is the time for reading its facts.
        progress: called with the step, files done, and files to do.
        probe: reads the facts of a file; must be importable by worker processes.
        verify: decodes a file in full.

    Raises:
        ValueError: a setting, source, label file or earlier manifest cannot be used.
        OSError: the manifest cannot be written; the earlier one is untouched.
    """
    began = time.monotonic()
    limits = limits or Limits()
    settings = ScanSettings(
        segment=segment,
        min_duration=min_duration,
        group_by=group_by,
        layout="" if listing is None else listing.name,
        limits=limits,
    )
    workers = cores() if workers is None else workers
    _check_settings(settings, output, workers)
    previous = read(output, parts=True) if output.exists() else None
    _check_previous(previous, output, shard)
    located = None if listing is None else _located(listing, sources, labels)
    given = _read_labels(labels, previous, output) if located is None else located.labels
    _check_group(given, group_by)
    everything = discover(sources) if located is None else located.discovery
    unmatched = _unmatched(given, everything, shard)
    discovery, elsewhere = _divided(everything, shard)
    reading = Reading(
        probe=probe,
        verify=verify if deep else None,
        limits=limits,
        workers=workers,
        progress=progress,
        elsewhere=elsewhere,
    )
    collected = collect(discovery, previous, reading)
    rows = assemble(collected.facts, settings, given, whole=shard is None)
    corpus = Corpus(table=rows.table, roots=discovery.roots, settings=settings, part=shard)
    write(corpus, output)
    report = _report(corpus, output, discovery, collected, rows, time.monotonic() - began)
    report = replace(report, unmatched=report.unmatched if unmatched is None else unmatched)
    return report if located is None else _with_listing(report, located)


def _located(listing: Listing, sources: Sequence[str], labels: Path | None) -> Located:
    if labels is not None:
        raise ValueError(f"{labels}: has no effect, since {listing.name} brings labels; leave out")
    return locate(listing, find_media(sources), sources)


def _check_previous(previous: Corpus | None, output: Path, shard: Part | None) -> None:
    if previous is None:
        return
    if previous.prepared is not None:
        raise ValueError(f"{output}: is the manifest of prepared shards; give another output")
    if previous.part != shard:
        was, now = (
            "of a whole corpus" if part is None else f"of part {part}"
            for part in (previous.part, shard)
        )
        raise ValueError(
            f"{output}: is the manifest {was}, and this scan would make one {now}; give another "
            "output"
        )


def _divided(everything: Discovery, shard: Part | None) -> tuple[Discovery, set[int]]:
    """The files of a part, and the sizes of all others.

    Roots are those of all files, so that they are named alike in each part.
    """
    if shard is None:
        return everything, set()
    own, elsewhere = [], set()
    for file in everything.files:
        if shard.has_file(file.path):
            own.append(file)
        else:
            elsewhere.add(file.size)
    return replace(everything, files=own), elsewhere


def _unmatched(
    labels: Labels | None, everything: Discovery, shard: Part | None
) -> list[str] | None:
    """Lines of the labels that match no file at all; None where it takes keys to tell.

    Before anything is read, so that a file of labels that fits nothing is told of at once.
    """
    if labels is None:
        return None
    if not labels.by_key:
        return match_files(labels, [file.path for file in everything.files]).unmatched
    if shard is not None:
        raise ValueError(
            f"{labels.source}: names keys, which only all parts together have; scan the parts "
            "without it, merge them, and scan into the merged manifest with it: no file is read "
            "again"
        )
    return None


def _check_settings(settings: ScanSettings, output: Path, workers: int) -> None:
    if not 0 <= settings.min_duration < math.inf:
        raise ValueError("the minimum duration must be 0 or more seconds")
    least = max(settings.min_duration, 1e-3)
    if settings.segment is not None and not settings.segment >= least:
        raise ValueError(
            f"segments of {settings.segment:g} s are shorter than the minimum duration of "
            f"{settings.min_duration:g} s; lengthen them or lower it"
        )
    if workers < 0:
        raise ValueError("workers must be 0 or more processes")
    if output.is_dir() or not output.parent.is_dir():
        raise ValueError(f"{output}: give a file in a folder that exists, such as corpus.parquet")


def _read_labels(path: Path | None, previous: Corpus | None, output: Path) -> Labels | None:
    if path is not None:
        return read_labels(path)
    if previous is not None and (previous.label_names or previous.has_splits):
        held = ", ".join(previous.label_names) or SPLIT
        raise ValueError(
            f"{output} has labels ({held}), which this scan would lose; give the labels (or the "
            "layout) again, or another output"
        )
    return None


def _check_group(labels: Labels | None, group_by: str | None) -> None:
    if group_by is None:
        return
    if labels is None:
        raise ValueError(f"grouping by {group_by!r} needs labels; give the file of labels")
    if group_by not in labels.columns:
        known = ", ".join(labels.columns)
        raise ValueError(f"{labels.source} has no column {group_by!r} to group by; it has {known}")


def _report(
    corpus: Corpus,
    output: Path,
    discovery: Discovery,
    collected: Collected,
    rows: Assembled,
    seconds: float,
) -> ScanReport:
    status = corpus.column("status")
    usable = status == OK
    both = corpus.content().both
    unlabelled: list[str] = []
    if rows.match is not None:
        path = corpus.column("path")
        unlabelled = sorted(set(path[rows.match.line < 0].tolist()))
    return ScanReport(
        output=str(output),
        part="" if corpus.part is None else str(corpus.part),
        files=len(discovery.files),
        instances=len(corpus),
        hours=float(both[usable].sum()) / 3600,
        statuses=dict(Counter(status.tolist())),
        reasons=reasons_of(corpus),
        reused=collected.reused,
        new=collected.new,
        changed=collected.changed,
        gone=collected.gone,
        verified=collected.verified,
        duplicates=int(corpus.is_duplicate().sum()),
        skipped=discovery.skipped,
        other=most_frequent(discovery.other),
        cut_short=cut_short(corpus),
        labels=corpus.label_names,
        unmatched=[] if rows.match is None else rows.match.unmatched,
        unlabelled=len(unlabelled),
        unlabelled_example=unlabelled[0] if unlabelled else "",
        unknown_splits=unknown_splits(corpus),
        seconds=seconds,
    )


def _with_listing(report: ScanReport, located: Located) -> ScanReport:
    return replace(
        report,
        listed=len(located.listing.items),
        absent=Named.of(located.absent),
        unlisted=Named.of(located.unlisted),
        notes=located.listing.notes,
    )
