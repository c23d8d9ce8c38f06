"""FAISS for more than a million windows: a part of them is looked at, and scored exactly.

Vectors are put into cells by k-means. A query looks into the nearest cells, by products with
vectors of 8 bits a number, and what is best there is scored from the vectors themselves. So scores
are exact, but a hit may be missing. How many are is measured when the cells are made, and as many
cells are looked into as it takes for ``RECALL``.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight.files import write_whole
from earsight.random import permute
from earsight.search.embedder import Embedding
from earsight.search.index import CELLS, Index
from earsight.search.query import By, Comparison, Hit, best, comparison, hits, score, search

if TYPE_CHECKING:
    from types import ModuleType

Neighbours = Literal["auto", "exact", "faiss"]

SCHEMA = 1
"""Version of what is kept of cells."""

FROM = 1_000_000
"""Windows from which on cells are used unasked: fewer are gone through in half a second."""

RECALL = 0.98
"""Share of the nearest that is to be found."""

NEIGHBOURS = 10
"""How many nearest the recall is measured on."""

_ABOUT = "cells.json"
_SAMPLE = 200
_LEARNED_FROM = 64
"""Vectors a cell that k-means learns from."""

_LISTED = 128
"""Windows that are scored exactly, at least; eight for each that is wanted."""

_MOST = 16384
"""Windows beyond which going through all is no slower."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured when cells were made.

    Attributes:
        cells: how many there are.
        probed: how many a query looks into.
        recall: share of the ten nearest that it finds, the asking window aside.
        asked: windows of the index that were asked with.
    """

    cells: int
    probed: int
    recall: float
    asked: int


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The cells of an index.

    Attributes:
        lists: name of an embedding to its index of FAISS; its numbers are windows.
        measured: what was measured of it.
    """

    lists: Mapping[str, Any]
    measured: Mapping[str, Measured]

    def near(self, name: str, query: Tensor, count: int) -> NDArray[np.int64]:
        """Windows ``(at most count,)`` that seem nearest to a query ``(D,)``."""
        found = _probe(self.lists[name], query.numpy()[None], count, self.measured[name].probed)[0]
        return np.asarray(found[found >= 0])

    def about(self, index: Index, query: Embedding, by: By) -> str:
        """What must be said of an answer."""
        used = [self.measured[name] for _, name in comparison(index, query, by).pairs]
        worst = min(used, key=lambda one: one.recall)
        return (
            f"approximate: FAISS looked into {worst.probed} of {worst.cells} cells, which gave "
            f"{100 * worst.recall:.1f} % of the {NEIGHBOURS} nearest when {worst.asked} windows of "
            "the index were asked for; scores are exact"
        )


def choose(wanted: Neighbours, windows: int) -> tuple[Literal["exact", "faiss"], str]:
    """How so many windows are searched, and what is to be said of it."""
    if wanted == "faiss" or (wanted == "auto" and windows > FROM and find_spec("faiss")):
        return "faiss", ""
    note = f"exact: all {windows:,} windows were compared"
    if wanted == "auto" and windows > FROM:
        note += "; pip install 'earsight[faiss]' for faster, approximate answers"
    return "exact", note


def search_cells(
    index: Index,
    cells: Cells,
    query: Embedding,
    *,
    by: By | None = None,
    count: int = 10,
    spread: bool = True,
) -> tuple[By, list[Hit]]:
    """The windows nearest to a query among those that cells give, with their exact scores.

    Lists grow until no window beyond them could be a hit, or all windows are gone through.
    Arguments and errors are those of :func:`earsight.search.query.search`.
    """
    asked = comparison(index, query, by)
    wanted = max(_LISTED, 8 * count)
    while wanted <= min(_MOST, len(index)):
        listed = [cells.near(name, x, wanted) for x, name in asked.pairs]
        rows = torch.from_numpy(np.unique(np.concatenate(listed)))
        scores = score(index, asked, rows)
        places, values = best(index.file[rows.numpy()], scores, count, spread)
        if len(values) == count and values[-1] >= _bound(index, asked, listed):
            return asked.by, hits(index, asked, rows[places].tolist(), values)
        wanted *= 8
    return search(index, query, by=by, count=count, spread=spread)


def _bound(index: Index, asked: Comparison, listed: list[NDArray[np.int64]]) -> float:
    """What no window beyond the lists scores more than: of each list the last, the least of all."""
    lasts = [
        float((index.vectors[name][torch.from_numpy(rows)] @ x).min())
        for (x, name), rows in zip(asked.pairs, listed, strict=True)
    ]
    return min(lasts)


def open_cells(index: Index) -> Cells:
    """The cells of an index, made at the first time and kept in its folder.

    Raises:
        ValueError: the extra is missing, or they cannot be kept.
    """
    kept = _read(index)
    if kept is not None:
        return kept
    made = make_cells(index)
    try:
        _write(index, made)
    except OSError as error:
        raise ValueError(
            f"{index.folder / CELLS}: cannot be written ({error.strerror}); search exactly "
            "(--neighbours exact), or copy the index to where it can"
        ) from error
    return made


