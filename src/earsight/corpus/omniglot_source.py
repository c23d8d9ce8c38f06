"""The characters of Omniglot, read from an archive of its pictures."""

import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from numpy.typing import NDArray
from torch.nn import functional as F

from earsight.corpus.discover import Skipped
from earsight.corpus.pairs import SIDE

URL = "https://github.com/brendenlake/omniglot"

_NAME = re.compile(r"(?:.*/)?([^/]+)/(character\d+)/\d+_(\d+)\.png")
_LARGEST = 2**20
"""Bytes of a picture's file: its own have hundreds."""


@dataclass(frozen=True, kw_only=True)
class Alphabets:
    """What an archive holds.

    Attributes:
        drawings: per alphabet, the largest first, ``(characters, writers, 32, 32)`` uint8, ink
            bright.
        characters: per alphabet their names.
        left_out: files that are no characters, each with the reason.
    """

    drawings: Mapping[str, NDArray[np.uint8]]
    characters: Mapping[str, tuple[str, ...]]
    left_out: tuple[Skipped, ...]


def read_alphabets(archive: Path) -> Alphabets:
    """The characters in an archive, files ``ALPHABET/characterNN/NNNN_WW.png``.

    Of each character there must be a drawing by every writer.

    Raises:
        ValueError: it is missing or no archive, holds no characters, or drawings are missing.
    """
    found: dict[str, dict[str, dict[int, NDArray[np.uint8]]]] = {}
    left_out: list[Skipped] = []
    try:
        with zipfile.ZipFile(archive) as file:
            for info in sorted(file.infolist(), key=lambda one: one.filename):
                if info.is_dir():
                    continue
                match = _NAME.fullmatch(info.filename)
                drawing = _drawing(file, info) if match else "no ALPHABET/characterNN/NNNN_WW.png"
                if match is None or isinstance(drawing, str):
                    left_out.append(Skipped(info.filename, str(drawing)))
                    continue
                of_alphabet = found.setdefault(match[1], {})
                of_alphabet.setdefault(match[2], {})[int(match[3])] = drawing
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{archive}: cannot be read as an archive ({error}); {_REMEDY}") from error
    if not found:
        raise ValueError(f"{archive}: holds no characters; {_REMEDY}")
    _check_whole(archive, found, left_out)
    order = sorted(found, key=lambda name: (-len(found[name]), name))
    return Alphabets(
        drawings={
            name: np.stack([_by_writer(found[name][one]) for one in sorted(found[name])])
            for name in order
        },
        characters={name: tuple(sorted(found[name])) for name in order},
        left_out=tuple(left_out),
    )


_REMEDY = f"give an archive of Omniglot's pictures, such as images_background.zip of {URL}"


def _check_whole(
    archive: Path,
    found: Mapping[str, Mapping[str, Mapping[int, NDArray[np.uint8]]]],
    left_out: list[Skipped],
) -> None:
    """Every character by every writer, or nothing can be drawn at random."""
    writers = {one for each in found.values() for drawn in each.values() for one in drawn}
    missing = [
        f"{alphabet}/{name}"
        for alphabet, each in found.items()
        for name, drawn in each.items()
        if set(drawn) != writers
    ]
    if missing:
        why = f" ({left_out[0].path}: {left_out[0].reason})" if left_out else ""
        raise ValueError(
            f"{archive}: {len(missing)} characters, such as {missing[0]}, lack drawings by some of "
            f"{len(writers)} writers{why}; {_REMEDY}"
        )


def _by_writer(drawn: Mapping[int, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.stack([drawn[writer] for writer in sorted(drawn)])


def _drawing(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[np.uint8] | str:
    """``(32, 32)``, ink bright; why not, where it is no picture."""
    if info.file_size > _LARGEST:
        return f"has {info.file_size} bytes, more than a character"
    try:
        with av.open(io.BytesIO(file.read(info)), format="png_pipe") as container:
            assert isinstance(container, InputContainer)
            frame = next(container.decode(video=0))
            paper = frame.to_ndarray(format="gray")
    except (av.FFmpegError, StopIteration, zipfile.BadZipFile, OSError) as error:
        return f"cannot be read as PNG ({error or 'it is empty'})"
    ink = torch.from_numpy(255.0 - paper.astype(np.float32))[None, None]
    small = F.interpolate(ink, (SIDE, SIDE), mode="bilinear", antialias=True)
    return np.asarray(small[0, 0].round().clamp(0, 255).to(torch.uint8).numpy())
