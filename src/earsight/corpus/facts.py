"""Facts of files as columns: read once, kept in the manifest, reused while a file is the same."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from earsight.corpus.discover import Found
from earsight.corpus.manifest import FILE_FIELDS, NOTE_SEPARATOR, Corpus
from earsight.corpus.parallel import Lost
from earsight.corpus.status import UNREADABLE
from earsight.media.types import AudioInfo, Limits, MediaError, MediaInfo, VideoInfo

Probe = Callable[[str, Limits], MediaInfo]
Verify = Callable[[str, Limits], object]

FACT_FIELDS = FILE_FIELDS.append(pa.field("error", pa.string()))
"""Columns of one row per file; ``error`` says why a file cannot be read, and is empty otherwise."""

_CHUNK = 1 << 20
_NO_VIDEO = VideoInfo(
    stream=-1,
    codec="",
    width=0,
    height=0,
    rotation=0,
    fps=0.0,
    frames=0,
    start=0.0,
    duration=0.0,
    pixel_format="",
)
_NOTHING = MediaInfo(duration=0.0, video=None, audio=None)
_NO_AUDIO = AudioInfo(stream=-1, codec="", rate=0, channels=0, start=0.0, duration=0.0)


@dataclass(frozen=True, kw_only=True)
class Unread:
    """Why a file cannot be read; ``passing`` where that may change without the file changing."""

    reason: str
    passing: bool


def read_facts(path: str, *, probe: Probe, limits: Limits) -> MediaInfo | Unread:
    """Probe a file; what cannot be read comes back as the reason."""
    try:
        with Path(path).open("rb") as file:
            empty = not file.read(1)
        if empty:
            return Unread(reason="is empty: it has no bytes", passing=False)
        return probe(path, limits)
    except OSError as error:
        return Unread(reason=_why(error), passing=True)
    except ValueError as error:
        return _refused(error)


def read_all(item: tuple[str, Limits], *, verify: Verify) -> Unread | None:
    """Decode a file in full, within its limits; None where that went well."""
    path, limits = item
    try:
        verify(path, limits)
    except OSError as error:
        return Unread(reason=_why(error), passing=True)
    except ValueError as error:
        return _refused(error)
    return None


def content_hash(path: str) -> str | Unread:
    """BLAKE2b (128 bits) of all bytes of a file."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with Path(path).open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        return Unread(reason=_why(error), passing=True)
    return digest.hexdigest()


def _refused(error: ValueError) -> Unread:
    passing = isinstance(error, MediaError) and error.passing
    return Unread(reason=str(error) or type(error).__name__, passing=passing)


def _why(error: OSError) -> str:
    return f"cannot be opened: {(error.strerror or str(error)).lower()}"


def fact_table(files: Sequence[Found], outcomes: Sequence[MediaInfo | Unread | Lost]) -> pa.Table:
    """One row of ``FACT_FIELDS`` per file."""
    rows = [_row(file, outcome) for file, outcome in zip(files, outcomes, strict=True)]
    return pa.Table.from_pylist(rows, schema=FACT_FIELDS)


def _row(file: Found, outcome: MediaInfo | Unread | Lost) -> dict[str, Any]:
    info, error, retry = _NOTHING, "", False
    if isinstance(outcome, MediaInfo):
        info = outcome
    else:
        error = outcome.reason
        retry = isinstance(outcome, Lost) or outcome.passing
    video, audio = info.video or _NO_VIDEO, info.audio or _NO_AUDIO
    return {
        **file._asdict(),
        "content": None,
        "verified": False,
        "retry": retry,
        "error": error,
        "file_duration": info.duration,
        "video_streams": info.video_streams,
        "audio_streams": info.audio_streams,
        "notes": NOTE_SEPARATOR.join(info.notes),
        "video_stream": video.stream,
        "video_codec": video.codec,
        "width": video.width,
        "height": video.height,
        "rotation": video.rotation,
        "video_fps": video.fps,
        "video_frames": video.frames,
        "video_start": video.start,
        "video_duration": video.duration,
        "pixel_format": video.pixel_format,
        "audio_stream": audio.stream,
        "audio_codec": audio.codec,
        "audio_rate": audio.rate,
        "audio_channels": audio.channels,
        "audio_start": audio.start,
        "audio_duration": audio.duration,
        "keyframes": sorted(video.keyframes),
    }


def known_facts(corpus: Corpus) -> pa.Table:
    """The facts of each file of an earlier scan, in its order."""
    table = corpus.table
    if not len(corpus):
        return FACT_FIELDS.empty_table()
    path = corpus.column("path")
    first = np.flatnonzero(np.concatenate([[True], path[1:] != path[:-1]]))
    # The keyframes of a file's instances follow one another, so the lists only need new ends.
    keyframes = _lists(table.column("keyframes"))
    offsets = keyframes.offsets.to_numpy()[np.append(first, len(corpus))]
    files = table.drop_columns(["keyframes"]).take(pa.array(first))
    unreadable = pc.equal(files.column("status"), UNREADABLE)
    columns = {name: files.column(name) for name in FILE_FIELDS.names if name != "keyframes"}
    columns["keyframes"] = pa.LargeListArray.from_arrays(pa.array(offsets), keyframes.values)
    columns["error"] = pc.if_else(unreadable, files.column("reason"), "")
    return pa.table(columns, schema=FACT_FIELDS)


def share_keyframes(facts: pa.Table, file: Any, start: Any) -> pa.Array:
    """The keyframes of each instance: a file's, parted at the starts of its instances.

    Args:
        facts: ``F`` files.
        file: ``(R,)`` the file of each instance, ascending.
        start: ``(R,)`` seconds at which the instances start, ascending within a file.
    """
    keyframes = _lists(facts.column("keyframes"))
    offsets = keyframes.offsets.to_numpy()
    times = keyframes.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]]
    start = start.astype(np.float32)  # rounded as the keyframes are, to compare alike
    owner = np.repeat(np.arange(facts.num_rows), np.diff(offsets))
    # Files and times sort together: an instance begins where its (file, start) would stand.
    order = np.lexsort(
        (
            np.append(np.ones(len(times)), np.zeros(len(start))),
            np.append(times, start),
            np.append(owner, file),
        )
    )
    is_start = order >= len(times)
    before = np.cumsum(~is_start)[is_start]
    first = np.append(True, file[1:] != file[:-1])
    # A keyframe before its file's first instance belongs to that one all the same.
    cuts = np.where(first, (offsets - offsets[0])[file], before)
    return pa.LargeListArray.from_arrays(
        pa.array(np.append(cuts, len(times)).astype(np.int64)),
        pa.array(times),
    )


def _lists(column: pa.ChunkedArray) -> pa.LargeListArray:
    """A list column as one array."""
    whole = column.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
