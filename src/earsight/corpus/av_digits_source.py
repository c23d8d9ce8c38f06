"""What av-digits is made of: recordings of spoken digits, and pictures of handwritten ones.

Recordings are those of the Free Spoken Digit Dataset, files ``{digit}_{speaker}_{index}.wav``;
pictures are the 8×8 test images of the Optical Recognition of Handwritten Digits data set, as
scikit-learn ships them.
"""

import re
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.discover import Skipped

RECORDINGS_URL = "https://github.com/Jakobovski/free-spoken-digit-dataset"
DIGITS = 10

_NAME = re.compile(r"([0-9])_([^_]+)_([0-9]+)\.wav")
_INK = 16.0
_SHORTEST = 0.05


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One spoken digit.

    Attributes:
        path: of the file.
        digit: 0 to 9.
        speaker: who says it.
        index: which of the times that this speaker says this digit.
    """

    path: Path
    digit: int
    speaker: str
    index: int


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """What a folder holds.

    Attributes:
        used: the recordings, by digit, speaker and index.
        left_out: files that are none, each with the reason.
    """

    used: tuple[Recording, ...]
    left_out: tuple[Skipped, ...]

    @property
    def speakers(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(sorted({recording.speaker for recording in self.used}))


def find_recordings(folder: Path) -> Recordings:
    """The recordings in a folder, or in its folder ``recordings`` where it has one.

    Args:
        folder: the repository of the data set, or its folder of recordings.

    Raises:
        ValueError: the folder is missing, or holds no recording.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; {_remedy()}")
    place = folder / "recordings" if (folder / "recordings").is_dir() else folder
    used, left_out = [], []
    for path in sorted(place.iterdir()):
        if path.name.startswith("."):
            continue
        match = _NAME.fullmatch(path.name)
        reason = _fault(path) if match else "the name is not {digit}_{speaker}_{index}.wav"
        if match and not reason:
            digit, speaker, index = int(match[1]), match[2], int(match[3])
            used.append(Recording(path=path, digit=digit, speaker=speaker, index=index))
        else:
            left_out.append(Skipped(path.name, reason))
    if not used:
        such = f", such as {left_out[0].path}: {left_out[0].reason}" if left_out else ""
        raise ValueError(
            f"{place} holds no recording ({len(left_out)} other files{such}); {_remedy()}"
        )
    used.sort(key=lambda r: (r.digit, r.speaker, r.index, r.path.name))
    return Recordings(used=tuple(used), left_out=tuple(left_out))


def read_recording(path: Path) -> tuple[NDArray[np.float32], int]:
    """Samples ``(samples,)`` in [-1, 1] and samples per second.

    Raises:
        ValueError: the file is no WAV file of 16-bit samples in one channel.
    """
    try:
        with wave.open(str(path), "rb") as file:
            kind = file.getnchannels(), file.getsampwidth()
            rate = file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        raise ValueError(f"cannot be read as WAV ({error or 'it ends early'})") from error
    if kind != (1, 2):
        raise ValueError(f"has {kind[0]} channels of {8 * kind[1]} bits, not one of 16 bits")
    whole = len(data) // 2 * 2
    return np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(2**15), rate


def handwritten() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pictures ``(1797, 8, 8)``, ink from 0 to 1, and the digit ``(1797,)`` each shows."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - a second that few commands need

    images, digits = load_digits(return_X_y=True)
    ink = (images.reshape(-1, 8, 8) / _INK).astype(np.float32)
    return ink, digits.astype(np.int64)


def _fault(path: Path) -> str:
    """Why a file cannot be used; empty where it can."""
    try:
        samples, rate = read_recording(path)
    except ValueError as error:
        return str(error)
    if len(samples) < _SHORTEST * rate:
        return f"is shorter than {_SHORTEST:g} s"
    return "" if samples.any() else "is silent"


def _remedy() -> str:
    return f"give the folder of the Free Spoken Digit Dataset (git clone {RECORDINGS_URL})"
