"""Preparing a corpus: every usable instance made anew, once, into shards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from earsight.corpus.facts import Unread
from earsight.corpus.instances import is_changed
from earsight.corpus.keys import key_text
from earsight.corpus.manifest import (
    LABEL_PREFIX,
    NAME,
    SPLIT,
    Corpus,
    read,
    resolved,
    write,
)
from earsight.corpus.marks import Marked, mark
from earsight.corpus.parallel import Lost, cores, each
from earsight.corpus.part import Part
from earsight.corpus.replacing import replacing
from earsight.corpus.shards.folder import begin, tidy
from earsight.corpus.shards.plan import Plan, make_plan
from earsight.corpus.shards.report import Failed, PrepareReport
from earsight.corpus.shards.table import prepared_corpus
from earsight.corpus.shards.write import (
    Contents,
    ShardWriter,
    archive_name,
    read_contents,
    write_contents,
)
from earsight.media.transcode import Made, Stretch, transcode
from earsight.media.types import Coding, Limits, MediaError

Progress = Callable[[int, int], None]

SHARD_SECONDS = 1200.0
"""Of the clips in a shard, about: some 70 MB."""

_GRACE = 5.0
_PACE = 10.0
"""Seconds that a second of media may take."""


def prepare(
    corpus: str | Path,
    output: Path,
    *,
    coding: Coding | None = None,
    shard_seconds: float = SHARD_SECONDS,
    shard: Part | None = None,
    workers: int | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> PrepareReport:
    """Make a corpus anew as shards, going on where a former call was stopped.

    Each shard is a tar archive of clips by key, written beside its place, synced and renamed. The
    folder's ``corpus.parquet``, written last, is a manifest that names each clip's bytes.

    Args:
        corpus: a manifest.
        output: the folder of the shards.
        coding: how pictures and sound are written.
        shard_seconds: of the instances in a shard.
        shard: make only the archives whose numbers are of this part. The folder may be one that
            jobs share, or one for each; :func:`earsight.corpus.shards.merge.merge_shards` writes
            the manifest of all.
        workers: processes; 0 for none but this one (where nothing can be timed out), None for one
            per core.
        limits: what a file may cost; to its ``seconds`` some are added for its length.
        progress: told of instances done, and of how many.

    Shards with clips that failed for a reason that may pass are made anew.

    Raises:
        ValueError: the corpus or a setting cannot be used, or the folder holds something else.
        OSError: the folder cannot be written.
    """
    began = time.monotonic()
    coding = coding or Coding()
    workers = cores() if workers is None else workers
    _check(coding, shard_seconds, workers)
    source = read(corpus)
    if source.prepared is not None:
        raise ValueError(f"{corpus}: is prepared already; give the manifest that it was made from")
    plan = make_plan(source, coding, shard_seconds)
    if not len(plan.rows):
        raise ValueError(f"{corpus}: holds nothing that can be prepared")
    begin(output, plan, coding, shard_seconds)
    own = [number for number in range(plan.shards) if shard is None or shard.has(number)]
    done = ((number, read_contents(output, number)) for number in own)
    whole = {number: known for number, known in done if known is not None and not known.passing}
    reused = len(whole)
    work = _Work(source, plan, coding, limits or Limits(), workers, progress)
    for number, found in work.write(output, own, [n for n in own if n not in whole]):
        whole[number] = found
    if shard is None:
        finish(source, plan, [whole[number] for number in own], coding, output)
    else:
        left_out = len(source) - len(plan.rows)
        mark(output, Marked(part=shard, corpus=resolved(corpus), left_out=left_out))
    report = report_of(source, plan, whole, output)
    part = "" if shard is None else str(shard)
    return replace(report, part=part, reused=reused, seconds=time.monotonic() - began)


def finish(
    source: Corpus, plan: Plan, contents: Sequence[Contents], coding: Coding, output: Path
) -> None:
    """Write the manifest of shards that are all whole."""
    write(prepared_corpus(source, plan, contents, coding), output / NAME)
    tidy(output)


def _check(coding: Coding, shard_seconds: float, workers: int) -> None:
    faults = [
        (
            coding.short_side < 16 or bool(coding.short_side % 2),
            "short_side: must be an even number of 16 pixels or more",
        ),
        (not 0 < coding.fps <= 240, "fps: must lie between 0 and 240, above 0"),
        (not 1000 <= coding.rate <= 192_000, "rate: must lie between 1000 and 192000"),
        (coding.keyframe_every < 1, "keyframe_every: must be 1 or more frames"),
        (not 0 < coding.crf <= 51, "crf: must lie between 0 and 51, above 0"),
        (shard_seconds <= 0, "shard_seconds: must be positive"),
        (workers < 0, "workers: must be 0 or more processes"),
    ]
    wrong = [text for fault, text in faults if fault]
    if wrong:
        raise ValueError("; ".join(wrong))


@dataclass(frozen=True)
class _Item:
    """A clip to be made."""

    stretch: Stretch
    size: int
    coding: Coding
    limits: Limits


def _make(item: _Item) -> Made | Unread:
    """The clip, or why it cannot be made."""
    try:
        if is_changed(item.stretch.path, item.size):
            # Spans of what was there before; with that back in its place, it could be made.
            return Unread(reason="has changed since the scan; scan again", passing=True)
        return transcode(item.stretch, item.coding, item.limits)
    except MediaError as error:
        return Unread(reason=str(error), passing=error.passing)


class _Work:
    """Clips made by processes, written by this one in their order."""

    def __init__(
        self,
        corpus: Corpus,
        plan: Plan,
        coding: Coding,
        limits: Limits,
        workers: int,
        progress: Progress | None,
    ) -> None:
        self._plan, self._coding, self._limits, self._workers = plan, coding, limits, workers
        self._progress = progress
        self._keys = corpus.column("key").tolist()
        self._sizes = corpus.column("size").tolist()
        self._about = partial(_about, corpus, _columns(corpus))

    def write(
        self, folder: Path, own: Sequence[int], numbers: Sequence[int]
    ) -> Iterator[tuple[int, Contents]]:
        """Make, of the own shards, those of these numbers; each once it is whole."""
        places = np.flatnonzero(np.isin(self._plan.shard, numbers)).tolist()
        results = self._in_order(places, int(np.isin(self._plan.shard, own).sum()))
        for number in numbers:
            count = int((self._plan.shard == number).sum())
            with replacing(folder / archive_name(number)) as file:
                shard = ShardWriter(file)
                for _ in range(count):
                    at, made = next(results)
                    self._add(shard, at, made)
                contents = shard.finish()
            write_contents(folder, number, contents)
            yield number, contents

    def _add(self, shard: ShardWriter, at: int, made: Made | Unread) -> None:
        row = int(self._plan.rows[at])
        if isinstance(made, Unread):
            shard.fail(self._keys[row], made.reason, passing=made.passing)
        else:
            shard.add(self._keys[row], made, self._about(row, self._plan.stretches[at], made))

    def _in_order(self, places: Sequence[int], every: int) -> Iterator[tuple[int, Made | Unread]]:
        """Places and what was made of them; those that are done early wait for their turn."""
        items = [self._item(at) for at in places]
        seconds = [item.limits.seconds + _GRACE for item in items]
        finished = every - len(places)
        waiting: dict[int, Made | Unread] = {}
        turn = 0
        for number, result in each(_make, items, workers=self._workers, seconds=seconds):
            waiting[number] = (
                Unread(reason=result.reason, passing=True) if isinstance(result, Lost) else result
            )
            finished += 1
            if self._progress is not None:
                self._progress(finished, every)
            while turn in waiting:
                yield places[turn], waiting.pop(turn)
                turn += 1

    def _item(self, at: int) -> _Item:
        stretch = self._plan.stretches[at]
        spans = [span for span in (stretch.video, stretch.audio) if span is not None]
        length = max(high for _, high in spans) - stretch.zero
        limits = replace(self._limits, seconds=self._limits.seconds + _PACE * length)
        size = self._sizes[int(self._plan.rows[at])]
        return _Item(stretch, size, self._coding, limits)


def _columns(corpus: Corpus) -> Mapping[str, list[Any]]:
    names = ["key", "path", "start", "end", "group", *([SPLIT] if corpus.has_splits else [])]
    names += [LABEL_PREFIX + name for name in corpus.label_names]
    return {name: corpus.table.column(name).to_pylist() for name in names}


def _about(
    corpus: Corpus, columns: Mapping[str, list[Any]], row: int, stretch: Stretch, made: Made
) -> dict[str, Any]:
    """What goes with a clip in its archive, for whoever reads that alone."""
    about = {name: columns[name][row] for name in ("path", "start", "end", "group")}
    if corpus.has_splits:
        about[SPLIT] = columns[SPLIT][row]
    return {
        "key": key_text(columns["key"][row]),
        **about,
        "labels": {n: columns[LABEL_PREFIX + n][row] for n in corpus.label_names},
        "pictures": len(made.times),
        "sound": stretch.audio is not None,
    }


def report_of(
    corpus: Corpus, plan: Plan, contents: Mapping[int, Contents], output: Path
) -> PrepareReport:
    """What shards hold, by their numbers; of a part, or of all."""
    key, path = corpus.column("key").tolist(), corpus.column("path").tolist()
    rows = plan.rows[np.isin(plan.shard, [*contents])]
    of_key = {key[row]: path[row] for row in rows.tolist()}
    failed = [
        Failed(key=key_text(k), path=of_key[k], reason=reason, passing=k in one.passing)
        for _, one in sorted(contents.items())
        for k, reason in one.failed.items()
    ]
    size, start, end = (corpus.column(name)[rows] for name in ("size", "start", "end"))
    share = (end - start) / corpus.column("file_duration")[rows].clip(min=1e-9)
    return PrepareReport(
        output=str(output),
        clips=len(rows) - len(failed),
        hours=float((end - start).sum()) / 3600,
        shards=len(contents),
        reused=0,
        bytes=sum(one.size for one in contents.values()),
        source_bytes=round(float((size * share.clip(max=1.0)).sum())),
        left_out=len(corpus) - len(plan.rows),
        failed=failed,
        seconds=0.0,
    )
