"""Pairs of pictures: what stands in their cells, kept as numbers, and the source that draws them.

A picture shows one character of each of several alphabets, drawn by a writer. Kept are the
drawings, once each, and for every pair which of them its cells show: pairs take a few bytes.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight.corpus.batch import View
from earsight.corpus.manifest import LABEL_PREFIX, Corpus
from earsight.corpus.replacing import replacing
from earsight.media.types import ClipRequest, Limits

NAME = "pairs.npz"
"""The file, which lies beside the manifest."""

SIDE = 32
"""Pixels of a character's side."""

LABEL = "cell{}"
"""The label column that tells the first picture's character in a cell, counted from 1."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """``N`` pairs of pictures of up to ``C`` cells.

    Attributes:
        drawings: ``(characters, writers, 32, 32)`` uint8, ink bright.
        key: ``(N,)`` uint64, of the pairs.
        character: ``(N, 2, C)`` int16, of the first and of the second picture.
        writer: ``(N, 2, C)`` int16, who drew them.
    """

    drawings: NDArray[np.uint8]
    key: NDArray[np.uint64]
    character: NDArray[np.int16]
    writer: NDArray[np.int16]

    @property
    def cells(self) -> int:
        """``C``."""
        return int(self.character.shape[2])


def write_pairs(pairs: Pairs, folder: Path) -> Path:
    """Write the file of a folder's pairs; returns its path."""
    path = folder / NAME
    with replacing(path) as file:
        np.savez_compressed(file, allow_pickle=False, **vars(pairs))
    return path


def read_pairs(path: Path) -> Pairs:
    """Read what :func:`write_pairs` wrote.

    Raises:
        ValueError: it is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return Pairs(**{name: file[name] for name in file.files})
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: cannot be read as pairs of pictures ({error}); make the corpus again"
        ) from error


@dataclass(frozen=True, kw_only=True)
class Picked:
    """A request as a place among the pairs, once for each view; fields are those of a clip."""

    video: tuple[int, ...]
    audio: tuple[int, ...]


class PairSource:
    """A :class:`~earsight.corpus.sources.Source` of pairs on ``device``, drawn when asked for.

    The first picture of a pair stands for ``video``, the second for ``audio``. Where a clip is cut
    means nothing here: what requests say of time and of boxes is not looked at.

    Args:
        pairs: all of them.
        cells: how many of their cells are shown.
        device: where pictures are wanted.
    """

    shareable = False

    def __init__(self, pairs: Pairs, cells: int, device: torch.device) -> None:
        self._place = {key: at for at, key in enumerate(pairs.key.tolist())}
        writers = pairs.drawings.shape[1]
        drawing = pairs.character[:, :, :cells].astype(np.int64) * writers
        drawing += pairs.writer[:, :, :cells]
        self.drawings = torch.from_numpy(pairs.drawings).flatten(0, 1).to(device)
        self.drawing = torch.from_numpy(drawing).to(device)

    @property
    def size(self) -> int:
        """Bytes on the device."""
        return self.drawings.numel() + 8 * self.drawing.numel()

    def read(self, key: int, request: ClipRequest, limits: Limits) -> Picked:
        """Find a pair's place."""
        place = self._place[key]
        return Picked(video=(place,) * len(request.video), audio=(place,) * len(request.audio))

    def view(self, number: int, clips: Sequence[Picked], samples: int) -> View:
        """The characters of pictures, each ``(B, cells, 32, 32)`` uint8."""
        view: dict[str, Tensor] = {}
        for side, name in enumerate(("video", "audio")):
            places = [getattr(clip, name) for clip in clips]
            if places and places[0]:
                at = torch.tensor([one[number] for one in places], device=self.drawing.device)
                view[name] = self.drawings[self.drawing[at, side]]
        return view


def require_kind(corpus: Corpus, cells: int, path: str) -> None:
    """Refuse pairs of pictures where films are meant, films where pairs are, and too many cells.

    Args:
        corpus: what is to be learned from.
        cells: that a picture is to show (``pictures.cells``); 0 where films are meant.
        path: of the corpus.

    Raises:
        ValueError: it is of the other kind, or has fewer cells.
    """
    if corpus.cells and not cells:
        raise ValueError(
            f"{path}: holds pairs of pictures; learn from them with the preset study-omniglot, or "
            f"set pictures.cells (1 to {corpus.cells}) and encoders of pictures"
        )
    if cells and not corpus.cells:
        raise ValueError(
            f"{path}: holds no pairs of pictures, which pictures.cells={cells} asks for; make some "
            "with `earsight corpus omniglot`, or take a preset for films and sounds"
        )
    if cells > corpus.cells:
        raise ValueError(
            f"pictures.cells: {path} has pictures of {corpus.cells} cells, not of {cells}; lower "
            "it, or make pairs of more alphabets"
        )


def with_cells(corpus: Corpus, cells: int) -> Corpus:
    """The corpus without the labels of cells that are not shown."""
    hidden = {LABEL_PREFIX + LABEL.format(n) for n in range(cells + 1, corpus.cells + 1)}
    names = [name for name in corpus.table.column_names if name not in hidden]
    return Corpus(
        table=corpus.table.select(names),
        roots=corpus.roots,
        settings=corpus.settings,
        cells=corpus.cells,
    )
