"""Commands that make a corpus: of files, of another one, or of recordings."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from earsight.cli.show import emit, progress


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Find videos, read what they hold, and write the manifest that everything else works on.

    Example: earsight scan ~/videos -o corpus.parquet --segment 10s
    """

    sources: Positional[tuple[str, ...]] = ()
    """Folders or files; NAME=FOLDER keeps several sources apart."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """The manifest to write; if it exists, only what has changed is read again."""
    layout: str | None = None
    """A known data set, whose official lists bring labels and splits: kinetics-400, kinetics-700,
    kinetics-sound, audioset, ucf-101, hmdb-51, esc-50, esc-10, dcase-2014, vggsound."""
    root: Path | None = None
    """Folder of that data set, with its lists and what was downloaded of its media."""
    classes: Path | None = None
    """kinetics-sound: a file of classes, one a line (default: 31)."""
    draw: int | None = None
    """audioset: training segments to draw at random (default: all)."""
    seed: int | None = None
    """audioset: of that draw (default: 0)."""
    ancestors: bool = False
    """audioset: label segments with the classes above theirs too, by ontology.json."""
    segment: str | None = None
    """Cut files longer than two segments, such as 10s."""
    labels: Path | None = None
    """A CSV with a column path and one column per label."""
    group_by: str | None = None
    """Label column whose values must not stand on both sides of a split (default: the file)."""
    min_duration: float = 1.0
    """Seconds below which a clip is too short."""
    workers: int | None = None
    """Processes (default: one per core)."""
    deep: bool = False
    """Decode everything, to find files damaged in the middle."""
    shard: str | None = None
    """i/n: only the files of one of n parts, from 0 to n - 1; `earsight merge` joins them."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Scan."""
        from earsight import api
        from earsight.corpus.layouts import LayoutOptions
        from earsight.corpus.scan_report import format_report

        options = LayoutOptions(
            classes=self.classes, draw=self.draw, seed=self.seed, ancestors=self.ancestors
        )
        with progress("scanning") as show:
            report = api.scan(
                self.sources,
                self.output,
                segment=self.segment,
                layout=self.layout,
                root=self.root,
                layout_options=options,
                labels=self.labels,
                group_by=self.group_by,
                min_duration=self.min_duration,
                workers=self.workers,
                deep=self.deep,
                shard=self.shard,
                progress=lambda step, done, of: show(done, of),
            )
        emit(self.json, asdict(report), format_report(report))
        return 0


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """Make the clips of a corpus anew, small and quick to read, as shards to train on.

    Example: earsight prepare corpus.parquet -o shards --preset tiny
    """

    corpus: Positional[Path]
    """The manifest that `earsight scan` wrote."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """The folder of shards to make; one that was begun before is gone on with."""
    preset: str | None = None
    """Settings that the shards are for: their audio.rate, and video.fps if it is above 16."""
    fps: float | None = None
    """Frames per second at most; slower films keep their frames (default: 16, or the
    preset's if it has more)."""
    rate: int | None = None
    """Samples per second of the sound (default: the preset's, or 24000)."""
    short_side: int = 256
    """Pixels of the pictures' short side at most; smaller ones keep their size."""
    workers: int | None = None
    """Processes (default: one per core; with an engine, one for each part)."""
    shard: str | None = None
    """i/n: only the archives of one of n parts, from 0 to n - 1; `earsight merge` joins them."""
    engine: Literal["here", "ray"] = "here"
    """By processes of this machine, or all parts by the nodes of the Ray cluster at RAY_ADDRESS
    (without it, by one of this machine alone)."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Prepare."""
        from earsight import api

        with progress("preparing") as show:
            report = api.prepare(
                self.corpus,
                self.output,
                preset=self.preset,
                fps=self.fps,
                rate=self.rate,
                short_side=self.short_side,
                workers=self.workers,
                shard=self.shard,
                engine=self.engine,
                progress=show,
            )
        emit(self.json, report.as_dict(), str(report))
        # A part of a job array may have nothing to make; to fail at all there is, is another thing.
        return 1 if report.failed and not report.clips else 0


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Join parts that scan, prepare or embed made with --shard: to what they make without.

    Example: earsight merge part-0.parquet part-1.parquet -o corpus.parquet

    Manifests of scans of different folders are joined, too.
    """

    parts: Positional[tuple[Path, ...]]
    """All parts, in any order: manifests, or folders of shards, or of an index."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """The manifest or folder to make; a folder that jobs shared may be its own."""
    corpus: Path | None = None
    """For shards, the manifest that they were made from, where it has moved."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Merge."""
        from earsight import api

        report = api.merge(self.parts, self.output, corpus=self.corpus)
        emit(self.json, report.as_dict(), str(report))
        return 0


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Make a corpus to study methods on: av-digits, in which handwritten digits move while they are
    spoken, or omniglot, pairs of pictures of characters.

    Example: earsight corpus av-digits --recordings free-spoken-digit-dataset -o av-digits
    """

    name: Positional[Literal["av-digits", "omniglot"]]
    """Which corpus."""
    recordings: Path | None = None
    """av-digits: folder of the Free Spoken Digit Dataset, or its folder of recordings."""
    images: Path | None = None
    """omniglot: archive of its pictures."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """The folder to make."""
    clips: int | None = None
    """Clips, or pairs, to train on (default: 2000, or 50000 pairs)."""
    held_out: int | None = None
    """Clips, or pairs, to test on (default: 500, or 2000 pairs)."""
    writers: int | None = None
    """omniglot: only the first so many writers draw (default: all)."""
    seed: int = 0
    """Of everything drawn."""
    workers: int | None = None
    """av-digits: processes (default: one per core)."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Make it."""
        from earsight import api

        counts = {"clips": self.clips, "held_out": self.held_out}
        options = {name: count for name, count in counts.items() if count is not None}
        with progress("rendering") as show:
            made = api.corpus(
                self.name,
                self.output,
                recordings=self.recordings,
                images=self.images,
                writers=self.writers,
                workers=self.workers,
                seed=self.seed,
                progress=show,
                **options,
            )
        emit(self.json, made.as_dict(), str(made))
        return 0
