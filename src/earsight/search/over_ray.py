"""Embedding a corpus on a Ray cluster: the parts of a job array, joined in one index."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from earsight.corpus.manifest import resolved
from earsight.corpus.over_ray import Progress, over_parts
from earsight.corpus.part import Part
from earsight.errors import RunError
from earsight.evaluation.load import load_run, require_media
from earsight.search.embed import Span
from earsight.search.gather import is_manifest
from earsight.search.index import ABOUT, read_about
from earsight.search.make import make_index, most_blocks
from earsight.search.parts import part_path
from earsight.search.report import IndexReport
from earsight.training.devices import choose_device, prepare_machine


def embed_run(
    run: Path,
    source: str | Path,
    folder: Path,
    *,
    device: str,
    span: Span,
    workers: int,
    shard: Part | None = None,
    progress: Progress | None = None,
) -> IndexReport:
    """Load a run and make an index by it; see :func:`earsight.search.make.make_index`."""
    place = choose_device(device)
    loaded = load_run(run, place)
    require_media(loaded, run)
    prepare_machine(replace(loaded.config, device=str(place)))
    return make_index(
        loaded,
        run,
        source,
        folder,
        device=place,
        span=span,
        workers=workers,
        shard=shard,
        progress=progress,
    )


def embed_over_ray(
    run: Path,
    source: str | Path,
    folder: Path,
    *,
    device: str,
    span: Span,
    workers: int | None = None,
    progress: Progress | None = None,
) -> IndexReport:
    """Embed a corpus by the nodes of a Ray cluster.

    Args:
        run: the run folder, on a disk that all nodes share, as all of these.
        source: a manifest.
        folder: of the index.
        device: where the encoders are; with ``auto`` and ``cuda``, each part gets a GPU if the
            cluster has any.
        span: how instances are cut.
        workers: decoding processes, and cores, that each part takes; 1 where None.
        progress: told of parts done, and of how many.

    Raises:
        ValueError: run or source cannot be used, or the extra is missing.
        RunError: the disk is full, or nodes left nothing where this machine can see it.
    """
    began = time.monotonic()
    workers = 1 if workers is None else workers
    if workers < 1:
        raise ValueError("workers: must be 1 or more processes for each part with an engine")
    if not is_manifest(source):
        raise ValueError(f"{source}: the nodes would each scan it; scan it once, and give that")
    run, place, folder = run.resolve(), resolved(source), folder.resolve()
    there = _whole(folder)
    job = partial(
        _embed, run=run, source=place, folder=folder, device=device, span=span, workers=workers
    )
    over_parts(
        job,
        most=most_blocks(place),
        cores=workers,
        gpu=device in {"auto", "cuda"},
        progress=progress,
    )
    missing = read_about(folder).parts - _whole(folder) if _begun(folder) else 1
    if missing:
        raise RunError(
            f"{folder}: blocks that the Ray cluster made are not here ({missing} or more); give a "
            "folder on a disk that all of its nodes share"
        )
    report = embed_run(run, place, folder, device=device, span=span, workers=0)
    return replace(report, reused=there, seconds=time.monotonic() - began)


def _embed(part: Part, *, run: Path, source: str, folder: Path, **options: object) -> None:
    embed_run(run, source, folder, shard=part, **options)  # type: ignore[arg-type]


def _begun(folder: Path) -> bool:
    return (folder / ABOUT).is_file()


def _whole(folder: Path) -> int:
    """How many blocks are there."""
    if not _begun(folder):
        return 0
    return sum(part_path(folder, number).exists() for number in range(read_about(folder).parts))
