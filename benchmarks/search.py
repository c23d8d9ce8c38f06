"""Search of 100,000 windows: the time of a query, exact, after loading, on two cores.

An index folder in the format of `earsight embed` is written with made-up unit vectors of 128 in
both modalities, ten windows a file, and read. Queries by pictures, and by agreement, give ten files
each. What counts is core-milliseconds, which on a machine with nothing else to do no query exceeds
on the clock, and which others on the machine add little to. Beside them stands the plainest
reference: a product in numpy, and argpartition, over the same vectors; what it finds must be the
same. Beyond the target, the index of FAISS is measured over as many windows (with the extra
``faiss``).
"""

import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

# As the command does: threads that spin while they wait take the cores from those at work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from common import Target, arguments, finish, median, timed
from earsight.corpus.instances import Instances
from earsight.search.approximate import Cells, make_cells, search_cells
from earsight.search.embed import Embedded
from earsight.search.embedder import Embedding
from earsight.search.index import About, Index, begin, read_index
from earsight.search.parts import write_part
from earsight.search.query import By, Hit, search

WINDOWS = 100_000
PER_FILE = 10
DIM = 128
CLUSTERS = 2000
QUERIES = 50
MILLISECONDS = 50.0
CORES = 2
COUNT = 10

Names = tuple[str, ...]
Gallery = list[NDArray[np.float32]]
Raw = dict[str, dict[str, list[float]]]
WAYS: dict[By, Names] = {"video-video": ("video",), "agreement": ("video", "audio")}


