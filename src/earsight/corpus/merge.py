"""Joining manifests by key: parts of one scan, or scans of several places."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from earsight.corpus.assemble import assemble
from earsight.corpus.discover import absolute_path
from earsight.corpus.facts import FACT_FIELDS, Unread, content_hash, known_facts
from earsight.corpus.keys import key_text
from earsight.corpus.labels import Labels
from earsight.corpus.manifest import LABEL_PREFIX, SPLIT, Corpus, ScanSettings, read, write
from earsight.corpus.part import check_parts
from earsight.corpus.scan_report import Named, Reason, named_lines, reasons_of, status_blocks
from earsight.corpus.status import OK, UNREADABLE

Ints = NDArray[np.int64]

_SHOWN = 5
_UNNAMED = "#"


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """What manifests were joined to.

    Attributes:
        output: the manifest written.
        parts: manifests that were joined.
        files: in all.
        repeated: files that several of them had, alike; each is there once.
        hashed: files that were read to see whether they are copies of those of another manifest.
        instances: rows.
        hours: of all instances that are ``ok``, copies included.
        statuses: instances per status.
        reasons: why instances are not ``ok``, the most frequent first.
        unreadable: files that could not be read.
        duplicates: instances that are exact copies of earlier ones.
        seconds: the merge took.
    """

    output: str
    parts: int
    files: int
    repeated: int
    hashed: int
    instances: int
    hours: float
    statuses: Mapping[str, int]
    reasons: Sequence[Reason]
    unreadable: Named
    duplicates: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        blocks = status_blocks(self.statuses, self.reasons)
        if self.unreadable.count:
            blocks.append(named_lines(self.unreadable, "files could not be read"))
        ok = self.statuses.get(OK, 0)
        last = [
            f"{self.parts} manifests joined: {self.files} files, {self.instances} instances, {ok} "
            f"ok ({self.hours:.2f} hours), in {self.seconds:.1f} s"
        ]
        if self.repeated:
            last.append(f"{self.repeated} files were in several of them, alike")
        if self.hashed:
            last.append(f"{self.hashed} files read: another manifest has files of their size")
        if self.duplicates:
            last.append(f"{self.duplicates} exact copies of others, left out unless asked for")
        return "\n\n".join("\n".join(block) for block in [*blocks, [*last, f"in {self.output}"]])


def merge_manifests(places: Sequence[Path], output: Path) -> MergeReport:
    """Join manifests to the one that a single scan of all their files would have written.

    Facts of files are joined by path, of which keys are made, and copies are looked for anew.
    No file is read, unless manifests of different scans hold files of equal size.

    Args:
        places: the manifests, in any order: all parts of one scan, or of several whole scans.
        output: the manifest to write, in one step.

    Raises:
        ValueError: parts are missing, or manifests contradict each other: in what a file holds, in
            labels, in settings, or in where their sources lie; or ``output`` is a file that no
            merge made.
        OSError: the manifest cannot be written.
    """
    began = time.monotonic()
    if not places:
        raise ValueError("nothing to merge; give the manifests of all parts")
    _check_output(output)
    found = [read(place, parts=True) for place in places]
    _check(found, places)
    roots, renamed = _roots(found, places)
    joined, origin = _joined(found, renamed)
    facts, repeated = _once(joined, origin, places)
    facts, hashed = _compared(facts, roots)
    labels = _labels(found, places)
    rows = assemble(facts, found[0].settings, labels)
    corpus = Corpus(table=rows.table, roots=roots, settings=found[0].settings)
    write(corpus, output)
    status = corpus.column("status")
    unreadable = corpus.column("path")[status == UNREADABLE].tolist()
    return MergeReport(
        output=str(output),
        parts=len(places),
        files=facts.num_rows,
        repeated=repeated,
        hashed=hashed,
        instances=len(corpus),
        hours=float(corpus.content().both[status == OK].sum()) / 3600,
        statuses=dict(Counter(status.tolist())),
        reasons=reasons_of(corpus),
        unreadable=Named.of(unreadable),
        duplicates=int(corpus.is_duplicate().sum()),
        seconds=time.monotonic() - began,
    )


def _check_output(output: Path) -> None:
    """Refuse to replace anything but the manifest of a whole corpus."""
    if output.is_dir() or not output.parent.is_dir():
        raise ValueError(f"{output}: give a file in a folder that exists, such as corpus.parquet")
    if not output.exists():
        return
    earlier = read(output, parts=True)
    if earlier.prepared is not None:
        raise ValueError(f"{output}: is the manifest of prepared shards; give another output")
    if earlier.part is not None:
        raise ValueError(f"{output}: is the manifest of part {earlier.part}; give another output")


def _check(found: Sequence[Corpus], places: Sequence[Path]) -> None:
    """Refuse what cannot be joined: all faults that differ between two manifests at once."""
    for one, place in zip(found, places, strict=True):
        if one.prepared is not None:
            raise ValueError(f"{place}: is the manifest of prepared shards; give their folders")
    parts = [one.part for one in found]
    if None in parts and any(part is not None for part in parts):
        whole = places[parts.index(None)]
        raise ValueError(f"{whole}: is whole, and others are parts; merge parts first, alone")
    first, faults = found[0], []
    for one, place in zip(found[1:], places[1:], strict=True):
        differ = [*_differing(first.settings, one.settings), *_columns(first, one)]
        if differ:
            faults.append(f"{place}: differs from {places[0]} in {', '.join(differ)}")
    if faults:
        raise ValueError("; ".join([*faults, "scan them with the same settings and labels"]))
    divided = [part for part in parts if part is not None]
    if divided:
        check_parts(divided, "scan")


def _differing(one: ScanSettings, other: ScanSettings) -> list[str]:
    theirs = asdict(other)
    return [name for name, value in asdict(one).items() if value != theirs[name]]


def _columns(one: Corpus, other: Corpus) -> list[str]:
    ours, theirs = ({*c.label_names} | ({SPLIT} if c.has_splits else set()) for c in (one, other))
    return [f"label {name}" for name in sorted(ours ^ theirs)]


def _roots(
    found: Sequence[Corpus], places: Sequence[Path]
) -> tuple[dict[str, str], list[dict[str, str]]]:
    """All roots, and for each manifest what its own are called among them.

    Unnamed roots stand in no path, so those of different folders get different numbers.
    """
    roots: dict[str, str] = {}
    renamed: list[dict[str, str]] = []
    for one, place in zip(found, places, strict=True):
        names = {}
        for name, folder in one.roots.items():
            if not name.startswith(_UNNAMED):
                if roots.setdefault(name, folder) != folder:
                    raise ValueError(
                        f"{place}: its source {name!r} lies in {folder}, that of another manifest "
                        f"in {roots[name]}; scan all parts where the sources have the same path"
                    )
                names[name] = name
                continue
            known = [n for n, f in roots.items() if n.startswith(_UNNAMED) and f == folder]
            number = sum(n.startswith(_UNNAMED) for n in roots) + 1
            names[name] = known[0] if known else f"{_UNNAMED}{number}"
            roots[names[name]] = folder
        renamed.append(names)
    return roots, renamed


def _joined(found: Sequence[Corpus], renamed: Sequence[Mapping[str, str]]) -> tuple[pa.Table, Ints]:
    """Facts of all files by path, and the manifest that each is from."""
    tables = []
    for one, names in zip(found, renamed, strict=True):
        facts = known_facts(one)
        roots = pa.array([names[name] for name in facts.column("root").to_pylist()], pa.string())
        tables.append(_replaced(facts, "root", roots))
    origin = np.repeat(np.arange(len(tables)), [table.num_rows for table in tables])
    joined = pa.concat_tables(tables)
    path = np.asarray(joined.column("path").to_numpy(), object)
    order = np.lexsort((origin, path)) if len(path) else np.empty(0, np.int64)
    return joined.take(pa.array(order)), origin[order]


def _once(joined: pa.Table, origin: Ints, places: Sequence[Path]) -> tuple[pa.Table, int]:
    """Each file once, and how often one was repeated.

    Raises:
        ValueError: manifests tell different things of a file; names the first few.
    """
    path = np.asarray(joined.column("path").to_numpy(), object)
    again = np.flatnonzero(np.append(False, path[1:] == path[:-1])) if len(path) else path
    if not len(again):
        return joined, 0
    told = [name for name in FACT_FIELDS.names if name not in {"content", "verified"}]
    content = joined.column("content").to_pylist()
    faults, keep = [], np.ones(len(path), bool)
    first = 0
    for at in again.tolist():
        first = at - 1 if keep[at - 1] else first
        keep[at] = False
        one, other = (joined.slice(row, 1).to_pylist()[0] for row in (first, at))
        differ = [name for name in told if one[name] != other[name]]
        if content[first] and content[at] and content[first] != content[at]:
            differ.append("content")
        content[first] = content[first] or content[at]
        if differ:
            pair = f"{places[origin[first]]} and {places[origin[at]]}"
            faults.append(f"{path[at]} ({', '.join(differ)}; {pair})")
    if faults:
        more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise ValueError(
            f"the manifests contradict each other about {len(faults)} files: "
            f"{'; '.join(faults[:_SHOWN])}{more}; scan again what is older"
        )
    joined = _replaced(joined, "content", pa.array(content, pa.string()))
    return joined.filter(pa.array(keep)), len(again)


def _compared(facts: pa.Table, roots: Mapping[str, str]) -> tuple[pa.Table, int]:
    """Hashes of the content of files that share their size with another, and of no others.

    Parts hash what shares its size with a file of any part, readable or not; manifests of different
    scans do not know of each other, so that files may have to be read now.
    """
    names = ("content", "error", "size", "path", "root")
    content, error, size, path, root = (facts.column(name).to_pylist() for name in names)
    counts = Counter(one for one, why in zip(size, error, strict=True) if not why)
    hashed = 0
    for at, why in enumerate(error):
        if why:
            continue
        if counts[size[at]] == 1:
            content[at] = None
        elif content[at] is None:
            place = absolute_path(path[at], root[at], roots[root[at]])
            result = content_hash(place)
            if isinstance(result, Unread):
                raise ValueError(
                    f"{place}: {result.reason}, but it has to be read once, since another manifest "
                    "has a file of its size; merge where it can be read, or scan again"
                )
            content[at], hashed = result, hashed + 1
    return _replaced(facts, "content", pa.array(content, pa.string())), hashed


def _labels(found: Sequence[Corpus], places: Sequence[Path]) -> Labels | None:
    """The labels of all instances, by key.

    Raises:
        ValueError: an instance has different labels in two manifests.
    """
    first = found[0]
    names = [n for n in first.table.column_names if n == SPLIT or n.startswith(LABEL_PREFIX)]
    if not names:
        return None
    key = np.concatenate([one.column("key") for one in found])
    texts = {name: np.concatenate([one.column(name) for one in found]) for name in names}
    unique, at, inverse = np.unique(key, return_index=True, return_inverse=True)
    for name, values in texts.items():
        wrong = np.flatnonzero(values[at[inverse]] != values)
        if len(wrong):
            path = np.concatenate([one.column("path") for one in found])
            row = int(wrong[0])
            one, other = values[at[inverse[row]]], values[row]
            raise ValueError(
                f"the manifests contradict each other about {name.removeprefix(LABEL_PREFIX)} of "
                f"{len(wrong)} instances: {path[row]} ({key_text(int(key[row]))}) is {one!r} in "
                f"one and {other!r} in another; scan again with the same labels"
            )
    return Labels(
        source=str(places[0]),
        by_key=True,
        names=[key_text(int(one)) for one in unique],
        columns={name.removeprefix(LABEL_PREFIX): x[at] for name, x in texts.items()},
    )


def _replaced(facts: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return facts.set_column(facts.schema.get_field_index(name), FACT_FIELDS.field(name), values)
