"""What an index has to show: files and windows by number, their labels, and where files lie."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.instances import encode
from earsight.corpus.manifest import Corpus, read
from earsight.media.members import parse_member, suffix_of
from earsight.search.index import CORPUS, Index
from earsight.serve.limits import RefusedError

Mask = NDArray[np.bool_]

LISTED = 200
"""Values of a label up to which a page lists them all."""

_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/mp4",
    ".3gp": "video/3gpp",
    ".webm": "video/webm",
    ".ogv": "video/ogg",
    ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".flac": "audio/flac",
}
OTHER_TYPE = "application/octet-stream"


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of the index.

    Attributes:
        number: by which it is asked for.
        path: as in the corpus, to be shown.
        absolute: where the corpus says that it lies.
        root: the folder that it must not lead out of.
        video: the codec of its pictures; empty where it has none.
        audio: the codec of its sound; empty where it has none.
        video_stream: container index of the pictures' stream; None where it has none.
        audio_stream: that of the sound's.
        size: ``(height, width)`` of its pictures, upright.
        items: ``(W,)`` its windows, in the order of time.
    """

    number: int
    path: str
    absolute: Path
    root: Path
    video: str
    audio: str
    video_stream: int | None
    audio_stream: int | None
    size: tuple[int, int]
    items: NDArray[np.int64]

    @property
    def media_type(self) -> str:
        """What a browser is told that it is."""
        return _TYPES.get(suffix_of(str(self.absolute)), OTHER_TYPE)

    def locate(self) -> Path:
        """Where it really lies; of a prepared clip, the name of the member.

        Raises:
            RefusedError: it is gone, is no regular file, or leads out of its root.
        """
        member = parse_member(str(self.absolute))
        there = self.absolute if member is None else Path(member.archive)
        try:
            real, root = there.resolve(strict=True), self.root.resolve(strict=True)
        except OSError as error:
            raise RefusedError(404, "The file is no longer where it was embedded.") from error
        if not real.is_relative_to(root):
            raise RefusedError(403, "The file is a link out of the folder that was embedded.")
        if not real.is_file():
            raise RefusedError(403, "This is no regular file.")
        return real if member is None else Path(replace(member, archive=str(real)).text)


@dataclass(frozen=True, kw_only=True)
class Label:
    """A label column: its values, and which windows have them.

    Attributes:
        values: in their order.
        codes: ``(W,)`` places in it, -1 for none, or ``(W, values)`` 1 where it holds.
    """

    values: tuple[str, ...]
    codes: NDArray[np.int64] | NDArray[np.uint8]

    @property
    def listed(self) -> bool:
        """Whether a page lists the values; else they are typed."""
        return len(self.values) <= LISTED

    def having(self, value: str) -> Mask:
        """``(W,)`` windows with a value; none where it is not among the values."""
        if value not in self.values:
            return np.zeros(len(self.codes), bool)
        at = self.values.index(value)
        return np.asarray(self.codes == at if self.codes.ndim == 1 else self.codes[:, at] > 0)

    def of(self, item: int) -> list[str]:
        """A window's values."""
        codes = self.codes[item]
        if codes.ndim:
            return [self.values[at] for at in np.flatnonzero(codes).tolist()]
        return [self.values[int(codes)]] if codes >= 0 else []


@dataclass(frozen=True, kw_only=True)
class Library:
    """An index, ready to be shown.

    Attributes:
        index: its windows.
        files: by number, as ``index.file`` has it.
        order: ``(F,)`` file numbers by path.
        labels: by name.
    """

    index: Index
    files: tuple[File, ...]
    order: NDArray[np.int64]
    labels: Mapping[str, Label]

    def file(self, number: int) -> File:
        """A file by its number.

        Raises:
            RefusedError: there is none.
        """
        if not 0 <= number < len(self.files):
            raise RefusedError(404, f"The index has no file {number}.")
        return self.files[number]

    def file_of(self, item: int) -> File:
        """The file of a window, by the window's number.

        Raises:
            RefusedError: there is none.
        """
        if not 0 <= item < len(self.index):
            raise RefusedError(404, f"The index has no moment {item}.")
        return self.files[int(self.index.file[item])]

    def having(self, wanted: Mapping[str, str]) -> Mask:
        """``(W,)`` windows that have all of these labels."""
        mask = np.ones(len(self.index), bool)
        for name, value in wanted.items():
            mask &= self.labels[name].having(value)
        return mask

    def labels_of(self, item: int) -> list[tuple[str, str]]:
        """Names and values of a window's labels."""
        return [(name, value) for name, known in self.labels.items() for value in known.of(item)]


def open_library(index: Index) -> Library:
    """An index with the manifest that lies in it.

    Raises:
        ValueError: the manifest cannot be read, or is another.
    """
    corpus = read(index.folder / CORPUS)
    row = _rows(corpus, index)
    labels = {}
    for name in corpus.label_names:
        codes, values = encode(corpus.labels(name))
        if values:
            labels[name] = Label(values=values, codes=codes[row])
    return Library(
        index=index,
        files=_files(corpus, index, row),
        order=np.argsort(np.array(index.paths, object)).astype(np.int64),
        labels=labels,
    )


def _rows(corpus: Corpus, index: Index) -> NDArray[np.int64]:
    """``(W,)`` the instance of each window."""
    keys = corpus.column("key")
    order = np.argsort(keys)
    place = np.searchsorted(keys[order], index.key).clip(max=max(0, len(keys) - 1))
    row = order[place] if len(keys) else np.zeros(len(index), np.int64)
    if not len(keys) or not np.array_equal(keys[row], index.key):
        raise ValueError(f"{index.folder / CORPUS} is not the manifest of this index; embed again")
    return np.asarray(row, np.int64)


def _files(corpus: Corpus, index: Index, row: NDArray[np.int64]) -> tuple[File, ...]:
    order = np.lexsort([index.start, index.file])
    bounds = np.searchsorted(index.file[order], np.arange(len(index.paths) + 1))
    columns = {
        name: corpus.column(name)
        for name in ("video_codec", "audio_codec", "video_stream", "audio_stream")
    }
    height, width = corpus.column("height"), corpus.column("width")
    roots = corpus.column("root")
    files = []
    for number, path in enumerate(index.paths):
        items = order[bounds[number] : bounds[number + 1]]
        at = int(row[items[0]])
        seen, heard = (int(columns[f"{kind}_stream"][at]) for kind in ("video", "audio"))
        files.append(
            File(
                number=number,
                path=path,
                absolute=Path(corpus.absolute(at)),
                root=Path(corpus.roots[roots[at]]),
                video=str(columns["video_codec"][at]) if seen >= 0 else "",
                audio=str(columns["audio_codec"][at]) if heard >= 0 else "",
                video_stream=seen if seen >= 0 else None,
                audio_stream=heard if heard >= 0 else None,
                size=(int(height[at]), int(width[at])) if seen >= 0 else (0, 0),
                items=items,
            )
        )
    return tuple(files)
