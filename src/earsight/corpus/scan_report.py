"""What a scan found, for people and machines."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import pyarrow.compute as pc

from earsight.corpus.discover import Skipped
from earsight.corpus.manifest import NOTE_SEPARATOR, Corpus
from earsight.corpus.status import OK, STATUSES
from earsight.media.types import CUT_SHORT

_SHOWN = 10
_WIDEST = 80


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why instances are not ``ok``: how many, and one of their files."""

    status: str
    reason: str
    instances: int
    example: str


@dataclass(frozen=True, kw_only=True)
class Named:
    """How many paths, and the first few."""

    count: int = 0
    first: Sequence[str] = ()

    @classmethod
    def of(cls, paths: Sequence[str]) -> Self:
        """Of all paths."""
        return cls(count=len(paths), first=list(paths[:_SHOWN]))


class Noted(NamedTuple):
    """A file that can be used, and what is to be told of it all the same."""

    path: str
    note: str


@dataclass(frozen=True, kw_only=True)
class ScanReport:
    """What a scan found and did.

    Attributes:
        output: the manifest it wrote.
        files: media files found.
        instances: rows of the manifest.
        hours: of all instances that are ``ok``, copies included.
        statuses: instances per status.
        reasons: why instances are not ``ok``, the most frequent first.
        reused: files taken from the earlier scan unread.
        new: files that it did not have.
        changed: files read again, because they changed or could not be read then.
        gone: files of the earlier scan that are no longer there.
        verified: files decoded in full by this scan.
        duplicates: instances that are exact copies of earlier ones.
        skipped: files and folders that could not be looked at.
        other: files that are no media by their extension, by that extension; the most frequent
            first, and what is left of many as ``others``.
        cut_short: files that hold less than their headers say, and are used as far as they go.
        labels: names of the label columns.
        unmatched: lines of the labels that match nothing.
        unlabelled: files without a label (0 where no labels were given).
        unlabelled_example: one of them.
        unknown_splits: instances by the name of a split that neither trains nor is held out.
        seconds: the scan took.
        listed: recordings that the data set's lists name (0 without a layout, as below).
        absent: those without a file, by where it would usually lie.
        unlisted: files that the lists do not name, or that repeat another; they were left out.
        notes: what else is to be told of the lists.
        part: which part of the files was read, as ``i/n``; empty for all. What concerns the listing
            (``skipped``, ``other``, ``unmatched``, ``absent``, ``unlisted``) is of all all the
            same.
    """

    output: str
    files: int
    instances: int
    hours: float
    statuses: dict[str, int]
    reasons: Sequence[Reason]
    reused: int
    new: int
    changed: int
    gone: int
    verified: int
    duplicates: int
    skipped: Sequence[Skipped]
    other: Mapping[str, int]
    cut_short: Sequence[Noted]
    labels: Sequence[str]
    unmatched: Sequence[str]
    unlabelled: int
    unlabelled_example: str
    seconds: float
    unknown_splits: Mapping[str, int] = field(default_factory=dict)
    listed: int = 0
    absent: Named = field(default_factory=Named)
    unlisted: Named = field(default_factory=Named)
    notes: Sequence[str] = ()
    part: str = ""


def reasons_of(corpus: Corpus) -> list[Reason]:
    """Reasons why instances are not ``ok``, by how often they hold, each with the first file."""
    bad = corpus.select(corpus.column("status") != OK)
    status, reason, path = (bad.column(name).tolist() for name in ("status", "reason", "path"))
    counts: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], str] = {}
    for at, why in enumerate(zip(status, reason, strict=True)):
        counts[why] += 1
        example.setdefault(why, path[at])
    return [
        Reason(status=why[0], reason=why[1], instances=count, example=example[why])
        for why, count in counts.most_common()
    ]


def cut_short(corpus: Corpus) -> list[Noted]:
    """The files that hold less than their headers say, each once."""
    mask = pc.match_substring(corpus.table.column("notes"), CUT_SHORT)
    cut = corpus.table.filter(mask).select(["path", "notes"]).to_pylist()
    notes = {row["path"]: row["notes"].split(NOTE_SEPARATOR) for row in cut}
    return [
        Noted(path, note.removeprefix(CUT_SHORT))
        for path, told in notes.items()
        for note in told
        if note.startswith(CUT_SHORT)
    ]


