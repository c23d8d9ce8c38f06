"""A shard: a tar archive of clips by key, and beside it what is where."""

import io
import json
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from earsight.corpus.keys import key_text
from earsight.corpus.replacing import replacing
from earsight.corpus.shards.plan import SCHEMA
from earsight.media.transcode import Made

_HEADER = 512


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where a clip lies in its shard, and the facts of its pictures.

    Attributes:
        offset: of its bytes in the archive.
        length: how many they are.
        checksum: their CRC-32.
        width: of the pictures in pixels; 0 where there are none.
        height: likewise.
        fps: average frames per second.
        frames: how many there are.
        keyframes: their times, in seconds from the clip's zero.
    """

    offset: int
    length: int
    checksum: int
    width: int
    height: int
    fps: float
    frames: int
    keyframes: list[float]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a shard holds.

    Attributes:
        size: bytes of the archive.
        placed: by key.
        failed: key to why a clip could not be made.
        passing: keys of those that failed for a reason that may pass.
    """

    size: int
    placed: Mapping[int, Placed] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)
    passing: frozenset[int] = frozenset()


def archive_name(number: int) -> str:
    """The archive of a shard."""
    return f"{number:05d}.tar"


def read_contents(folder: Path, number: int) -> Contents | None:
    """What a whole shard holds; None where it was not finished, or its archive is not whole."""
    archive, beside = folder / archive_name(number), contents_path(folder, number)
    try:
        tree: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
        contents = Contents(
            size=tree["size"],
            placed={int(key, 16): Placed(**place) for key, place in tree["placed"].items()},
            failed={int(key, 16): reason for key, reason in tree["failed"].items()},
            passing=frozenset(int(key, 16) for key in tree.get("passing", ())),
        )
        whole = tree["schema"] == SCHEMA and archive.stat().st_size == contents.size
    except (FileNotFoundError, AttributeError, KeyError, TypeError, ValueError):
        # Whatever is not the text that was written: what it tells of is made again.
        return None
    return contents if whole else None


def write_contents(folder: Path, number: int, contents: Contents) -> None:
    """Write what a shard holds beside it: from now on it is whole."""
    tree: dict[str, Any] = {
        "schema": SCHEMA,
        "size": contents.size,
        "placed": {key_text(key): asdict(place) for key, place in contents.placed.items()},
        "failed": {key_text(key): reason for key, reason in contents.failed.items()},
    }
    if contents.passing:
        tree["passing"] = sorted(key_text(key) for key in contents.passing)
    with replacing(contents_path(folder, number)) as file:
        file.write(json.dumps(tree).encode() + b"\n")


def contents_path(folder: Path, number: int) -> Path:
    """Where it is said what a shard holds."""
    return folder / f"{number:05d}.json"


class ShardWriter:
    """Puts clips into an archive, one after the other; the same clips give the same bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self._file = file
        self._placed: dict[int, Placed] = {}
        self._failed: dict[int, str] = {}
        self._passing: set[int] = set()

    def add(self, key: int, made: Made, about: Mapping[str, Any]) -> None:
        """A clip, and what is known of it, as ``KEY.mp4`` and ``KEY.json``."""
        offset = self._put(f"{key_text(key)}.mp4", made.content)
        self._put(f"{key_text(key)}.json", json.dumps(about, ensure_ascii=False).encode() + b"\n")
        self._placed[key] = Placed(
            offset=offset,
            length=len(made.content),
            checksum=zlib.crc32(made.content),
            width=made.width,
            height=made.height,
            fps=made.fps,
            frames=len(made.times),
            keyframes=list(made.keyframes),
        )

    def fail(self, key: int, reason: str, *, passing: bool = False) -> None:
        """Note a clip that could not be made, and whether the reason may pass."""
        self._failed[key] = reason
        if passing:
            self._passing.add(key)

    def finish(self) -> Contents:
        """End the archive."""
        self._tar.close()
        return Contents(
            size=self._file.tell(),
            placed=self._placed,
            failed=self._failed,
            passing=frozenset(self._passing),
        )

    def _put(self, name: str, content: bytes) -> int:
        """Add a file; where its bytes begin."""
        info = tarfile.TarInfo(name)
        info.size = len(content)
        offset = self._tar.offset + _HEADER
        self._tar.addfile(info, io.BytesIO(content))
        return offset
