"""From facts of files to rows of the manifest: spans, keys, groups, statuses, copies, labels."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from earsight.corpus.facts import share_keyframes
from earsight.corpus.keys import key_text, keys_of
from earsight.corpus.labels import Labels, Match, labelled_columns, match_files, match_keys
from earsight.corpus.manifest import (
    FILE_FIELDS,
    INSTANCE_FIELDS,
    LABEL_PREFIX,
    SPLIT,
    ScanSettings,
)
from earsight.corpus.segments import Ints, Spans, cut
from earsight.corpus.status import content_of, first_fault, reasons

UInts = NDArray[np.uint64]
Texts = NDArray[np.object_]

_FIRST = ("key", "path", "root", "start", "end", "group", "status", "reason", "duplicate_of")


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """Rows of a manifest.

    Attributes:
        table: as :class:`earsight.corpus.manifest.Corpus` holds it.
        file: ``(R,)`` the file of each row.
        match: the labels' lines per row; None without labels.
    """

    table: pa.Table
    file: Ints
    match: Match | None


def assemble(
    facts: pa.Table, settings: ScanSettings, labels: Labels | None, *, whole: bool = True
) -> Assembled:
    """Cut files into instances and say of each what it is.

    Args:
        facts: ``FACT_FIELDS`` of the files, in the order of their paths.
        settings: of the scan.
        labels: of the corpus.
        whole: whether these are all files of the corpus, so that some label has to match.

    Raises:
        ValueError: no label matches, or two instances have one key (chance: n² / 2⁶⁵).
    """
    spans = cut(np.asarray(facts.column("file_duration").to_numpy()), settings.segment)
    paths = np.asarray(facts.column("path").to_numpy(), object)
    key = _keys(paths, spans)
    original = _originals(facts, spans)
    is_copy = original != np.arange(len(key))
    match, marked = _labelled(labels, paths, spans, key, whole)
    group = _groups(paths[spans.file], marked, settings.group_by)[original]
    error = np.asarray(facts.column("error").to_numpy(), object)[spans.file]
    status, reason = _statuses(facts, spans, error, settings.min_duration)
    columns = {
        "key": key,
        "start": spans.start,
        "end": spans.end,
        "group": group,
        "status": status,
        "reason": reason,
    }
    arrays = {n: pa.array(x, INSTANCE_FIELDS.field(n).type) for n, x in columns.items()}
    arrays["duplicate_of"] = pa.array(key[original], pa.uint64(), mask=~is_copy)
    repeated = facts.select([n for n in FILE_FIELDS.names if n != "keyframes"])
    repeated = repeated.take(pa.array(spans.file))
    arrays.update(zip(repeated.column_names, repeated.columns, strict=True))
    arrays["keyframes"] = share_keyframes(facts, spans.file, spans.start)
    names = [*_FIRST, *(name for name in FILE_FIELDS.names if name not in _FIRST)]
    table = pa.table({name: arrays[name] for name in names})
    for name, texts in marked.items():
        table = table.append_column(name if name == SPLIT else LABEL_PREFIX + name, texts)
    return Assembled(table=table, file=spans.file, match=match)


def _keys(paths: Texts, spans: Spans) -> UInts:
    bounds = np.searchsorted(spans.file, np.arange(len(paths) + 1))
    starts, ends = spans.key_start.tolist(), spans.key_end.tolist()
    keys: list[int] = []
    for path, low, high in zip(paths, bounds[:-1], bounds[1:], strict=True):
        keys += keys_of(path, zip(starts[low:high], ends[low:high], strict=True))
    key = np.array(keys, np.uint64)
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(key[order][1:] == key[order][:-1])
    if len(same):
        one, other = (paths[spans.file[order[same[0] + step]]] for step in (0, 1))
        raise ValueError(
            f"{one} and {other} have the same key {key_text(int(key[order[same[0]]]))}; "
            "rename one of them"
        )
    return key


def _originals(facts: pa.Table, spans: Spans) -> Ints:
    """``(R,)`` the row that each row copies; its own where it copies none.

    Files with equal content are cut alike, so the instances of a copy go with the original's.
    """
    number = facts.num_rows
    content = facts.column("content").combine_chunks().dictionary_encode()
    readable = np.asarray(facts.column("error").to_numpy(), object) == ""
    code = content.indices.to_numpy(zero_copy_only=False)
    known = np.flatnonzero(readable & ~np.isnan(code.astype(np.float64)))
    original = np.arange(number)
    _, first, inverse = np.unique(code[known], return_index=True, return_inverse=True)
    original[known] = known[first[inverse]]
    begins = np.searchsorted(spans.file, np.arange(number))
    counts = np.bincount(spans.file, minlength=number)
    # Facts read by different versions may differ by a rounding that changes the cut.
    original = np.where(counts[original] == counts, original, np.arange(number))
    within = np.arange(len(spans.file)) - begins[spans.file]
    return np.asarray(begins[original[spans.file]] + within, np.int64)


def _labelled(
    labels: Labels | None, paths: Texts, spans: Spans, key: UInts, whole: bool
) -> tuple[Match | None, dict[str, pa.Array]]:
    if labels is None:
        return None, {}
    if labels.by_key:
        match = match_keys(labels, key)
    else:
        of_files = match_files(labels, list(paths), some=whole)
        match = Match(line=of_files.line[spans.file], unmatched=of_files.unmatched)
    return match, labelled_columns(labels, match.line)


def _groups(paths: Texts, marked: dict[str, pa.Array], group_by: str | None) -> Texts:
    """The label to group by, or the file where an instance has none."""
    if group_by is None:
        return paths
    label = np.asarray(marked[group_by].to_numpy(zero_copy_only=False), object)
    return np.where(label == None, paths, label)  # noqa: E711 - element by element


def _statuses(
    facts: pa.Table, spans: Spans, error: Texts, min_duration: float
) -> tuple[Texts, Texts]:
    names = [f"{kind}_{fact}" for kind in ("video", "audio") for fact in ("stream", "start")]
    names += ["video_duration", "audio_duration", "video_frames", "video_fps"]
    columns = {name: facts.column(name).to_numpy()[spans.file] for name in names}
    columns |= {"start": spans.start, "end": spans.end, "readable": error == ""}
    status = first_fault(content_of(columns), min_duration)
    return status, reasons(status, error, min_duration)
