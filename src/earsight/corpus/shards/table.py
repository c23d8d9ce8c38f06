"""The manifest of prepared shards: that of the corpus, with where each clip now lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from earsight.corpus.keys import key_text
from earsight.corpus.manifest import HERE, MEMBER_FIELDS, Corpus
from earsight.corpus.shards.plan import Plan
from earsight.corpus.shards.write import Contents, Placed, archive_name
from earsight.media.types import Coding

_ROOT = "#shards"


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """What became of each of ``R`` rows.

    Attributes:
        corpus: the rows as they were.
        placed: where each lies; None for those that were left out or could not be made.
        made: ``(R,)`` whether it lies anywhere.
        path: ``R`` archives and names.
        zero: ``(R,)`` seconds into the source at which the clip begins.
        failed: ``R`` reasons why it could not be made; None where that is not so.
    """

    corpus: Corpus
    placed: Sequence[Placed | None]
    made: NDArray[np.bool_]
    path: Sequence[str]
    zero: NDArray[np.float64]
    failed: Sequence[str | None]

    def column(self, name: str, new: ArrayLike) -> NDArray[Any]:
        """A column with new values for the clips made; the others keep what they had."""
        return np.where(self.made, new, self.corpus.column(name))

    def fact(self, name: str) -> list[Any]:
        """A fact of each clip's pictures; 0 where there is no clip."""
        return [0 if place is None else getattr(place, name) for place in self.placed]


def prepared_corpus(
    corpus: Corpus, plan: Plan, contents: Sequence[Contents], coding: Coding
) -> Corpus:
    """The corpus of the shards.

    Keys, groups, labels, splits and statuses are those of the corpus; times count from the
    beginning of each clip. Copies lie where their originals do. What could not be prepared keeps
    its row, so that a run may go on with the same rows, but has no place.

    Args:
        corpus: what was prepared.
        plan: of its shards.
        contents: of each shard.
        coding: of the clips.
    """
    rows = _rows(corpus, plan, contents)
    columns = {name: corpus.table.column(name) for name in corpus.table.column_names}
    new: dict[str, ArrayLike | list[Any]] = {
        "path": list(rows.path),
        "root": [_ROOT] * len(corpus),
        "reason": [
            text if why is None else f"could not be prepared: it {why}"
            for text, why in zip(columns["reason"].to_pylist(), rows.failed, strict=True)
        ],
        **_file_facts(rows),
        **_stream_facts(rows, coding),
    }
    for name, values in new.items():
        columns[name] = pa.array(values, columns[name].type)
    return replace(
        corpus,
        table=pa.table(columns | _places(rows)),
        roots={_ROOT: HERE},
        prepared=coding,
    )


def _rows(corpus: Corpus, plan: Plan, contents: Sequence[Contents]) -> _Rows:
    key = corpus.column("key").tolist()
    copied = corpus.table.column("duplicate_of").to_pylist()
    owner = [
        own if original is None else original for own, original in zip(key, copied, strict=True)
    ]
    placed = {k: place for one in contents for k, place in one.placed.items()}
    failed: Mapping[int, str] = {k: why for one in contents for k, why in one.failed.items()}
    planned = [key[row] for row in plan.rows.tolist()]
    zero = dict(zip(planned, (stretch.zero for stretch in plan.stretches), strict=True))
    shard = dict(zip(planned, plan.shard.tolist(), strict=True))
    path = [
        f"{archive_name(shard[k])}/{key_text(k)}.mp4" if k in placed else before
        for k, before in zip(owner, corpus.table.column("path").to_pylist(), strict=True)
    ]
    return _Rows(
        corpus=corpus,
        placed=[placed.get(k) for k in owner],
        made=np.array([k in placed for k in owner], np.bool_),
        path=path,
        zero=np.array([zero[k] if k in placed else 0.0 for k in owner]),
        failed=[failed.get(k) for k in owner],
    )


def _places(rows: _Rows) -> dict[str, pa.Array]:
    """``MEMBER_FIELDS``: where each clip lies, and what it was made of."""
    before = rows.corpus
    values: dict[str, Any] = {
        name: [None if place is None else getattr(place, name) for place in rows.placed]
        for name in ("offset", "length", "checksum")
    }
    values["source"] = before.table.column("path").to_pylist()
    values["source_fps"] = before.column("video_fps")
    values["source_side"] = np.minimum(before.column("width"), before.column("height"))
    return {name: pa.array(values[name], MEMBER_FIELDS.field(name).type) for name in values}


def _file_facts(rows: _Rows) -> dict[str, ArrayLike | list[Any]]:
    end = rows.corpus.column("end") - rows.zero
    return {
        "start": rows.column("start", np.maximum(0.0, rows.corpus.column("start") - rows.zero)),
        "end": rows.column("end", end),
        "size": rows.column("size", rows.fact("length")),
        "file_duration": rows.column("file_duration", end),
        "notes": [
            "" if made else text
            for made, text in zip(
                rows.made, rows.corpus.table.column("notes").to_pylist(), strict=True
            )
        ],
        "rotation": rows.column("rotation", 0),
        "keyframes": [[] if place is None else place.keyframes for place in rows.placed],
    }


def _stream_facts(rows: _Rows, coding: Coding) -> dict[str, ArrayLike | list[Any]]:
    """What the clips' streams are: pictures first, then sound."""
    content = rows.corpus.content()
    seen, heard = content.has_video, content.has_audio
    facts: dict[str, ArrayLike | list[Any]] = {
        "video_streams": rows.column("video_streams", seen),
        "audio_streams": rows.column("audio_streams", heard),
        "video_stream": rows.column("video_stream", np.where(seen, 0, -1)),
        "audio_stream": rows.column("audio_stream", np.where(heard, seen.astype(int), -1)),
        "video_codec": rows.column("video_codec", np.where(seen, "h264", "")),
        "audio_codec": rows.column("audio_codec", np.where(heard, "flac", "")),
        "pixel_format": rows.column("pixel_format", np.where(seen, "yuv420p", "")),
        "width": rows.column("width", rows.fact("width")),
        "height": rows.column("height", rows.fact("height")),
        "video_fps": rows.column("video_fps", rows.fact("fps")),
        # As estimated for the corpus, or whether a clip counts as still would depend on this.
        "video_frames": rows.column("video_frames", np.round(content.frames)),
        "audio_rate": rows.column("audio_rate", np.where(heard, coding.rate, 0)),
        "audio_channels": rows.column("audio_channels", heard),
    }
    for kind, there in (("video", seen), ("audio", heard)):
        first, last = _span(rows.corpus, kind)
        facts[f"{kind}_start"] = rows.column(
            f"{kind}_start", np.where(there, first - rows.zero, 0.0)
        )
        facts[f"{kind}_duration"] = rows.column(
            f"{kind}_duration", np.where(there, last - first, 0.0)
        )
    return facts


def _span(corpus: Corpus, kind: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where a stream begins and ends within each instance."""
    begin = corpus.column(f"{kind}_start")
    first = np.maximum(corpus.column("start"), begin)
    last = np.minimum(corpus.column("end"), begin + corpus.column(f"{kind}_duration"))
    return first, last
