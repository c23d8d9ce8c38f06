"""Making an index: every window of a corpus embedded, in parts that survive a stop."""

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from earsight.corpus.instances import instances
from earsight.corpus.manifest import Corpus, read, resolved, write
from earsight.corpus.marks import Marked, mark
from earsight.corpus.part import Part
from earsight.corpus.scan import scan
from earsight.corpus.shards.check import check_prepared, holds_shards
from earsight.evaluation.load import Loaded
from earsight.search.count import count
from earsight.search.embed import Span, WindowEmbedder
from earsight.search.index import (
    CORPUS,
    About,
    begin,
    check_folder,
    corpus_hash,
    model_hash,
    part_path,
    read_index,
    tidy,
    write_part,
)
from earsight.search.report import IndexReport

_BLOCK = 64
"""Instances of a part: what a stop loses at most."""

Progress = Callable[[int, int], None]


def make_index(
    loaded: Loaded,
    run: Path,
    source: str | Path,
    folder: Path,
    *,
    device: torch.device,
    span: Span,
    workers: int,
    shard: Part | None = None,
    progress: Progress | None = None,
) -> IndexReport:
    """Embed a corpus, going on where a former call was stopped.

    Args:
        loaded: the run.
        run: its folder.
        source: a manifest, or a folder or file, which is scanned into the index.
        folder: of the index.
        device: where the encoders are.
        span: how instances are cut.
        workers: decoding processes.
        shard: embed only the blocks of instances whose numbers are of this part. The folder may be
            one that jobs share, or one for each; :func:`earsight.search.merge.merge_indexes` joins
            them.
        progress: told of parts done, and of how many.

    Raises:
        ValueError: the source cannot be used, or the folder holds something else.
    """
    began = time.monotonic()
    if shard is not None and not is_manifest(source):
        raise ValueError(
            f"{source}: each of {shard.of} jobs would scan it; scan it once, and give the manifest"
        )
    check_folder(folder)
    embedder = WindowEmbedder(loaded=loaded, device=device, span=span, workers=workers)
    embedder.check()
    corpus = _corpus(source, folder)
    config = loaded.config
    check_prepared(corpus, config.video, config.audio, embedder.modalities)
    mask = _usable(corpus, embedder)
    chosen = instances(corpus, mask)
    if not len(chosen):
        raise ValueError(f"{source}: holds nothing that this run can embed")
    embedder.groups(chosen)  # refuses what has no sound before a folder is begun
    paths = corpus.select(mask).column("path").tolist()
    about = About(
        model=model_hash(loaded),
        run=str(run.resolve()),
        corpus=corpus_hash(chosen),
        seconds=embedder.seconds,
        hop=embedder.hop,
        missing=span.missing,
        block=_BLOCK,
        parts=-(-len(chosen) // _BLOCK),
        spaces=tuple(sorted(loaded.encoder.method.spaces)),
        notices=loaded.notices,
    )
    begin(folder, about)
    write(corpus, folder / CORPUS)
    own = [number for number in range(about.parts) if shard is None or shard.has(number)]
    todo = [number for number in own if not part_path(folder, number).exists()]
    rows = [range(n * _BLOCK, min((n + 1) * _BLOCK, len(chosen))) for n in todo]
    # Closed here, so that an error ends the workers, too, and not whoever keeps it.
    with closing(embedder.embed_parts(chosen, rows)) as parts:
        for done, (number, found) in enumerate(zip(todo, parts, strict=True), 1):
            write_part(folder, number, found, chosen, paths, about.model)
            if progress is not None:
                progress(len(own) - len(todo) + done, len(own))
    left_out = int((~mask).sum())
    counted = count(folder, own)
    if shard is None:
        read_index(folder)  # refuses what cannot be searched
        tidy(folder)
    else:
        mark(folder, Marked(part=shard, corpus=resolved(source), left_out=left_out))
    return IndexReport(
        folder=str(folder),
        files=counted.files,
        windows=counted.windows,
        embeddings=counted.embeddings,
        reused=len(own) - len(todo),
        parts=len(own),
        left_out=left_out,
        failures=counted.failures,
        seconds=time.monotonic() - began,
        part="" if shard is None else str(shard),
    )


def most_blocks(source: str | Path) -> int:
    """How many blocks a manifest's instances make at most."""
    return -(-len(read(source)) // _BLOCK)


def is_manifest(source: str | Path) -> bool:
    """Whether a source is a manifest, or holds one, and has not to be scanned."""
    return str(source).endswith(".parquet") or holds_shards(source)


def _corpus(source: str | Path, folder: Path) -> Corpus:
    """The manifest that ``source`` is or holds, or that of a scan of it."""
    if is_manifest(source):
        return read(source)
    # Apart: an index of something else, which is refused later, keeps its own manifest.
    with tempfile.TemporaryDirectory() as place:
        manifest = Path(place) / CORPUS
        if (folder / CORPUS).is_file():
            shutil.copy(folder / CORPUS, manifest)  # files that it knows are not read again
        scan([str(source)], manifest, min_duration=0.0)
        return read(manifest)


def _usable(corpus: Corpus, embedder: WindowEmbedder) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """``(R,)`` bool: instances that have a modality of the run, and are no copies."""
    content = corpus.content()
    there = np.zeros(len(corpus), bool)
    if "video" in embedder.modalities:
        there |= content.has_video
    if "audio" in embedder.modalities:
        there |= content.has_audio
    return content.readable & there & ~corpus.is_duplicate()