def make_cells(index: Index) -> Cells:
    """Put the windows of an index into cells, and measure what a query finds.

    Raises:
        ValueError: the extra is missing.
    """
    lists: dict[str, Any] = {}
    measured: dict[str, Measured] = {}
    for name, vectors in index.vectors.items():
        rows = np.flatnonzero(index.known[name])
        x = vectors.numpy() if len(rows) == len(index) else vectors.numpy()[rows]
        lists[name] = _learn(x, rows)
        measured[name] = _measure(lists[name], x, rows, vectors)
    return Cells(lists=lists, measured=measured)


def _learn(x: NDArray[np.float32], rows: NDArray[np.int64]) -> Any:
    """An index of FAISS of vectors ``(N, D)``, numbered by ``rows``."""
    faiss = library()
    faiss.omp_set_num_threads(torch.get_num_threads())
    size, dim = x.shape
    cells = min(2 ** round(np.log2(4 * size**0.5)), max(1, size // _LEARNED_FROM))
    lists = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim),
        dim,
        cells,
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
    )
    sample = permute(0, "cells", np.arange(min(size, _LEARNED_FROM * cells)), size)
    lists.train(x[sample])
    lists.add_with_ids(x, rows)
    return lists


def _measure(
    lists: Any, x: NDArray[np.float32], rows: NDArray[np.int64], vectors: Tensor
) -> Measured:
    """How many cells it takes, and what they give."""
    sample = permute(0, "recall", np.arange(min(_SAMPLE, len(x))), len(x))
    asked, own = x[sample], rows[sample]
    count = min(NEIGHBOURS, len(x) - 1)
    every = torch.from_numpy(x)
    nearest = [_nearest(q, at, every, rows, count) for q, at in zip(asked, own, strict=True)]
    probed, share = 1, 0.0
    while True:
        found = _probe(lists, asked, max(_LISTED, 8 * NEIGHBOURS), probed)
        shared = 0
        for q, at, true, one in zip(asked, own, nearest, found, strict=True):
            listed = one[one >= 0]
            given = _nearest(q, at, vectors[torch.from_numpy(listed)], listed, count)
            shared += len(true & given)
        share = shared / max(1, count * len(asked))
        if share >= RECALL or probed >= lists.nlist:
            break
        probed = min(2 * probed, lists.nlist)
    return Measured(cells=lists.nlist, probed=probed, recall=share, asked=len(asked))


def _nearest(
    query: NDArray[np.float32], own: int, x: Tensor, rows: NDArray[np.int64], count: int
) -> set[int]:
    """The ``count`` of ``rows`` nearest to a query, itself aside."""
    scores = x @ torch.from_numpy(query)
    top = scores.topk(min(count + 1, len(scores))).indices.numpy()
    return {int(row) for row in [row for row in rows[top] if row != own][:count]}


def _probe(lists: Any, queries: NDArray[np.float32], count: int, probed: int) -> NDArray[np.int64]:
    """Numbers ``(Q, count)`` of what is listed; -1 where there is no more."""
    found = lists.search(queries, count, params=library().SearchParametersIVF(nprobe=probed))[1]
    return np.asarray(found, np.int64)


def _read(index: Index) -> Cells | None:
    """The cells that are kept; None where there are none, or of another index."""
    about = index.folder / CELLS / _ABOUT
    if not about.is_file():
        return None
    tree = json.loads(about.read_text(encoding="utf-8"))
    measured = tree.pop("measured")
    if tree != _names(index) or set(measured) != set(index.vectors):
        return None
    faiss = library()
    return Cells(
        lists={name: faiss.read_index(str(_path(index, name))) for name in measured},
        measured={name: Measured(**one) for name, one in measured.items()},
    )


def _write(index: Index, cells: Cells) -> None:
    (index.folder / CELLS).mkdir(exist_ok=True)
    for name, lists in cells.lists.items():
        beside = _path(index, f".{name}")
        library().write_index(lists, str(beside))
        beside.replace(_path(index, name))
    measured = {name: asdict(one) for name, one in cells.measured.items()}
    tree = {**_names(index), "measured": measured}
    write_whole(index.folder / CELLS / _ABOUT, json.dumps(tree, indent=1) + "\n")


def _names(index: Index) -> dict[str, Any]:
    """What cells are of."""
    about = index.about
    return {
        "schema": SCHEMA,
        "model": about.model,
        "corpus": about.corpus,
        "seconds": about.seconds,
        "hop": about.hop,
        "windows": len(index),
    }


def _path(index: Index, name: str) -> Path:
    return index.folder / CELLS / f"{name}.faiss"


def library() -> "ModuleType":
    """FAISS.

    Raises:
        ValueError: the extra is missing.
    """
    try:
        import faiss  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ValueError(
            "approximate neighbours need the extra: pip install 'earsight[faiss]'"
        ) from error
    module: ModuleType = faiss
    return module
