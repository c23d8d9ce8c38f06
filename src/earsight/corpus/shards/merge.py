"""Joining parts of a prepared corpus: their archives in one folder, and the manifest of all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from earsight.corpus.keys import key_text
from earsight.corpus.manifest import read
from earsight.corpus.marks import Marked, all_marks, bring
from earsight.corpus.shards.folder import begin, read_about
from earsight.corpus.shards.plan import SHARDS, make_plan
from earsight.corpus.shards.prepare import finish, report_of
from earsight.corpus.shards.report import PrepareReport
from earsight.corpus.shards.write import Contents, archive_name, contents_path, read_contents
from earsight.media.types import Coding


def merge_shards(
    places: Sequence[Path], output: Path, *, corpus: str | Path | None = None
) -> PrepareReport:
    """Join the parts that ``prepare`` made with ``shard`` to what it makes without.

    Archives are linked, and copied only to another disk. Called again, it goes on where it was
    stopped.

    Args:
        places: folders that hold the parts, in any order; one that jobs shared holds several.
        output: the folder of all; may be among ``places``.
        corpus: the manifest that the parts were made from, where it has moved.

    Raises:
        ValueError: parts or archives are missing, contradict each other, or are of another corpus.
        OSError: the folder cannot be written.
    """
    began = time.monotonic()
    about = _about(places)
    found, of = all_marks(places, "prepare")
    source = read(_corpus(found) if corpus is None else corpus)
    coding, seconds = Coding(**about["coding"]), float(about["shard_seconds"])
    plan = make_plan(source, coding, seconds)
    if plan.name != about["name"]:
        raise ValueError(
            f"{places[0]}: was made of another corpus than {corpus or found[0].corpus}, or of it "
            "before it changed; give that manifest as --corpus"
        )
    where = [_where(places, number, of) for number in range(plan.shards)]
    begin(output, plan, coding, seconds)
    for number, (place, _) in enumerate(where):
        # What the archive holds comes last: with it, it is whole.
        for name in (archive_name(number), contents_path(place, number).name):
            bring(place / name, output / name)
    contents = [one for _, one in where]
    finish(source, plan, contents, coding, output)
    report = report_of(source, plan, dict(enumerate(contents)), output)
    return replace(report, seconds=time.monotonic() - began)


def _about(places: Sequence[Path]) -> dict[str, Any]:
    """What all folders were begun with."""
    found: list[dict[str, Any]] = []
    for place in places:
        file = place / SHARDS
        if not file.is_file():
            raise ValueError(f"{place}: is no folder of shards (it has no {SHARDS})")
        found.append(read_about(place))
        differ = [name for name, value in found[0].items() if found[-1].get(name) != value]
        if differ:
            # The name is of the corpus and of all else.
            what = [name for name in differ if name != "name"] or ["corpus"]
            raise ValueError(
                f"{place}: was made with another {', '.join(what)} than {places[0]}; merge those "
                "alike"
            )
    return found[0]


def _corpus(found: Sequence[Marked]) -> str:
    """The manifest that the parts were made from, by whichever name leads to it here."""
    names = dict.fromkeys(one.corpus for one in found)
    return next((name for name in names if Path(name).exists()), next(iter(names)))


def _where(places: Sequence[Path], number: int, of: int) -> tuple[Path, Contents]:
    """The folder that holds an archive, and what is in it.

    Raises:
        ValueError: none has it whole, or two hold different ones.
    """
    held = [(place, read_contents(place, number)) for place in places]
    whole = [(place, contents) for place, contents in held if contents is not None]
    if not whole:
        raise ValueError(
            f"{archive_name(number)} is missing or not whole; run `earsight prepare` with "
            f"--shard {number % of}/{of} again, which makes what is missing"
        )
    first, contents = whole[0]
    for place, other in whole[1:]:
        if contents != other:
            differ = [
                key for key in contents.placed if other.placed.get(key) != contents.placed[key]
            ]
            raise ValueError(
                f"{first} and {place} hold different {archive_name(number)}: of its "
                f"{len(contents.placed)} clips {len(differ)} differ"
                f"{f', such as {key_text(differ[0])}' if differ else ''}; take one of the two away"
            )
    return first, contents
