"""Preparing a corpus on a Ray cluster: the parts of a job array, and the manifest in the end."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from earsight.corpus.manifest import read, resolved
from earsight.corpus.over_ray import Progress, over_parts
from earsight.corpus.part import Part
from earsight.corpus.shards.plan import make_plan
from earsight.corpus.shards.prepare import SHARD_SECONDS, prepare
from earsight.corpus.shards.report import PrepareReport
from earsight.corpus.shards.write import read_contents
from earsight.errors import RunError
from earsight.media.types import Coding


def prepare_over_ray(
    corpus: str | Path,
    output: Path,
    *,
    coding: Coding | None = None,
    shard_seconds: float = SHARD_SECONDS,
    workers: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> PrepareReport:
    """Prepare a corpus by the nodes of a Ray cluster; see :func:`prepare`.

    Args:
        corpus: a manifest.
        output: the folder of the shards, on a disk that all nodes share.
        coding: how pictures and sound are written.
        shard_seconds: of the instances in a shard.
        workers: processes, and cores, that each part takes; 1 where None, and not fewer, for a file
            that crashes its reader would be tried for ever.
        progress: told of parts done, and of how many.
        options: other arguments of :func:`prepare`.

    Raises:
        ValueError: as there, or the extra is missing.
        RunError: the disk is full, or nodes left nothing where this machine can see it.
    """
    began = time.monotonic()
    workers = 1 if workers is None else workers
    if workers < 1:
        raise ValueError("workers: must be 1 or more processes for each part with an engine")
    coding, place = coding or Coding(), resolved(corpus)
    shards = make_plan(read(place), coding, shard_seconds).shards
    there = _whole(output, shards)
    job = partial(
        _prepare,
        corpus=place,
        output=output.resolve(),
        coding=coding,
        shard_seconds=shard_seconds,
        workers=workers,
        **options,
    )
    over_parts(job, most=shards, cores=workers, progress=progress)
    missing = shards - _whole(output, shards)
    if missing:
        raise RunError(
            f"{output}: {missing} of {shards} archives that the Ray cluster made are not here; "
            "give a folder on a disk that all of its nodes share"
        )
    report = prepare(corpus, output, coding=coding, shard_seconds=shard_seconds, **options)
    return replace(report, reused=there, seconds=time.monotonic() - began)


def _prepare(part: Part, *, corpus: str, output: Path, **options: Any) -> None:
    prepare(corpus, output, shard=part, **options)


def _whole(output: Path, shards: int) -> int:
    """How many archives are whole."""
    return sum(read_contents(output, number) is not None for number in range(shards))
