"""Spatial-MultiOmniglot (cm-acc fig. 3a): pairs of pictures with known mutual information.

Both pictures of a pair are grids of characters, cell ``i`` of alphabet ``i``. The second shows in
each cell the *next* character of the alphabet, cyclically, by a writer drawn independently. So with
``l_i`` characters in alphabet ``i``, uniformly drawn, ``I(x, y) = Σ log l_i``: runs choose by
``pictures.cells`` how many cells are shown.
"""

import math
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from earsight.corpus.discover import Skipped
from earsight.corpus.keys import key_of
from earsight.corpus.manifest import (
    FILE_FIELDS,
    HERE,
    INSTANCE_FIELDS,
    LABEL_PREFIX,
    SPLIT,
    Corpus,
    write,
)
from earsight.corpus.manifest import NAME as MANIFEST
from earsight.corpus.omniglot_source import URL, Alphabets, read_alphabets
from earsight.corpus.pairs import LABEL, NAME, SIDE, Pairs, write_pairs
from earsight.corpus.render import FIRST_HELD_OUT, require_counts, require_new
from earsight.corpus.scan_report import skipped_lines
from earsight.random import integers

PAIRS = 50_000
HELD_OUT = 2_000
_TESTED = 5
"""Of so many writers one is kept for held-out pairs."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Omniglot:
    """What was made.

    Attributes:
        folder: of the corpus, by which it is named.
        pairs: how many to train on.
        held_out: how many to test on.
        alphabets: their sizes by name, in the order of cells.
        writers: how many drew the pairs to train on.
        held_out_writers: how many others drew those that are held out.
        left_out: files of the archive that are no characters, each with the reason.
        bytes: of the folder.
        seconds: it took.
    """

    folder: str
    pairs: int
    held_out: int
    alphabets: Mapping[str, int]
    writers: int
    held_out_writers: int
    left_out: Sequence[Skipped]
    bytes: int
    seconds: float

    @property
    def information(self) -> list[float]:
        """``I(x, y)`` in nats of pictures of 1, 2, … cells."""
        return information(list(self.alphabets.values()))

    @property
    def next_command(self) -> str:
        """What to do with it."""
        return shlex.join(("earsight", "study", "mutual-information", "--corpus", self.folder))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        left_out = [skipped._asdict() for skipped in self.left_out]
        more = {"information": self.information, "next": self.next_command}
        return {**asdict(self), "left_out": left_out, **more}

    def __str__(self) -> str:
        left_out = skipped_lines(self.left_out, "files of the archive were left out")
        sizes = ", ".join(f"{name} {size}" for name, size in self.alphabets.items())
        nats = ", ".join(f"{nats:.1f}" for nats in self.information)
        made = (
            f"{self.pairs} pairs to train on, by {self.writers} writers, and {self.held_out} held "
            f"out, by {self.held_out_writers} others, in {self.folder} "
            f"({self.bytes / 1e6:.1f} MB, {self.seconds:.0f} s)"
        )
        lines = [made, f"cells: {sizes}", f"I(x, y) in nats of 1, 2, … cells: {nats}"]
        return "\n".join([*left_out, *lines, f"next: {self.next_command}"])


def information(sizes: Sequence[int]) -> list[float]:
    """``Σ log l_i`` in nats of the first alphabet, of the first two, and so on."""
    return [sum(math.log(size) for size in sizes[: n + 1]) for n in range(len(sizes))]


def make_omniglot(
    images: Path,
    folder: Path,
    *,
    pairs: int = PAIRS,
    held_out: int = HELD_OUT,
    writers: int | None = None,
    seed: int = 0,
) -> Omniglot:
    """Make ``folder/corpus.parquet`` (written last), ``folder/pairs.npz`` and ``folder/README.md``.

    A pair is a function of the archive, the writers, the seed and its number alone, whatever the
    number of pairs. No writer has drawn for both splits: the last fifth draw what is held out.
    Labels ``cell1``, ``cell2``, … are the characters of the first picture.

    Args:
        images: archive of Omniglot's pictures.
        folder: where to; made if need be.
        pairs: how many to train on.
        held_out: how many to test on.
        writers: only the first so many draw; None for all. With those that draw the pairs to train
            on of a whole corpus, settings can be chosen without a look at what it holds out.
        seed: of everything drawn.

    Raises:
        ValueError: the folder holds something already, the archive cannot be used, or there are
            fewer writers than asked for.
    """
    began = time.monotonic()
    require_counts(pairs, held_out)
    require_new(folder)
    found = read_alphabets(images)
    there = next(iter(found.drawings.values())).shape[1]
    drawing = there if writers is None else writers
    if not 2 <= drawing <= there:
        raise ValueError(f"writers: must lie between 2 and {there}, those of {images}")
    tested = max(1, drawing // _TESTED)
    number = np.concatenate([np.arange(pairs), FIRST_HELD_OUT + np.arange(held_out)])
    split = np.where(number < FIRST_HELD_OUT, "train", "test")
    made = _draw(found, number, (drawing - tested, tested), seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(_readme(found, pairs, held_out, seed), encoding="utf-8")
    path = write_pairs(made, folder)
    write(_corpus(found, made, split, number, path), folder / MANIFEST)
    return Omniglot(
        folder=str(folder),
        pairs=pairs,
        held_out=held_out,
        alphabets={name: len(drawn) for name, drawn in found.drawings.items()},
        writers=drawing - tested,
        held_out_writers=tested,
        left_out=found.left_out,
        bytes=sum(one.stat().st_size for one in folder.iterdir()),
        seconds=time.monotonic() - began,
    )


def _draw(found: Alphabets, number: Ints, writers: tuple[int, int], seed: int) -> Pairs:
    """The pairs of these numbers; ``writers`` draw to train on, and after them to test."""
    sizes = np.array([len(drawn) for drawn in found.drawings.values()])
    cell = np.arange(len(sizes))
    first = integers(seed, "omniglot/character", number[:, None], sizes, n=cell)
    both = np.stack([first, (first + 1) % sizes], 1)
    held_out = (number >= FIRST_HELD_OUT)[:, None, None]
    count = np.where(held_out, writers[1], writers[0])
    side = np.arange(2)[:, None]
    writer = integers(seed, "omniglot/writer", number[:, None, None], count, view=side, n=cell)
    writer += np.where(held_out, writers[0], 0)
    begin = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    drawings = np.concatenate(list(found.drawings.values()))
    # The same numbers stand for other pictures where the archive or the writers are others.
    made_of = blake2b(drawings.tobytes() + bytes(writers), digest_size=8).hexdigest()
    keys = [key_of(f"{NAME}/{made_of}/{seed}/{one}") for one in number.tolist()]
    return Pairs(
        drawings=drawings,
        key=np.array(keys, np.uint64),
        character=(begin + both).astype(np.int16),
        writer=writer.astype(np.int16),
    )


def _corpus(
    found: Alphabets, pairs: Pairs, split: NDArray[np.str_], number: Ints, path: Path
) -> Corpus:
    """The manifest: an instance for each pair, all in one file."""
    size, about = len(pairs.key), path.stat()
    facts: dict[str, Any] = {
        "key": pairs.key,
        "path": NAME,
        "root": HERE,
        "size": about.st_size,
        "mtime_ns": about.st_mtime_ns,
        "group": [f"{NAME}/{one}" for one in number.tolist()],
        "status": "ok",
        "video_stream": 0,
        "audio_stream": 1,
        "width": SIDE,
        "height": SIDE,
    }
    columns = {}
    for one in (*INSTANCE_FIELDS, *FILE_FIELDS):
        value = facts.get(one.name, _NOTHING.get(str(one.type)))
        whole = [value] * size if np.isscalar(value) or value is None else value
        columns[one.name] = pa.array(whole, one.type)
    columns[SPLIT] = pa.array(split.tolist(), pa.string())
    begin = 0
    for cell, names in enumerate(found.characters.values()):
        codes = pairs.character[:, 0, cell] - begin
        columns[LABEL_PREFIX + LABEL.format(cell + 1)] = pa.array(np.array(names)[codes].tolist())
        begin += len(names)
    return Corpus(table=pa.table(columns), roots={HERE: HERE}, cells=pairs.cells)


_NOTHING = {"double": 0.0, "int64": 0, "int32": 0, "int16": 0, "bool": False, "string": ""}
"""By type, what stands for a fact that a pair of pictures has not."""


def _readme(found: Alphabets, pairs: int, held_out: int, seed: int) -> str:
    sizes = ", ".join(f"{name} ({len(drawn)})" for name, drawn in found.drawings.items())
    return f"""# Spatial-MultiOmniglot

{pairs} pairs to train on and {held_out} to test on, made by `earsight corpus omniglot` with seed
{seed}. `{NAME}` holds the drawings and what each pair shows, `{MANIFEST}` the labels: `cell1` and
so on, the characters of the first picture. The second shows the next character of each alphabet.
No writer has drawn for both splits. Alphabets in the order of cells, with their sizes: {sizes}.

## Source and licence

B. M. Lake, R. Salakhutdinov and J. B. Tenenbaum, "Human-level concept learning through
probabilistic program induction", Science 350 (2015); {URL}, MIT licence. The drawings were made
smaller, {SIDE}×{SIDE} pixels.
"""
