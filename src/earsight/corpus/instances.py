"""The instances that a run works on, as plain arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.manifest import LABEL_SEPARATOR, Corpus
from earsight.media.members import file_behind, is_remote, parse_member

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NO_LABEL = -1


@dataclass(frozen=True, kw_only=True)
class Instances:
    """``N`` chosen instances; their position here is their row in a run.

    All times are seconds from the file's zero.

    Attributes:
        key: ``(N,)`` uint64.
        path: ``N`` absolute paths.
        size: ``(N,)`` int64, bytes of the file when it was scanned.
        mtime_ns: ``(N,)`` int64, when it had last been changed.
        group: ``(N,)`` objects (str).
        start: ``(N,)`` float64, where the instance starts in its file.
        end: ``(N,)`` float64, where it ends.
        width: ``(N,)`` int64, upright pixels; 0 where there is no picture.
        height: ``(N,)`` int64, likewise.
        fps: ``(N,)`` float64, average frames per second.
        video_stream: ``(N,)`` int64, container index of the stream; -1 where there is none.
        video_start: ``(N,)`` float64, where the stream starts (not cut to the instance).
        video_end: ``(N,)`` float64, where it ends.
        audio_stream: ``(N,)`` int64, as for video.
        audio_start: ``(N,)`` float64.
        audio_end: ``(N,)`` float64.
        has_video: ``(N,)`` bool, there is a picture within the instance.
        has_audio: ``(N,)`` bool, there is sound within the instance.
        labels: per label column ``(N,)`` int64 places in its vocabulary, -1 where there is none;
            or ``(N, classes)`` uint8, 1 where it holds, if an instance may have several.
        vocabulary: per label column its texts, of the whole corpus, numbers in their order.
    """

    key: NDArray[np.uint64]
    path: list[str]
    size: Ints
    mtime_ns: Ints
    group: NDArray[np.object_]
    start: Floats
    end: Floats
    width: Ints
    height: Ints
    fps: Floats
    video_stream: Ints
    video_start: Floats
    video_end: Floats
    audio_stream: Ints
    audio_start: Floats
    audio_end: Floats
    has_video: NDArray[np.bool_]
    has_audio: NDArray[np.bool_]
    labels: Mapping[str, NDArray[np.int64] | NDArray[np.uint8]]
    vocabulary: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.path)

    def take(self, rows: Ints) -> Self:
        """The instances at ``rows``, in that order."""
        arrays = {
            field.name: getattr(self, field.name)[rows]
            for field in fields(self)
            if field.name not in {"path", "labels", "vocabulary"}
        }
        labels = {name: codes[rows] for name, codes in self.labels.items()}
        return replace(self, path=[self.path[row] for row in rows], labels=labels, **arrays)


def instances(corpus: Corpus, mask: NDArray[np.bool_] | None = None) -> Instances:
    """The instances of a corpus where ``mask`` is true (all without one), in its order.

    Vocabularies are those of the whole corpus, so that codes mean the same in every split.
    """
    mask = np.ones(len(corpus), bool) if mask is None else mask
    chosen = corpus.select(mask)
    content = chosen.content()

    def column(name: str, kind: type[np.generic]) -> NDArray[np.generic]:
        return chosen.column(name).astype(kind)

    labels, vocabulary = {}, {}
    for name in corpus.label_names:
        labels[name], vocabulary[name] = encode(corpus.labels(name), mask)
    video_start, audio_start = chosen.column("video_start"), chosen.column("audio_start")
    return Instances(
        key=chosen.column("key"),
        path=chosen.absolutes(),
        size=chosen.column("size"),
        mtime_ns=chosen.column("mtime_ns"),
        group=chosen.column("group"),
        start=chosen.column("start"),
        end=chosen.column("end"),
        width=chosen.column("width").astype(np.int64),
        height=chosen.column("height").astype(np.int64),
        fps=chosen.column("video_fps"),
        video_stream=chosen.column("video_stream").astype(np.int64),
        video_start=video_start,
        video_end=video_start + chosen.column("video_duration"),
        audio_stream=chosen.column("audio_stream").astype(np.int64),
        audio_start=audio_start,
        audio_end=audio_start + chosen.column("audio_duration"),
        has_video=content.has_video,
        has_audio=content.has_audio,
        labels=labels,
        vocabulary=vocabulary,
    )


def encode(
    texts: NDArray[np.object_], mask: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64] | NDArray[np.uint8], tuple[str, ...]]:
    """Texts as places in their vocabulary.

    Args:
        texts: ``(R,)``, None where there is no label; several labels are joined by ``;``.
        mask: ``(R,)`` the rows that are returned; the vocabulary is that of all.

    Returns:
        ``(N,)`` int64 with -1 for none, or ``(N, classes)`` uint8 where any cell holds several
        labels; and the vocabulary, sorted, as numbers if all are.
    """
    cells, place = np.unique(texts.astype(object)[texts != None], return_inverse=True)  # noqa: E711
    parts = [[p.strip() for p in cell.split(LABEL_SEPARATOR) if p.strip()] for cell in cells]
    words = {part for cell in parts for part in cell}
    numbers = all(word.isdecimal() for word in words)
    vocabulary = tuple(sorted(words, key=(lambda w: (int(w), w)) if numbers else None))
    code = {word: number for number, word in enumerate(vocabulary)}
    at = np.full(len(texts), NO_LABEL, np.int64)
    at[texts != None] = place  # noqa: E711
    at = at if mask is None else at[mask]
    if all(len(cell) <= 1 for cell in parts):
        codes = np.array([code[cell[0]] if cell else NO_LABEL for cell in parts] + [NO_LABEL])
        return codes.astype(np.int64)[at], vocabulary
    several = np.zeros((len(parts) + 1, len(vocabulary)), np.uint8)
    for number, cell in enumerate(parts):
        several[number, [code[part] for part in cell]] = 1
    return several[at], vocabulary


def missing_files(chosen: Instances) -> list[str]:
    """Files of the instances that are no longer where the scan found them, each once.

    Those that are not on this machine are taken to be there.
    """
    behind = dict.fromkeys(file_behind(path) for path in chosen.path)
    return [path for path in behind if not is_remote(path) and not Path(path).is_file()]


def changed_files(chosen: Instances) -> list[str]:
    """Files of the instances that have another size than the scan found, each once.

    Those that are gone or not on this machine are not; those in archives have checksums.
    """
    sizes = dict(zip(chosen.path, chosen.size.tolist(), strict=True))
    plain = (path for path in sizes if parse_member(path) is None and not is_remote(path))
    return [path for path in plain if is_changed(path, sizes[path])]


def is_changed(path: str, size: int) -> bool:
    """Whether a file is there, but not of the size that the scan found.

    Times of change are not compared: a corpus that was copied to another disk often has new ones.
    """
    try:
        return Path(path).stat().st_size != size
    except OSError:
        # What reads it says why.
        return False
