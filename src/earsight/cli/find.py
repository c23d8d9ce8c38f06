"""Commands that search: embed a corpus, ask, and show it as a page."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from earsight.cli.show import emit, progress


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Embed every window of a corpus, to search it.

    Example: earsight embed runs/first ~/videos -o index --window 2s --hop 1s

    Given again, it goes on where it was stopped.
    """

    folder: Positional[Path]
    """The run folder."""
    source: Positional[str]
    """A manifest, or a folder or file, which is scanned."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """The folder of the index."""
    window: str | None = None
    """Length of a window, such as 2s (default: that of the model's clips)."""
    hop: str | None = None
    """From one window's start to the next (default: the length of a window)."""
    missing: Literal["skip", "silence", "error"] = "skip"
    """What becomes of files without sound."""
    workers: int | None = None
    """Processes (default: one per core; with an engine, one for each part)."""
    shard: str | None = None
    """i/n: only one of n parts of the manifest, from 0 to n - 1; `earsight merge` joins them."""
    engine: Literal["here", "ray"] = "here"
    """By processes of this machine, or all parts by the nodes of the Ray cluster at RAY_ADDRESS
    (without it, by one of this machine alone)."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Embed."""
        from earsight import api

        with progress("embedding") as show:
            report = api.embed(
                self.folder,
                self.source,
                self.output,
                window=self.window,
                hop=self.hop,
                missing=self.missing,
                workers=self.workers,
                shard=self.shard,
                engine=self.engine,
                progress=show,
            )
        emit(self.json, report.as_dict(), str(report), run=self.folder)
        return 0


@dataclass(frozen=True, kw_only=True)
class Search:
    """Find what in an index is nearest to a file.

    Example: earsight search index --query clip.mp4 --by audio-video
    """

    index: Positional[Path]
    """The folder that `earsight embed` made."""
    query: Path
    """A video or a sound; its windows are averaged."""
    by: Literal["video-video", "audio-audio", "video-audio", "audio-video", "agreement"] | None = (
        None
    )
    """Modality of the query and of what is found, or agreement in both (default: agreement where
    there are both, else within the one)."""
    count: Annotated[int, arg(aliases=["-k"])] = 10
    """How many, at most."""
    every_window: bool = False
    """Not only the best window of each file."""
    neighbours: Literal["auto", "exact", "faiss"] = "auto"
    """Exact, or by FAISS, which may miss some (default: FAISS beyond a million windows, where its
    extra is installed)."""
    from_run: Annotated[Path | None, arg(name="run")] = None
    """The run that the index was made with, where that has moved."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Search."""
        from earsight import api
        from earsight.search.tables import format_hits

        found = api.search(
            self.index,
            self.query,
            by=self.by,
            count=self.count,
            every_window=self.every_window,
            neighbours=self.neighbours,
            run=self.from_run,
        )
        tree = {**vars(found), "hits": [hit.as_dict() for hit in found.hits]}
        emit(self.json, tree, f"{format_hits(found.by, found.hits)}\n{found.note}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Show an index as a web page on this machine: drop a file, see and hear what is near.

    Example: earsight serve index
    """

    index: Positional[Path]
    """The folder that `earsight embed` made."""
    port: int = 8765
    """Where the page is; 0 for any port that is free."""
    host: str = "127.0.0.1"
    """Address to listen at; any but this one shows the files to other machines."""
    max_upload: int = 256
    """Largest file that can be dropped, in MB."""
    from_run: Annotated[Path | None, arg(name="run")] = None
    """The run that the index was made with, where that has moved."""
    json: bool = False
    """Print the address for machines."""

    def run(self) -> int:
        """Serve, until Ctrl-C."""
        from earsight import api

        def ready(serving: Any) -> None:
            emit(self.json, serving.as_dict(), str(serving))
            sys.stdout.flush()

        try:
            api.serve(
                self.index,
                ready=ready,
                host=self.host,
                port=self.port,
                upload_mb=self.max_upload,
                run=self.from_run,
            )
        except KeyboardInterrupt:  # how it is meant to end
            return 0
        return 0