def most_frequent(other: Mapping[str, int]) -> dict[str, int]:
    """The first few kinds, and the rest as ``others``."""
    kinds = list(other.items())
    rest = sum(count for _, count in kinds[_SHOWN:])
    return dict(kinds[:_SHOWN]) | ({"others": rest} if rest else {})


def format_report(report: ScanReport) -> str:
    """A table of counts and the worst reasons, as plain text."""
    blocks = status_blocks(report.statuses, report.reasons)
    if report.skipped:
        blocks.append(skipped_lines(report.skipped, "could not be looked at"))
    if report.cut_short:
        blocks.append(skipped_lines(report.cut_short, "are cut short, and used as far as they go"))
    about = (
        (Named.of(report.unmatched), "labels match nothing"),
        (report.absent, f"of {report.listed} listed recordings are not there"),
        (report.unlisted, "files are not listed, or repeat others, and were left out"),
    )
    blocks += [named_lines(named, what) for named, what in about if named.count]
    if report.notes:
        blocks.append(list(report.notes))
    blocks.append(list(_summary(report)))
    return "\n\n".join("\n".join(block) for block in blocks)


def status_blocks(statuses: Mapping[str, int], reasons: Sequence[Reason]) -> list[list[str]]:
    """Lines of how many instances have each status, and of why they are not ``ok``."""
    blocks = [_table([[name, str(statuses.get(name, 0))] for name in STATUSES])]
    if reasons:
        rows = [
            [str(r.instances), r.status, shown(r.reason), shown(r.example)]
            for r in reasons[:_SHOWN]
        ]
        head = ["count", "status", "reason", "such as"]
        blocks.append([*_table([head, *rows]), *_more(len(reasons), "reasons")])
    return blocks


def skipped_lines(skipped: Sequence[Skipped | Noted], what: str) -> list[str]:
    """How many were left out, and the first of them with their reasons; nothing where none was."""
    if not skipped:
        return []
    lines = [f"  {shown(path)}: {reason}" for path, reason in skipped[:_SHOWN]]
    return [f"{len(skipped)} {what}:", *lines, *_more(len(skipped), "")]


def named_lines(named: Named, what: str) -> list[str]:
    """How many there are, and the first few paths."""
    lines = [f"  {shown(name)}" for name in named.first]
    return [f"{named.count} {what}:", *lines, *_more(named.count, "")]


def _summary(report: ScanReport) -> Iterable[str]:
    ok = report.statuses.get(OK, 0)
    yield (
        f"{report.files} files, {report.instances} instances, {ok} ok ({report.hours:.2f} hours), "
        f"in {report.seconds:.1f} s"
    )
    yield (
        f"{report.new} new, {report.changed} read again, {report.reused} unchanged, "
        f"{report.gone} gone" + (f", {report.verified} decoded" if report.verified else "")
    )
    if report.other:
        kinds = ", ".join(f"{shown(k) or 'no extension'} {n}" for k, n in report.other.items())
        yield f"{sum(report.other.values())} files of other kinds passed over: {kinds}"
    if report.duplicates:
        yield f"{report.duplicates} exact copies of others, left out unless asked for"
    if report.labels or report.unlabelled:
        unlabelled = f"; {report.unlabelled} files have none" if report.unlabelled else ""
        such = f", such as {shown(report.unlabelled_example)}" if report.unlabelled else ""
        yield f"labels: {', '.join(report.labels) or 'no columns'}{unlabelled}{such}"
    if report.unknown_splits:
        unknown = ", ".join(f"{shown(n)} ({count})" for n, count in report.unknown_splits.items())
        yield f"splits that neither train nor are held out: {unknown} (known: train, val, test)"
    yield f"written to {report.output}"
    if report.part:
        yield f"it is part {report.part} of the corpus; join all parts by `earsight merge`"


def shown(text: str) -> str:
    """Text of files for a terminal: without control characters, and not too long."""
    clean = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return clean if len(clean) <= _WIDEST else f"{clean[: _WIDEST // 2]}…{clean[-_WIDEST // 2 :]}"


def _more(count: int, what: str) -> list[str]:
    return [f"  … and {count - _SHOWN} more {what}".rstrip()] if count > _SHOWN else []


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side; those that begin with a number are set to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]

    def cell(text: str, width: int) -> str:
        return text.rjust(width) if text.isdigit() else text.ljust(width)

    return [
        "  " + "  ".join(cell(t, w) for t, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
