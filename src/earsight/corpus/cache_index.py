"""Where the parts of cached clips lie."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.keys import key_text, parse_keys
from earsight.media.keep import FrameKind
from earsight.media.picture import Orientation

SCHEMA = 2
"""Version of a cache on disk."""

CLIPS = "clips.bin"
"""The file of pictures and sound."""

_READING = (OSError, AttributeError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile)
"""What reading a damaged index raises."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Index:
    """Where the parts of ``N`` instances lie, in the order of their keys.

    Attributes:
        key: ``(N,)`` uint64, ascending.
        zero: ``(N,)`` float64, see :class:`Kept`.
        per_tick: ``(N,)`` float64, likewise.
        frames: ``(N + 1,)`` int64, where each instance's frames begin among all.
        first: ``(N,)`` int64, grid place of its first sample.
        samples: ``(N,)`` int64, how many it has.
        place: ``(N,)`` int64, where they are stored.
        tick: ``(F,)`` int64, of all frames.
        kind: ``(F,)`` int64, places in ``kinds``.
        offset: ``(F,)`` int64, where a frame is stored.
        count: ``(F,)`` int64, its bytes.
        kinds: of frames.
        reasons: key to why it could not be read.
        rate: of the samples.
        passing: keys among ``reasons`` that may be read by now.
    """

    key: NDArray[np.uint64]
    zero: NDArray[np.float64]
    per_tick: NDArray[np.float64]
    frames: Ints
    first: Ints
    samples: Ints
    place: Ints
    tick: Ints
    kind: Ints
    offset: Ints
    count: Ints
    kinds: tuple[FrameKind, ...]
    reasons: Mapping[int, str]
    rate: int
    passing: frozenset[int] = frozenset()


def write_index(folder: Path, index: Index) -> None:
    """Write an index into a folder that holds the clips."""
    arrays = {name: x for name, x in vars(index).items() if isinstance(x, np.ndarray)}
    np.savez(folder / "index.npz", allow_pickle=False, **arrays)
    about = {
        "schema": SCHEMA,
        "rate": index.rate,
        "size": (folder / CLIPS).stat().st_size,
        "kinds": [asdict(kind) for kind in index.kinds],
        "reasons": {key_text(key): reason for key, reason in index.reasons.items()},
        "passing": sorted(map(key_text, index.passing)),
    }
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def read_index(folder: Path) -> Index | None:
    """Read what :func:`write_index` wrote; None where it, or the file of clips, is not whole."""
    try:
        return _read(folder)
    except _READING:
        return None


def _read(folder: Path) -> Index | None:
    about: dict[str, Any] = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    if (folder / CLIPS).stat().st_size != about["size"]:
        return None
    kinds = [FrameKind(**(kind | {"turn": Orientation(**kind["turn"])})) for kind in about["kinds"]]
    reasons: Mapping[str, str] = about["reasons"]
    # Opened here: given a path, numpy leaves a file that it cannot read open.
    with (folder / "index.npz").open("rb") as file, np.load(file) as arrays:
        return Index(
            **{name: arrays[name] for name in arrays},
            kinds=tuple(kinds),
            reasons=dict(zip(parse_keys([*reasons]), reasons.values(), strict=True)),
            rate=int(about["rate"]),
            passing=frozenset(parse_keys(about.get("passing", []))),
        )