def vectors(seed: int, count: int) -> dict[str, Tensor]:
    """Unit vectors ``(count, DIM)`` by modality, in clusters that both share, as embeddings are."""
    centres = torch.randn(2, CLUSTERS, DIM, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    own = torch.randint(CLUSTERS, (count,), generator=generator)
    noise = 0.8 * torch.randn(2, count, DIM, generator=generator)
    both = normalize(centres[:, own] + noise, dim=2)
    return {"video": both[0], "audio": both[1]}


def write(folder: Path, windows: int) -> None:
    """An index of made-up windows, in parts of 64 files as `earsight embed` leaves them."""
    files = windows // PER_FILE
    block = 64
    parts = -(-files // block)
    about = About(
        model="made-up",
        run="",
        corpus="made-up",
        seconds=1.0,
        hop=1.0,
        missing="skip",
        block=block,
        parts=parts,
        spaces=(("audio", "video"), ("video", "audio")),
    )
    begin(folder, about)
    paths = [f"{number:07d}.mp4" for number in range(files)]
    listed = instances(files, paths)
    every = vectors(1, windows)
    row = np.repeat(np.arange(files), PER_FILE)
    start = np.tile(np.arange(PER_FILE, dtype=np.float64), files)
    for number in range(parts):
        span = slice(number * block * PER_FILE, (number + 1) * block * PER_FILE)
        found = Embedded(
            row=row[span],
            start=start[span],
            end=start[span] + 1,
            vectors={name: x[span] for name, x in every.items()},
        )
        write_part(folder, number, found, listed, paths, about.model)


def instances(files: int, paths: list[str]) -> Instances:
    """Files of ten seconds that are not there."""
    whole, none = np.zeros(files, np.int64), np.zeros(files)
    ten, there = np.full(files, float(PER_FILE)), np.ones(files, bool)
    return Instances(
        key=np.arange(1, files + 1, dtype=np.uint64),
        path=paths,
        size=whole,
        mtime_ns=whole,
        group=np.array(paths, object),
        start=none,
        end=ten,
        width=whole,
        height=whole,
        fps=none,
        video_stream=whole,
        video_start=none,
        video_end=ten,
        audio_stream=whole,
        audio_start=none,
        audio_end=ten,
        has_video=there,
        has_audio=there,
        labels={},
        vocabulary={},
    )


def queries(number: int) -> list[Embedding]:
    """Made-up files of one window each."""
    every, one = vectors(2, number), np.zeros(1)
    return [
        Embedding(
            start=one, end=one + 1, vectors={name: x[at : at + 1] for name, x in every.items()}
        )
        for at in range(number)
    ]


def reference(
    gallery: list[NDArray[np.float32]], query: list[NDArray[np.float32]]
) -> NDArray[np.int64]:
    """The windows of the best files: all products, the least of each, argpartition."""
    scores = np.minimum.reduce([x @ q for x, q in zip(gallery, query, strict=True)])
    by_file = scores.reshape(-1, PER_FILE)
    files = np.argpartition(by_file.max(axis=1), -COUNT)[-COUNT:]
    rows = files * PER_FILE + by_file[files].argmax(axis=1)
    return np.asarray(rows[np.argsort(-scores[rows])])


def times(work: Callable[[Embedding], object], asked: list[Embedding]) -> dict[str, list[float]]:
    """Milliseconds of each query, after a first that is not counted."""
    work(asked[0])
    found = [timed(partial(work, query)) for query in asked]
    return {kind: [1000 * one[kind] for one in found] for kind in ("wall", "core")}


def check(index: Index, found: list[Hit], query: Embedding, names: tuple[str, ...]) -> None:
    """What the search found must be what the reference finds."""
    gallery = [index.vectors[name].numpy() for name in names]
    rows = reference(gallery, [query.vectors[name][0].numpy() for name in names])
    assert [hit.key for hit in found] == [f"{int(index.key[row]):016x}" for row in rows]


def measure(index: Index, asked: list[Embedding], raw: Raw) -> None:
    """Exact queries, and the reference's, each way."""
    for by, names in WAYS.items():
        gallery = [index.vectors[name].numpy() for name in names]

        def plain(query: Embedding, names: Names = names, gallery: Gallery = gallery) -> object:
            return reference(gallery, [query.vectors[name][0].numpy() for name in names])

        for query in asked:
            check(index, ask(index, by, query), query, names)
        raw[by] = times(partial(ask, index, by), asked)
        raw[f"{by}, numpy"] = times(plain, asked)


def measure_cells(index: Index, asked: list[Embedding], raw: Raw) -> list[list[str]]:
    """Queries by FAISS: a line of the table each way, with the share of the exact hits."""
    made: list[Cells] = []
    spent = timed(lambda: made.append(make_cells(index)))
    (cells,) = made
    note = f"cells made in {spent['core']:.0f} core-seconds"
    lines = []
    for by in WAYS:

        def near(query: Embedding, by: By = by) -> list[Hit]:
            return search_cells(index, cells, query, by=by, count=COUNT)[1]

        raw[f"{by}, FAISS"] = times(near, asked)
        shared = sum(
            len({hit.key for hit in ask(index, by, query)} & {hit.key for hit in near(query)})
            for query in asked
        )
        share = shared / (COUNT * len(asked))
        name = f"{by}, FAISS"
        lines.append(line(name, raw[name], f"{note}; recall {share:.3f}"))
    return lines


def line(name: str, spent: dict[str, list[float]], note: str) -> list[str]:
    """A line of the table."""
    return [name, f"{median(spent['core']):.3g}", note]


def ask(index: Index, by: By, query: Embedding) -> list[Hit]:
    """Ten files, exactly."""
    return search(index, query, by=by, count=COUNT)[1]


def main() -> int:
    """Write, read, ask."""
    options = arguments(__doc__ or "")
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))
    windows = WINDOWS // 10 if options.quick else WINDOWS
    asked = queries(5 if options.quick else QUERIES)
    raw: Raw = {}
    with tempfile.TemporaryDirectory() as place:
        write(Path(place) / "index", windows)
        loaded = timed(lambda: read_index(Path(place) / "index"))
        index = read_index(Path(place) / "index")
        measure(index, asked, raw)
        table = [["", "core-milliseconds", "note"]]
        table += [line(by, raw[by], "exact") for by in WAYS]
        table += [line(f"{by}, numpy", raw[f"{by}, numpy"], "finds the same") for by in WAYS]
        if find_spec("faiss") is not None:
            table += measure_cells(index, asked, raw)
        spent = {kind: [1000 * seconds] for kind, seconds in loaded.items()}
        table.append(line("loading", spent, "once"))
    targets = [
        Target(
            name=f"a query of {windows:,} windows by {by}",
            measured=median(raw[by]["core"]),
            unit=" core-ms",
            most=MILLISECONDS,
        )
        for by in WAYS
    ]
    found = {"milliseconds": raw, "loading": loaded, "table": table, "quick": options.quick}
    return finish(targets, found, options.json)


if __name__ == "__main__":
    sys.exit(main())
