"""Gathering the facts of files: what did not change is taken from the earlier scan."""

from collections import Counter
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from earsight.corpus.discover import Discovery, absolute_path
from earsight.corpus.facts import (
    FACT_FIELDS,
    Probe,
    Unread,
    Verify,
    content_hash,
    fact_table,
    known_facts,
    read_all,
    read_facts,
)
from earsight.corpus.manifest import Corpus
from earsight.corpus.parallel import Lost, each
from earsight.media.types import Limits, MediaInfo

Progress = Callable[[str, int, int], None]
"""Told of each step: what is being done, how many files of it are done, and of how many."""

_BATCH = 4096
# A process gets a little longer than the reader gives itself, whose own message is the better one.
_GRACE = 5.0
_DECODE_PACE = 2.0


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files are read.

    Attributes:
        probe: reads the facts of a file.
        verify: decodes a file in full; None where the scan is not deep.
        limits: what a file may cost.
        workers: processes; 0 for none but this one.
        progress: told of each step.
        elsewhere: sizes of files that other parts read: a file may be a copy of one of them.
    """

    probe: Probe
    verify: Verify | None
    limits: Limits
    workers: int
    progress: Progress | None = None
    elsewhere: Set[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Collected:
    """Facts, and how they were come by.

    Attributes:
        facts: ``FACT_FIELDS``, one row per found file, in their order.
        reused: files taken from the earlier scan.
        new: files that it did not have.
        changed: files read again.
        gone: files of the earlier scan that are no longer found.
        verified: files decoded in full by this scan.
    """

    facts: pa.Table
    reused: int
    new: int
    changed: int
    gone: int
    verified: int = 0


def collect(discovery: Discovery, previous: Corpus | None, reading: Reading) -> Collected:
    """The facts of all found files; only those that are new or changed are read.

    A file is unchanged if its path, size and time of change are as before. Unreadable ones are
    tried again if the reason may have passed, or other limits are set.
    """
    files = discovery.files
    known = FACT_FIELDS.empty_table() if previous is None else known_facts(previous)
    limits_differ = previous is not None and previous.settings.limits != reading.limits
    had, source = _compare(discovery, known, limits_differ)
    fresh = np.flatnonzero(source < 0)
    tables = [known.take(pa.array(source[source >= 0])), *_read(discovery, fresh, reading)]
    order = np.argsort(np.concatenate([np.flatnonzero(source >= 0), fresh]), kind="stable")
    facts = pa.concat_tables(tables).take(pa.array(order))
    facts = _replaced(facts, "root", [file.root for file in files])
    paths = _absolutes(discovery)
    collected = Collected(
        facts=_hashed(facts, paths, reading),
        reused=int((source >= 0).sum()),
        new=int((~had).sum()),
        changed=int((had & (source < 0)).sum()),
        gone=known.num_rows - int(had.sum()),
    )
    return collected if reading.verify is None else _verified(collected, paths, reading)


def _absolutes(discovery: Discovery) -> list[str]:
    return [absolute_path(f.path, f.root, discovery.roots[f.root]) for f in discovery.files]


def _compare(
    discovery: Discovery, known: pa.Table, limits_differ: bool
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Per file: whether the earlier scan had it, and its row there if it can be reused, else -1."""
    names = ("path", "size", "mtime_ns", "retry", "error")
    path, size, mtime_ns, retry, error = (known.column(name).to_pylist() for name in names)
    where = {name: row for row, name in enumerate(path)}
    had = np.zeros(len(discovery.files), bool)
    source = np.full(len(discovery.files), -1, np.int64)
    for at, file in enumerate(discovery.files):
        row = where.get(file.path)
        if row is None:
            continue
        had[at] = True
        same = size[row] == file.size and mtime_ns[row] == file.mtime_ns
        again = retry[row] or (limits_differ and error[row] != "")
        if same and not again:
            source[at] = row
    return had, source


