"""Making an index: every window of a corpus embedded, in parts that survive a stop."""

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from earsight.corpus.batch import Failure
from earsight.corpus.instances import instances
from earsight.corpus.manifest import Corpus, read, write
from earsight.corpus.scan import scan
from earsight.corpus.shards.check import check_prepared, holds_shards
from earsight.evaluation.load import Loaded
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
    write_part,
)

_BLOCK = 64
"""Instances of a part: what a stop loses at most."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """What an index holds.

    Attributes:
        folder: of the index.
        files: that have windows.
        windows: in all.
        embeddings: name to how many windows have it.
        reused: parts that an earlier call had made.
        parts: in all.
        left_out: instances that hold nothing the run can embed, and copies of others.
        failures: instances that could not be read.
        seconds: this call took.
    """

    folder: str
    files: int
    windows: int
    embeddings: dict[str, int]
    reused: int
    parts: int
    left_out: int
    failures: tuple[Failure, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        each = ", ".join(f"{count} {name}" for name, count in self.embeddings.items())
        lines = [f"{self.windows} windows of {self.files} files embedded ({each})"]
        lines += [f"{self.left_out} instances left out: nothing to embed, or copies of others"] * (
            self.left_out > 0
        )
        lines += [f"could not be read: {one.path}: {one.reason}" for one in self.failures[:5]]
        lines += [f"… and {len(self.failures) - 5} more"] * (len(self.failures) > 5)
        lines += [f"{self.reused} of {self.parts} parts were there already"] * (self.reused > 0)
        return "\n".join([*lines, f"the index is in {self.folder}"])


def make_index(
    loaded: Loaded,
    run: Path,
    source: str | Path,
    folder: Path,
    *,
    device: torch.device,
    span: Span,
    workers: int,
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
        progress: told of parts done, and of how many.

    Raises:
        ValueError: the source cannot be used, or the folder holds something else.
    """
    began = time.monotonic()
    check_folder(folder)
    corpus = _corpus(source, folder)
    embedder = WindowEmbedder(loaded=loaded, device=device, span=span, workers=workers)
    config = loaded.config
    check_prepared(corpus, config.video, config.audio, embedder.modalities)
    mask = _usable(corpus, embedder)
    chosen = instances(corpus, mask)
    if not len(chosen):
        raise ValueError(f"{source}: holds nothing that this run can embed")
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
    there = [part_path(folder, number).exists() for number in range(about.parts)]
    todo = np.flatnonzero(~np.array(there)).tolist()
    rows = [range(n * _BLOCK, min((n + 1) * _BLOCK, len(chosen))) for n in todo]
    # Closed here, so that an error ends the workers, too, and not whoever keeps it.
    with closing(embedder.embed_parts(chosen, rows)) as parts:
        for number, found in zip(todo, parts, strict=True):
            write_part(folder, number, found, chosen, paths, about.model)
            if progress is not None:
                progress(number + 1, about.parts)
    index = read_index(folder)
    return IndexReport(
        folder=str(folder),
        files=len(index.paths),
        windows=len(index),
        embeddings={name: int(known.sum()) for name, known in index.known.items()},
        reused=sum(there),
        parts=about.parts,
        left_out=int((~mask).sum()),
        failures=index.failures,
        seconds=time.monotonic() - began,
    )


def _corpus(source: str | Path, folder: Path) -> Corpus:
    """The manifest that ``source`` is or holds, or that of a scan of it."""
    if str(source).endswith(".parquet") or holds_shards(source):
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
