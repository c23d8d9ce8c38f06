"""Joining parts of an index: their blocks in one folder."""

from __future__ import annotations

import filecmp
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from earsight.corpus.marks import all_marks, bring
from earsight.search.count import count
from earsight.search.index import CORPUS, About, begin, check_folder, read_about, tidy
from earsight.search.parts import part_path
from earsight.search.report import IndexReport


def merge_indexes(places: Sequence[Path], output: Path) -> IndexReport:
    """Join the parts that ``make_index`` made with ``shard`` to what it makes without.

    Blocks are linked, and copied only to another disk.

    Args:
        places: folders that hold the parts, in any order; one that jobs shared holds several.
        output: the folder of all; may be among ``places``.

    Raises:
        ValueError: parts or blocks are missing, contradict each other, or are of another model or
            corpus; or nothing could be read at all.
        OSError: the folder cannot be written.
    """
    began = time.monotonic()
    about = _about(places)
    found, of = all_marks(places, "embed")
    where = [_where(places, number, of) for number in range(about.parts)]
    check_folder(output)
    begin(output, about)
    bring(places[0] / CORPUS, output / CORPUS)
    for number, place in enumerate(where):
        bring(part_path(place, number), part_path(output, number))
    counted = count(output, range(about.parts))
    if not counted.windows:
        raise ValueError(f"{output} holds no embedding; nothing could be read")
    tidy(output)
    return IndexReport(
        folder=str(output),
        files=counted.files,
        windows=counted.windows,
        embeddings=counted.embeddings,
        reused=0,
        parts=about.parts,
        left_out=found[0].left_out,
        failures=counted.failures,
        passing=counted.passing,
        seconds=time.monotonic() - began,
    )


def _about(places: Sequence[Path]) -> About:
    """What all folders were begun with; the run may have lain elsewhere for some."""
    found = [read_about(place) for place in places]
    first = asdict(found[0])
    for place, one in zip(places[1:], found[1:], strict=True):
        differ = [name for name, value in asdict(one).items() if first[name] != value]
        if differ := [name for name in differ if name != "run"]:
            raise ValueError(
                f"{place}: is of another {' and '.join(differ)} than {places[0]}; merge those alike"
            )
    return found[0]


def _where(places: Sequence[Path], number: int, of: int) -> Path:
    """The folder that holds a block.

    Raises:
        ValueError: none has it, it is damaged, or two hold different ones.
    """
    held = [place for place in places if part_path(place, number).exists()]
    if not held:
        raise ValueError(
            f"block {number} is missing; run `earsight embed` with --shard {number % of}/{of} "
            "again, which makes what is missing"
        )
    first = part_path(held[0], number)
    try:
        pq.read_metadata(first)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"{first}: is damaged; remove it, and run `earsight embed` with --shard "
            f"{number % of}/{of} again"
        ) from error
    for place in held[1:]:
        if not filecmp.cmp(first, part_path(place, number), shallow=False):
            raise ValueError(
                f"{held[0]} and {place} hold different embeddings of the same instances (block "
                f"{number}); take one of the two away"
            )
    return held[0]