def _read(discovery: Discovery, fresh: NDArray[np.int64], reading: Reading) -> list[pa.Table]:
    """Tables that hold the facts of the files at ``fresh``, in that order."""
    files = [discovery.files[at] for at in fresh]
    paths = [absolute_path(f.path, f.root, discovery.roots[f.root]) for f in files]
    read = partial(read_facts, probe=reading.probe, limits=reading.limits)
    seconds = [reading.limits.seconds + min(reading.limits.seconds, _GRACE)] * len(paths)
    tables: list[pa.Table] = []
    order: list[int] = []
    batch: list[tuple[int, MediaInfo | Unread | Lost]] = []

    def flush() -> None:
        order.extend(at for at, _ in batch)
        tables.append(fact_table([files[at] for at, _ in batch], [info for _, info in batch]))
        batch.clear()

    results = each(read, paths, workers=reading.workers, seconds=seconds)
    for done, result in enumerate(results, 1):
        batch.append(result)
        if len(batch) == _BATCH:
            flush()
        _tell(reading, "reading", done, len(paths))
    flush()
    return [pa.concat_tables(tables).take(pa.array(np.argsort(order, kind="stable")))]


def _hashed(facts: pa.Table, paths: Sequence[str], reading: Reading) -> pa.Table:
    """The facts with the content's hash of readable files that share their size with another."""
    content, error, retry = (
        facts.column(name).to_pylist() for name in ("content", "error", "retry")
    )
    size = facts.column("size").to_pylist()
    readable = [at for at, text in enumerate(error) if not text]
    sizes = Counter(size[at] for at in readable)
    shared = {one for one, count in sizes.items() if count > 1} | reading.elsewhere
    wanted = [at for at in readable if content[at] is None and size[at] in shared]
    with ThreadPoolExecutor(max(1, reading.workers)) as threads:
        hashes = threads.map(content_hash, [paths[at] for at in wanted])
        for done, (at, result) in enumerate(zip(wanted, hashes, strict=True), 1):
            if isinstance(result, Unread):
                error[at], retry[at] = result.reason, True
            else:
                content[at] = result
            _tell(reading, "comparing", done, len(wanted))
    facts = _replaced(facts, "content", content)
    return _replaced(_replaced(facts, "error", error), "retry", retry)


def _verified(collected: Collected, paths: Sequence[str], reading: Reading) -> Collected:
    """The same after files that were never decoded in full have been."""
    assert reading.verify is not None
    facts, limits = collected.facts, reading.limits
    names = ("error", "retry", "verified", "file_duration")
    error, retry, verified, duration = (facts.column(name).to_pylist() for name in names)
    wanted = [at for at, text in enumerate(error) if not text and not verified[at]]
    # The longer a file, the longer it may take to decode.
    allowed = [limits.seconds + _DECODE_PACE * duration[at] for at in wanted]
    items = [(paths[at], replace(limits, seconds=s)) for at, s in zip(wanted, allowed, strict=True)]
    results = each(
        partial(read_all, verify=reading.verify),
        items,
        workers=reading.workers,
        seconds=[seconds + _GRACE for seconds in allowed],
    )
    for done, (number, result) in enumerate(results, 1):
        at = wanted[number]
        verified[at] = True
        if result is not None:
            error[at] = result.reason
            retry[at] = isinstance(result, Lost) or result.passing
        _tell(reading, "decoding", done, len(wanted))
    for name, values in (("error", error), ("retry", retry), ("verified", verified)):
        facts = _replaced(facts, name, values)
    return replace(collected, facts=facts, verified=len(wanted))


def _replaced(facts: pa.Table, name: str, values: Sequence[object]) -> pa.Table:
    kind = FACT_FIELDS.field(name)
    return facts.set_column(facts.schema.get_field_index(name), kind, pa.array(values, kind.type))


def _tell(reading: Reading, step: str, done: int, total: int) -> None:
    if reading.progress is not None:
        reading.progress(step, done, total)
