"""What is prepared of a corpus, and in which shard it goes: from its manifest alone."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.manifest import LABEL_PREFIX, SPLIT, Corpus
from earsight.corpus.status import OK, first_fault
from earsight.media.transcode import Stretch
from earsight.media.types import Coding

Ints = NDArray[np.int64]

SCHEMA = 1
"""Version of the shards."""

SHARDS = "shards.json"
"""The file that marks a folder of shards, and says of what and how they are made."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which rows of a manifest go into which shard.

    Attributes:
        rows: ``(N,)`` rows that are prepared, in their order.
        shard: ``(N,)`` the shard of each, from 0 on, ascending.
        stretches: ``N`` parts of files.
        shards: how many there are.
        name: a hash of the corpus and of how it is coded.
    """

    rows: Ints
    shard: Ints
    stretches: Sequence[Stretch]
    shards: int
    name: str


def usable_rows(corpus: Corpus) -> Ints:
    """Rows that some task can use: with pictures, with sound, or both; copies left out."""
    content, least = corpus.content(), corpus.settings.min_duration
    useful = np.zeros(len(corpus), bool)
    for picture, sound in ((True, True), (True, False), (False, True)):
        useful |= first_fault(content, least, picture=picture, sound=sound) == OK
    return np.flatnonzero(useful & ~corpus.is_duplicate()).astype(np.int64)


def make_plan(corpus: Corpus, coding: Coding, shard_seconds: float) -> Plan:
    """Divide a corpus into shards of about equal time.

    Args:
        corpus: what is prepared.
        coding: how.
        shard_seconds: of the instances in a shard.
    """
    rows = usable_rows(corpus)
    length = (corpus.column("end") - corpus.column("start"))[rows]
    begins = np.cumsum(length) - length
    _, shard = np.unique((begins // shard_seconds).astype(np.int64), return_inverse=True)
    return Plan(
        rows=rows,
        shard=shard.astype(np.int64),
        stretches=_stretches(corpus, rows),
        shards=int(shard[-1]) + 1 if len(rows) else 0,
        name=_name(corpus, coding, shard_seconds),
    )


def _stretches(corpus: Corpus, rows: Ints) -> list[Stretch]:
    chosen = corpus.select(np.isin(np.arange(len(corpus)), rows))
    content, paths = chosen.content(), chosen.absolutes()
    start, end, fps = (chosen.column(name) for name in ("start", "end", "video_fps"))
    video, audio = (_spans(chosen, kind, start, end) for kind in ("video", "audio"))
    seen, heard = (chosen.column(f"{kind}_stream").tolist() for kind in ("video", "audio"))
    return [
        Stretch(
            path=paths[at],
            video=video[at] if content.has_video[at] else None,
            audio=audio[at] if content.has_audio[at] else None,
            fps=float(fps[at]),
            video_stream=seen[at] if content.has_video[at] else None,
            audio_stream=heard[at] if content.has_audio[at] else None,
        )
        for at in range(len(rows))
    ]


def _spans(
    corpus: Corpus, kind: str, start: NDArray[np.float64], end: NDArray[np.float64]
) -> list[tuple[float, float]]:
    first = corpus.column(f"{kind}_start")
    low, high = (
        np.maximum(start, first),
        np.minimum(end, first + corpus.column(f"{kind}_duration")),
    )
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _name(corpus: Corpus, coding: Coding, shard_seconds: float) -> str:
    """A hash of all that decides what the shards hold, but for the folders of the sources."""
    about = {"schema": SCHEMA, "coding": asdict(coding), "seconds": shard_seconds}
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=12)
    numbers = ("key", "size", "mtime_ns", "start", "end", "video_start", "audio_start")
    for name in numbers:
        digest.update(np.ascontiguousarray(corpus.column(name)).tobytes())
    texts = [
        n for n in corpus.table.column_names if n in {SPLIT, "group"} or n.startswith(LABEL_PREFIX)
    ]
    for name in ["path", *sorted(texts)]:
        digest.update(json.dumps([name, *corpus.table.column(name).to_pylist()]).encode())
    return digest.hexdigest()
