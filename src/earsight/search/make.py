"""Making an index: every window of a corpus embedded, in parts that survive a stop."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from earsight.corpus.batch import Failure
from earsight.corpus.instances import Instances, instances
from earsight.corpus.manifest import read, resolved, write
from earsight.corpus.marks import Marked, mark
from earsight.corpus.part import Part
from earsight.corpus.scan_report import shown
from earsight.corpus.shards.check import check_prepared
from earsight.evaluation.load import Loaded
from earsight.search.count import count
from earsight.search.embed import Embedded, Span, WindowEmbedder
from earsight.search.gather import gather, is_manifest, left_out, nothing_to_embed
from earsight.search.index import (
    CORPUS,
    About,
    begin,
    check_folder,
    corpus_hash,
    model_hash,
    read_index,
    tidy,
)
from earsight.search.parts import part_path, passing, read_failures, write_part
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
        ValueError: the source cannot be used, the folder holds something else or a damaged part,
            or files of whole blocks are out of reach; what was made stays.
    """
    began = time.monotonic()
    if shard is not None and not is_manifest(source):
        raise ValueError(
            f"{source}: each of {shard.of} jobs would scan it; scan it once, and give the manifest"
        )
    check_folder(folder)
    embedder = WindowEmbedder(loaded=loaded, device=device, span=span, workers=workers)
    embedder.check()
    gathered = gather(source, folder)
    corpus, config = gathered.corpus, loaded.config
    check_prepared(corpus, config.video, config.audio, embedder.modalities)
    mask, out = left_out(corpus, embedder.modalities)
    chosen = instances(corpus, mask)
    if not len(chosen):
        raise ValueError(nothing_to_embed(source, corpus, out))
    embedder.groups(chosen)  # refuses what has no sound before a folder is begun
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
    if gathered.is_kept:
        write(corpus, folder / CORPUS)
    own = [number for number in range(about.parts) if shard is None or shard.has(number)]
    blocks = _Blocks(
        folder=folder,
        model=about.model,
        chosen=chosen,
        paths=corpus.select(mask).column("path").tolist(),
        own=own,
    )
    made = _make_blocks(embedder, blocks, progress)
    counted = count(folder, own)
    if shard is None:
        read_index(folder)  # refuses what cannot be searched
        tidy(folder)
    else:
        mark(folder, Marked(part=shard, corpus=resolved(source), left_out=len(out)))
    return IndexReport(
        folder=str(folder),
        files=counted.files,
        windows=counted.windows,
        embeddings=counted.embeddings,
        reused=len(own) - made,
        parts=len(own),
        left_out=len(out),
        failures=counted.failures,
        passing=counted.passing,
        seconds=time.monotonic() - began,
        part="" if shard is None else str(shard),
        kinds=out.kinds,
        first=out.first,
        skipped=gathered.skipped,
    )


@dataclass(frozen=True, kw_only=True)
class _Blocks:
    """What is embedded, block by block.

    Attributes:
        folder: of the index.
        model: hash of the model.
        chosen: all instances.
        paths: ``(N,)`` theirs, as in the corpus.
        own: numbers of the blocks that this call makes.
    """

    folder: Path
    model: str
    chosen: Instances
    paths: Sequence[str]
    own: Sequence[int]


def _make_blocks(embedder: WindowEmbedder, blocks: _Blocks, progress: Progress | None) -> int:
    """Make blocks that are not there, or in which something may be read by now; how many.

    Raises:
        ValueError: of some nothing can be reached now; the others are made.
    """
    paths = {number: part_path(blocks.folder, number) for number in blocks.own}
    held = {number: read_failures(path) for number, path in paths.items() if path.exists()}
    todo = [number for number in blocks.own if number not in held or passing(held[number])]
    size = len(blocks.chosen)
    rows = [range(n * _BLOCK, min((n + 1) * _BLOCK, size)) for n in todo]
    out_of_reach: list[Embedded] = []
    # Closed here, so that an error ends the workers, too, and not whoever keeps it.
    with closing(embedder.embed_parts(blocks.chosen, rows)) as parts:
        for done, (number, found) in enumerate(zip(todo, parts, strict=True), 1):
            if _is_news(found, held.get(number)):
                write_part(blocks.folder, number, found, blocks.chosen, blocks.paths, blocks.model)
            elif number not in held:
                out_of_reach.append(found)
            if progress is not None:
                progress(len(blocks.own) - len(todo) + done, len(blocks.own))
    if out_of_reach:
        raise ValueError(_out_of_reach(blocks, out_of_reach))
    return len(todo)


def _is_news(found: Embedded, held: Sequence[Failure] | None) -> bool:
    """Whether a block is to be written: it loses nothing that was read before."""
    if found.is_out_of_reach:
        return False
    return held is None or passing(found.failures) <= passing(held)


def _out_of_reach(blocks: _Blocks, lost: Sequence[Embedded]) -> str:
    first = lost[0].failures[0]
    return (
        f"{blocks.folder} is not finished: of {len(lost)} of {len(blocks.own)} blocks no file can "
        f"be read now, such as {shown(first.path)}: it {shown(first.reason)}; bring the files back "
        "(is their folder mounted?) and give the same `earsight embed` again, or scan again and "
        "embed into another folder"
    )


def most_blocks(source: str | Path) -> int:
    """How many blocks a manifest's instances make at most."""
    return -(-len(read(source)) // _BLOCK)
