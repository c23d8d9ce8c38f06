"""Marks that jobs leave in a folder when their part of it is made, and bringing parts together."""

import json
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from earsight.corpus.part import Part, check_parts
from earsight.corpus.replacing import replacing

_SCHEMA = 1
_NAME = re.compile(r"part-(\d+)-of-(\d+)\.json")


@dataclass(frozen=True, kw_only=True)
class Marked:
    """A part that has been made.

    Attributes:
        part: which.
        corpus: the manifest that it was made from, absolute or an address.
        left_out: instances of the whole corpus that no part makes anything of.
    """

    part: Part
    corpus: str
    left_out: int


def mark(folder: Path, marked: Marked) -> None:
    """Say that a part has been made; written last."""
    tree = {"schema": _SCHEMA, "corpus": marked.corpus, "left_out": marked.left_out}
    with replacing(folder / f"part-{marked.part.number}-of-{marked.part.of}.json") as file:
        file.write(json.dumps(tree).encode() + b"\n")


def is_mark(name: str) -> bool:
    """Whether a file's name is that of a mark."""
    return _NAME.fullmatch(name) is not None


def marks(folder: Path) -> list[Marked]:
    """The parts that have been made in a folder.

    Raises:
        ValueError: a mark is damaged.
    """
    found = []
    for path in sorted(folder.iterdir()):
        name = _NAME.fullmatch(path.name)
        if name is None:
            continue
        part = Part(number=int(name[1]), of=int(name[2]))
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            corpus, left_out = str(tree["corpus"]), int(tree["left_out"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: is damaged; make part {part} again") from error
        found.append(Marked(part=part, corpus=corpus, left_out=left_out))
    return found


def all_marks(places: Sequence[Path], command: str) -> tuple[list[Marked], int]:
    """The parts that have been made in several folders, and how many there are, none missing.

    Args:
        places: the folders.
        command: that makes them, for the message.

    Raises:
        ValueError: there are none, some are missing, or a mark is damaged.
    """
    found = [one for place in places for one in marks(place)]
    if not found:
        raise ValueError(
            f"{places[0]}: holds no part that was made to its end; run `earsight {command}` with "
            "--shard first"
        )
    return found, check_parts([one.part for one in found], command)


def bring(source: Path, target: Path) -> None:
    """Have a file at another place, too: the same bytes where the disk can, else a copy.

    Nothing here is ever written into, so that two names of the same bytes do no harm.

    Raises:
        FullDiskError: the disk is full; nothing half-written is left.
        OSError: the folder is closed.
    """
    if target.exists() and target.samefile(source):
        return
    beside = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    try:
        os.link(source, beside)
        beside.replace(target)
    except OSError:  # another disk, or one that knows no links
        with source.open("rb") as read, replacing(target) as file:
            shutil.copyfileobj(read, file, 2**20)
    finally:
        beside.unlink(missing_ok=True)
