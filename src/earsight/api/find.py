"""Load encoders; embed a corpus, search it, serve it as a page."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from earsight.api.corpora import Engine, seconds_of
from earsight.corpus.part import Part, parse_part
from earsight.evaluation.load import Progress, load_run, require_media
from earsight.hub import download
from earsight.search.approximate import Neighbours, choose, open_cells, search_cells
from earsight.search.embed import Missing, Span
from earsight.search.embedder import Embedder
from earsight.search.index import model_hash, read_index
from earsight.search.over_ray import embed_over_ray, embed_run
from earsight.search.query import By, Hit
from earsight.search.query import search as search_index
from earsight.search.report import IndexReport
from earsight.training.devices import choose_device, cores

if TYPE_CHECKING:
    from earsight.serve.run import Serving

HUB = "hf://"
"""What the name of a model on the hub begins with, where a run is asked for."""


def load(run: Path | str, *, device: str = "auto") -> Embedder:
    """A run's encoders, ready to embed anyone's files and arrays.

    Args:
        run: the run folder, an export of it, or ``hf://OWNER/NAME`` (perhaps ``@REVISION``) for a
            model on the hub: nothing is asked for there unless it is so named.
        device: ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        ValueError: the folder is no run, it has not finished, or the model names plugins that have
            not been imported.
        RunError: the hub cannot be reached, or has no such model.
    """
    place = choose_device(device)
    if str(run).startswith(HUB):
        name, _, revision = str(run).removeprefix(HUB).partition("@")
        run = download(name, revision or None)
    loaded = load_run(Path(run), place)
    require_media(loaded, run)
    return Embedder(loaded=loaded, device=place)


def embed(
    run: Path,
    source: str | Path,
    output: Path,
    *,
    window: str | float | None = None,
    hop: str | float | None = None,
    missing: Missing = "skip",
    workers: int | None = None,
    shard: str | Part | None = None,
    engine: Engine = "here",
    device: str = "auto",
    progress: Progress | None = None,
) -> IndexReport:
    """Embed every window of a corpus into an index; called again, it goes on where it was stopped.

    Args:
        run: the run folder.
        source: a manifest, or a folder or file, which is scanned.
        output: folder of the index.
        window: seconds of a window, or text such as ``2s``; None for the model's clips.
        hop: from one start to the next; None for the length of a window.
        missing: what becomes of files without sound: ``skip``, ``silence`` or ``error``.
        workers: decoding processes; None for one per core.
        shard: ``i/n``: embed only one of n parts, from 0 on, to be joined by
            :func:`earsight.api.merge`.
        engine: ``here``, or ``ray``: all parts by the nodes of a Ray cluster, where ``workers``
            (1 if not given) is the cores of each; all folders must be on disks that all share.
        device: where the encoders are.
        progress: told of blocks of instances done, and of how many.

    Raises:
        ValueError: run or source cannot be used, or the folder holds something else.
    """
    part = parse_part(shard)
    span = Span(seconds=seconds_of(window), hop=seconds_of(hop), missing=missing)
    if engine == "ray":
        if part is not None:
            raise ValueError(
                "shard: has no effect with an engine, which does all parts; leave it out"
            )
        return embed_over_ray(
            run, source, output, device=device, span=span, workers=workers, progress=progress
        )
    return embed_run(
        run,
        source,
        output,
        device=device,
        span=span,
        workers=cores() if workers is None else workers,
        shard=part,
        progress=progress,
    )


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found.

    Attributes:
        by: what was compared with what.
        hits: the nearest, best first.
        neighbours: ``exact``, or ``faiss``, which may have missed some.
        note: what is to be said of that.
    """

    by: By
    hits: list[Hit]
    neighbours: Literal["exact", "faiss"]
    note: str


def search(
    index: Path,
    query: Path,
    *,
    by: By | None = None,
    count: int = 10,
    every_window: bool = False,
    neighbours: Neighbours = "auto",
    run: Path | None = None,
    device: str = "auto",
) -> Found:
    """What in an index is nearest to a file; see :func:`earsight.search.query.search`.

    Args:
        index: its folder.
        query: a file.
        by: modality of the query and of what is found, or ``agreement``.
        count: how many, at most.
        every_window: not only a file's best window.
        neighbours: ``exact``; or by ``faiss``, see :mod:`earsight.search.approximate`. ``auto``
            takes the latter beyond a million windows, where its extra is installed.
        run: the run that the index was made with, where that has moved.
        device: where the encoders are.

    Raises:
        ValueError: index, run or query cannot be used, or the extra is missing.
    """
    known = read_index(index)
    embedder = load(known.about.run if run is None else run, device=device)
    if model_hash(embedder.loaded) != known.about.model:
        raise ValueError(f"{index} was made by other weights than these; embed again")
    chosen, note = choose(neighbours, len(known))
    asked = embedder.embed(query)
    if chosen == "exact":
        used, hits = search_index(known, asked, by=by, count=count, spread=not every_window)
        return Found(by=used, hits=hits, neighbours="exact", note=note)
    cells = open_cells(known)
    used, hits = search_cells(known, cells, asked, by=by, count=count, spread=not every_window)
    return Found(by=used, hits=hits, neighbours="faiss", note=cells.about(known, asked, used))


def serve(
    index: Path,
    *,
    ready: "Callable[[Serving], None]",
    host: str = "127.0.0.1",
    port: int = 8765,
    upload_mb: int = 256,
    run: Path | None = None,
    device: str = "auto",
) -> None:
    """Show an index as a web page on this machine, until a signal comes.

    Args:
        index: its folder.
        ready: told of the address once it listens.
        host: address to listen at; by default only this machine can reach it.
        port: likewise; 0 for any that is free.
        upload_mb: largest file that can be searched with.
        run: the run that the index was made with, where that has moved.
        device: where the encoders are.

    Raises:
        ValueError: the extra is missing, index or run cannot be used, or the address is taken.
    """
    try:
        from earsight.serve.limits import UploadLimits
        from earsight.serve.run import run_server
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("earsight"):
            raise
        raise ValueError("the page needs the extra: pip install 'earsight[serve]'") from error
    if upload_mb < 1:
        raise ValueError("max-upload: must be at least 1 MB")
    known = read_index(index)
    embedder = load(known.about.run if run is None else run, device=device)
    limits = UploadLimits(size=upload_mb * 2**20)
    run_server(known, embedder, host=host, port=port, limits=limits, ready=ready)
