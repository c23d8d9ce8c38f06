"""An index: embeddings of every window of a corpus, in a folder.

``index.json`` says by which model, how windows were cut, and of which manifest; ``parts/`` holds
one Parquet file for each block of instances, written whole or not at all, so that an index that was
stopped goes on where it was; ``corpus.parquet`` is the manifest.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight.corpus.batch import Failure
from earsight.corpus.instances import Instances
from earsight.corpus.marks import is_mark
from earsight.corpus.replacing import is_beside
from earsight.evaluation.feature_file import add_tensors
from earsight.evaluation.load import Loaded
from earsight.files import write_whole
from earsight.search.parts import PARTS, part_path, read_part

SCHEMA = 1
"""Version of an index."""

ABOUT = "index.json"
CORPUS = "corpus.parquet"
CELLS = "cells"
"""Where an index keeps what a search for approximate neighbours needs."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What an index was made with.

    Attributes:
        model: hash of weights and transforms.
        run: folder of the run, absolute.
        corpus: hash of the instances.
        seconds: length of a window.
        hop: from one start to the next.
        missing: what becomes of instances without sound.
        block: instances of a part.
        parts: how many there are.
        spaces: names of embeddings that are compared across modalities, query and gallery.
        notices: what must be said of the weights.
    """

    model: str
    run: str
    corpus: str
    seconds: float
    hop: float
    missing: str
    block: int
    parts: int
    spaces: tuple[tuple[str, str], ...]
    notices: tuple[str, ...] = ()


def model_hash(loaded: Loaded) -> str:
    """A name for everything that an embedding depends on."""
    digest = hashlib.blake2b(digest_size=12)
    state = loaded.inputs.state()
    digest.update(json.dumps(state["settings"], sort_keys=True).encode())
    keys = loaded.encoder.method.keys
    for part in (
        loaded.encoder.model.state_dict(),
        {} if keys is None else keys.state_dict(),
        state["tensors"],
    ):
        add_tensors(digest, part.items())
    return digest.hexdigest()


def corpus_hash(instances: Instances) -> str:
    """A name for these instances, in this order."""
    digest = hashlib.blake2b(digest_size=12)
    for column in (instances.key, instances.size, instances.mtime_ns):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def check_folder(folder: Path) -> None:
    """Refuse a folder that no index can be made in, before anything is written.

    Raises:
        ValueError: it holds something else than an index, or a part of one.
    """
    known = {ABOUT, CORPUS, PARTS, CELLS}
    # A hidden file is what a system or a write that was cut off has left.
    names = [one.name for one in folder.iterdir()] if folder.exists() else []
    names = [name for name in names if not name.startswith(".") and not is_mark(name)]
    if not known.issuperset(names):
        raise ValueError(f"{folder} holds other things; choose another folder")


def begin(folder: Path, about: About) -> None:
    """Make an index, or make sure that the one that is there is of the same making.

    Raises:
        ValueError: the folder holds something else, or an index of another making.
    """
    if (folder / ABOUT).exists():
        found = read_about(folder)
        if wrong := list(_differences(found, about)):
            raise ValueError(
                f"{folder} is an index with another {' and '.join(wrong)}; choose another folder"
            )
        return
    check_folder(folder)
    (folder / PARTS).mkdir(parents=True, exist_ok=True)
    tree = {"schema": SCHEMA, **asdict(about)}
    write_whole(folder / ABOUT, json.dumps(tree, indent=1) + "\n")


def _differences(found: About, about: About) -> Iterator[str]:
    """What an index that is there was made with, and another not: options with both values."""
    options = {"seconds": "--window", "hop": "--hop", "missing": "--missing"}
    for name, old in asdict(found).items():
        new = getattr(about, name)
        if name == "run" or old == new:
            continue
        yield f"{options[name]} ({old}, now {new})" if name in options else name


def tidy(folder: Path) -> None:
    """Take away marks of parts, and what writes that were cut off have left, once all is whole."""
    for path in [*folder.iterdir(), *(folder / PARTS).iterdir()]:
        if is_mark(path.name) or is_beside(path.name):
            path.unlink(missing_ok=True)


def read_about(folder: Path) -> About:
    """What an index was made with.

    Raises:
        ValueError: it is none, of another schema, or damaged; the message names the file.
    """
    path = folder / ABOUT
    if not path.is_file():
        raise ValueError(f"{folder} is no index (it has no {ABOUT}); make one by `earsight embed`")
    try:
        tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if tree.pop("schema", None) == SCHEMA:
            spaces = tuple((str(one), str(other)) for one, other in tree.pop("spaces"))
            return About(**tree | {"notices": tuple(tree["notices"])}, spaces=spaces)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: is damaged ({error}); embed again, into another folder"
        ) from error
    raise ValueError(f"{path}: has another schema than {SCHEMA}; embed again")


@dataclass(frozen=True)
class Index:
    """An index in memory.

    Attributes:
        folder: where it lies.
        about: what it was made with.
        key: ``(W,)`` uint64 of the instance of each window.
        paths: of the files, as in the corpus.
        file: ``(W,)`` int64, places in ``paths``.
        start: ``(W,)`` seconds.
        end: ``(W,)`` seconds.
        vectors: name of an embedding to ``(W, D)`` float32 of unit length, zeros where a window has
            none (see ``known``).
        known: name to ``(W,)`` bool.
        failures: instances that could not be read.
    """

    folder: Path
    about: About
    key: NDArray[np.uint64]
    paths: tuple[str, ...]
    file: NDArray[np.int64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    vectors: Mapping[str, Tensor]
    known: Mapping[str, NDArray[np.bool_]]
    failures: tuple[Failure, ...]

    def __len__(self) -> int:
        return len(self.key)

    def mask(self, name: str) -> Tensor:
        """``known`` of an embedding as a tensor ``(W,)``, of the same memory."""
        return torch.from_numpy(self.known[name])


def read_index(folder: Path) -> Index:
    """Read a finished index.

    Raises:
        ValueError: it is none, is not finished, holds nothing, has vectors of another model, or a
            part is damaged; the message names the file.
    """
    about = read_about(folder)
    paths = [part_path(folder, number) for number in range(about.parts)]
    if absent := [path for path in paths if not path.exists()]:
        raise ValueError(
            f"{folder} is not finished: {len(absent)} of {about.parts} parts are missing; give the "
            "same `earsight embed` again"
        )
    parts = [read_part(path) for path in paths]
    facts = pa.concat_tables([one.drop_columns(["vector"]) for one, _ in parts])
    if not facts.num_rows:
        raise ValueError(f"{folder} holds no embedding; nothing could be read")
    if strange := set(facts.column("model").unique().to_pylist()) - {about.model}:
        raise ValueError(f"{folder} holds vectors of another model ({strange.pop()}); embed again")
    failures = tuple(failure for _, unread in parts for failure in unread)
    return _joined(folder, about, facts, [one.column("vector") for one, _ in parts], failures)


def _joined(
    folder: Path,
    about: About,
    facts: pa.Table,
    parts: Sequence[pa.ChunkedArray],
    failures: tuple[Failure, ...],
) -> Index:
    """One row for each window, from one for each window and name."""
    key, start = (facts.column(name).to_numpy() for name in ("key", "start"))
    windows = np.rec.fromarrays([key, start])
    _, first, place = np.unique(windows, return_index=True, return_inverse=True)
    names = np.asarray(facts.column("modality").to_numpy(zero_copy_only=False), object)
    vectors = _vectors(names, place, len(first), parts)
    known = {name: np.isin(np.arange(len(first)), place[names == name]) for name in vectors}
    coded = facts.column("path").take(pa.array(first)).combine_chunks().dictionary_encode()
    return Index(
        folder=folder,
        about=about,
        key=key[first],
        paths=tuple(coded.dictionary.to_pylist()),
        file=coded.indices.to_numpy().astype(np.int64),
        start=start[first],
        end=facts.column("end").to_numpy()[first],
        vectors=vectors,
        known=known,
        failures=failures,
    )


def _vectors(
    names: NDArray[np.object_],
    place: NDArray[np.int64],
    size: int,
    parts: Sequence[pa.ChunkedArray],
) -> dict[str, Tensor]:
    """Vectors ``(size, D)`` by name, part by part: Arrow cannot join more than 2³¹ numbers.

    Args:
        names: of the vector in each row of all parts.
        place: the window of each.
        size: windows in all.
        parts: the vectors.
    """
    full: dict[str, Tensor] = {}
    begin = 0
    for part in parts:
        rows = slice(begin, begin + len(part))
        begin = rows.stop
        for name in dict.fromkeys(names[rows].tolist()):
            at = np.flatnonzero(names[rows] == name)
            found = part.take(pa.array(at)).combine_chunks()
            x = torch.from_numpy(found.flatten().to_numpy().reshape(len(at), -1).copy())
            if name not in full:
                full[name] = torch.zeros(size, x.shape[1])
            full[name][torch.from_numpy(place[rows][at])] = x
    return full
