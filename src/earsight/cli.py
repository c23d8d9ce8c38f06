"""The command line: each command is one call into the library, imported only when it runs."""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import tyro
from tyro.conf import FlagCreatePairsOff, OmitSubcommandPrefixes, Positional, arg, subcommand

from earsight.exporting.formats import Format
from earsight.version import __version__

USAGE = 2
FAILED = 1
"""Exit codes: 0 done, 1 the work failed, 2 the request cannot be carried out as it stands,
128 + n stopped by signal n with the state saved."""

Settings = Positional[tuple[str, ...]]


class Command(Protocol):
    """A command with its arguments."""

    def run(self) -> int:
        """Do it; returns the exit code."""


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
                progress=lambda step, done, of: show(done, of),
            )
        emit(self.json, asdict(report), format_report(report))
        return 0


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Render a corpus from recordings: av-digits, in which handwritten digits move and are spoken.

    Example: earsight corpus av-digits --recordings free-spoken-digit-dataset -o av-digits
    """

    name: Positional[Literal["av-digits"]]
    """Which corpus."""
    recordings: Path
    """Folder of the Free Spoken Digit Dataset, or its folder of recordings."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """The folder to make."""
    clips: int = 2000
    """Clips to train on."""
    held_out: int = 500
    """Clips to test on."""
    seed: int = 0
    """Of everything drawn."""
    workers: int | None = None
    """Processes (default: one per core)."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Render."""
        from earsight import api

        with progress("rendering") as show:
            made = api.av_digits(
                self.recordings,
                self.output,
                clips=self.clips,
                held_out=self.held_out,
                seed=self.seed,
                workers=self.workers,
                progress=show,
            )
        emit(self.json, made.as_dict(), str(made))
        return 0


@dataclass(frozen=True, kw_only=True)
class PresetsList:
    """List the presets.

    Example: earsight presets ls
    """

    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """List."""
        from earsight import presets

        known = {name: presets.about(name) for name in presets.names()}
        width = max(map(len, known))
        emit(self.json, known, "\n".join(f"{n:{width}}  {about}" for n, about in known.items()))
        return 0


@dataclass(frozen=True, kw_only=True)
class PresetsShow:
    """Print every setting of a preset, those that it leaves at their default too.

    Example: earsight presets show tiny
    """

    preset: Positional[str]
    settings: Settings = ()
    """Settings to change: section.name=value."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Show."""
        from earsight import api
        from earsight.config import as_tree, yaml_text

        config = api.configure(self.preset, settings=self.settings)
        emit(self.json, as_tree(config), yaml_text(config))
        return 0


@dataclass(frozen=True, kw_only=True)
class PresetsDiff:
    """Print the settings in which two presets differ.

    Example: earsight presets diff tiny tiny-self
    """

    first: Positional[str]
    second: Positional[str]
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Compare."""
        from earsight import api
        from earsight.config import as_tree
        from earsight.presets import difference

        first, second = (as_tree(api.configure(name)) for name in (self.first, self.second))
        rows = difference(first, second)
        text = "\n".join(f"{path}: {one} -> {two}" for path, one, two in rows)
        emit(self.json, rows, text or "no difference")
        return 0


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """Learn encoders from the clips of a corpus.

    Example: earsight pretrain --preset tiny --corpus corpus.parquet -o runs/first train.epochs=50
    """

    output: Annotated[Path, arg(aliases=["-o"])]
    """The run folder to make (or, with --resume, to go on with)."""
    preset: str | None = None
    """Settings to start from; see `earsight presets ls`."""
    config: Path | None = None
    """A YAML file laid over the preset."""
    corpus: Path | None = None
    """The manifest that `earsight scan` wrote."""
    start: Annotated[Path | None, arg(name="from")] = None
    """A run whose weights, and memory if the method keeps one, to start from (start_epoch=200
    takes a checkpoint that it kept)."""
    resume: bool = False
    """Go on with the run from its last checkpoint, with the settings it has."""
    dry_run: bool = False
    """Build everything, try one made-up and one real micro-batch, and estimate memory and time."""
    settings: Settings = ()
    """Settings to change: section.name=value."""
    json: bool = False
    """Print the result for machines, and no progress."""

    def run(self) -> int:
        """Train."""
        from earsight import api

        config = api.run_config(
            self.output,
            preset=self.preset,
            config=self.config,
            corpus=self.corpus,
            start=self.start,
            settings=self.settings,
            resume=self.resume,
        )
        if self.dry_run:
            estimate = api.dry_run(config)
            emit(self.json, estimate.as_dict(), str(estimate))
            return 0
        figures = api.pretrain(config, self.output, resume=self.resume, quiet=self.json)
        if int(os.environ.get("RANK", "0")):
            return 0  # the first of several processes says it
        emit(self.json, {"run": str(self.output), **figures}, f"the run is in {self.output}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a run's encoders on held-out clips, beside the random initialisation and chance.

    Example: earsight evaluate probe runs/first

    Fine-tuning goes on where it was stopped, if the same is asked for again:
    earsight evaluate finetune runs/first --modality video --label digit --share 0.1
    """

    task: Positional[str]
    """retrieve, knn, probe, svm, memory (of the training clips), classify (a supervised run's own
    classifier), finetune, or with a page of clips to play: agreement (of clips in the run's
    memory) and negatives (what enters the run's dictionaries)."""
    folder: Positional[Path]
    """The run folder."""
    settings: Settings = ()
    """Settings to change: evaluation.clips=3, data.workers=4."""
    corpus: Path | None = None
    """Another corpus than the run's."""
    preset: str | None = None
    """A paper's protocol, such as ucf-101-8; a wrong name lists them."""
    folds: str | None = None
    """Official folds to take in turn: all, or 1,2,3 (default: the split of the manifest)."""
    seeds: int = 1
    """How often, with other draws: figures are means, with deviation and 95 % interval."""
    baseline: bool = True
    """Measure the random initialisation too."""
    modality: Literal["video", "audio"] | None = None
    """Evaluate one encoder alone, also on files without the other modality; which one finetune
    trains."""
    label: str | None = None
    """The label column that finetune learns."""
    share: float | None = None
    """Share of the labelled training instances that finetune uses, such as 0.1 (default: 1)."""
    scratch: bool = False
    """Let finetune start from a random initialisation instead, to compare with."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Evaluate."""
        from earsight.evaluation.negatives_tables import format_negatives
        from earsight.evaluation.rows import format_table

        tasks = {
            "finetune": self._finetune,
            **({"probe": self._finetune} if self.preset else {}),
            "memory": self._memory,
            **dict.fromkeys(("agreement", "negatives"), self._look),
        }
        evaluation = tasks.get(self.task, self._evaluate)()
        if int(os.environ.get("RANK", "0")):
            return 0  # the first of several processes says it
        notes = "\n".join(evaluation.details["notes"])
        negatives = self.task == "negatives"
        table = format_negatives(evaluation) if negatives else format_table(evaluation.rows)
        page = f"clips to play: {self._page}" if self._page else ""
        parts = (evaluation.protocol, notes, table, page)
        text = "\n\n".join(part for part in parts if part)
        emit(self.json, asdict(evaluation), text, run=self.folder)
        return 0

    @property
    def _page(self) -> str:
        from earsight.api import AGREEMENT_PAGE, NEGATIVES_PAGE

        pages = {"agreement": AGREEMENT_PAGE, "negatives": NEGATIVES_PAGE}
        return str(self.folder / pages[self.task]) if self.task in pages else ""

    def _refuse(self, *names: str) -> None:
        """Refuse options that have no effect on this task."""
        given = {name: getattr(self, name) for name in names}
        default = {"baseline": True, "seeds": 1, "scratch": False}
        for name, value in given.items():
            if value != default.get(name):
                flag = "no-baseline" if name == "baseline" else name
                raise ValueError(f"--{flag}: has no effect on {self.task}; leave it out")

    def _folds(self) -> Any:
        """What ``--folds`` says."""
        if self.folds is None or self.folds == "all":
            return self.folds or ()
        numbers = self.folds.split(",")
        if not all(number.strip().isdecimal() for number in numbers):
            raise ValueError(f"--folds: {self.folds!r} is neither all nor numbers such as 1,2,3")
        return tuple(int(number) for number in numbers)

    def _look(self) -> Any:
        """An evaluation with a page of its own."""
        from earsight import api

        self._refuse("preset", "modality", "label", "share", "scratch", "baseline")
        self._refuse("folds", "seeds")
        negatives = self.task == "negatives"
        with progress("decoding" if negatives else "searching") as show:
            return (api.negatives if negatives else api.agreement)(
                self.folder, corpus=self.corpus, settings=self.settings, progress=show
            )

    def _memory(self) -> Any:
        from earsight import api

        self._refuse("preset", "modality", "label", "share", "scratch", "baseline", "folds")
        with progress("decoding") as show:
            return api.memory(
                self.folder,
                corpus=self.corpus,
                settings=self.settings,
                seeds=self.seeds,
                progress=show,
            )

    def _evaluate(self) -> Any:
        from earsight import api

        self._refuse("label", "share", "scratch")
        with progress("decoding") as show:
            return api.evaluate(
                self.folder,
                self.task,
                corpus=self.corpus,
                settings=self.settings,
                preset=self.preset,
                modality=self.modality,
                folds=self._folds(),
                seeds=self.seeds,
                baseline=self.baseline,
                progress=show,
            )

    def _finetune(self) -> Any:
        from earsight import api
        from earsight.presets.protocols import load_for

        if self.modality is None or self.label is None:
            raise ValueError(
                f"{self.task} needs --modality (video or audio) and --label (a column of the "
                "corpus)"
            )
        self._refuse("baseline")
        if self.preset is not None:
            load_for((self.task,), self.preset)
        return api.finetune(
            self.folder,
            modality=self.modality,
            label=self.label,
            share=1.0 if self.share is None else self.share,
            scratch=self.scratch,
            preset=self.preset,
            corpus=self.corpus,
            settings=self.settings,
            folds=self._folds(),
            seeds=self.seeds,
            quiet=self.json,
        )


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Put the evaluations of runs side by side, and beside the figures that the papers print.

    Example: earsight compare runs/first runs/second

    What differs in how two figures were measured is named beside them.
    """

    runs: Positional[tuple[Path, ...]]
    """Run folders that were evaluated; one is enough for published figures."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Compare."""
        from earsight import api
        from earsight.evaluation.compare_tables import format_comparison

        comparison = api.compare(self.runs)
        text = format_comparison(comparison)
        said = [f"{run.name}: {notice}" for run in self.runs for notice in notices(run)]
        tree = {**asdict(comparison), **({"notices": said} if said else {})}
        emit(self.json, tree, "\n".join([text, *(f"\nnotice: {line}" for line in said)]))
        return 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write one offline page of one or several runs: settings, curves, figures, clips to play.

    Example: earsight report runs/first runs/second -o report.html
    """

    runs: Positional[tuple[Path, ...]]
    """Run folders, finished or under way."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """The page (default, of a single run: report.html in its folder); a former one is replaced."""
    media: bool = True
    """Hold clips to be played; without, names and numbers alone."""
    corpus: Path | None = None
    """Another corpus than the runs' to take held-out clips from."""
    labels: tuple[str, ...] = ()
    """Label columns to colour the map of the embedding by (default: the first that fit)."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Report."""
        from earsight import api

        with progress("decoding") as show:
            written = api.report(
                self.runs,
                self.output,
                media=self.media,
                corpus=self.corpus,
                labels=self.labels,
                progress=show,
            )
        emit(self.json, asdict(written), str(written))
        return 0


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
    """Processes (default: one per core)."""
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


@dataclass(frozen=True, kw_only=True)
class Import:
    """Make a run of published weights, to evaluate and use as any other.

    Example: earsight import avid AVID-CMA_Audioset.pth.tar -o runs/published --audio-stats s.npz
    """

    layout: Positional[Literal["avid"]]
    """Whose: avid, a released AVID or AVID-CMA checkpoint."""
    file: Positional[Path]
    """The checkpoint."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """The run folder to make."""
    settings: Settings = ()
    """What the file does not tell: video.frames=16, audio_encoder.strides=[1,2,2,1]."""
    audio_stats: Path | None = None
    """Statistics of the spectrograms: an .npz with mean and std, one value per band each."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Import."""
        from earsight import api
        from earsight.training.importing import describe

        origin = api.import_avid(
            self.file, self.output, audio_stats=self.audio_stats, settings=self.settings
        )
        tree = {"run": str(self.output), **origin.as_dict()}
        emit(self.json, tree, f"{describe(origin)}\n\nthe run is in {self.output}", run=self.output)
        return 0


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a finished run as files that stand alone, with a card; or upload it to the hub.

    Example: earsight export runs/first --format onnx -o first-onnx --licence apache-2.0
    """

    folder: Positional[Path]
    """The run folder."""
    format: Format = "safetensors"
    """safetensors: all weights with their input settings. onnx, torch: a graph per encoder."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """The folder to make; for safetensors also a single file of that ending."""
    licence: str = ""
    """Of the weights, such as apache-2.0 (default: unknown); imported weights keep theirs."""
    raw: bool = False
    """onnx, torch: take pixels and samples instead of prepared inputs."""
    overwrite: bool = False
    """Replace a former export."""
    push: str | None = None
    """OWNER/NAME on the hub to upload safetensors, settings and card to, instead of -o."""
    private: bool = False
    """With --push: into a repository that its owner alone can see."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Export."""
        if self.push is not None:
            return self._push(self.push)
        from earsight import api
        from earsight.exporting.write import describe

        if self.output is None:
            raise ValueError("nowhere to write to; give -o FOLDER, or --push OWNER/NAME")
        if self.private:
            raise ValueError("--private: has no effect without --push; leave it out")
        done = api.export(
            self.folder,
            self.output,
            format=self.format,
            licence=self.licence,
            raw=self.raw,
            overwrite=self.overwrite,
        )
        emit(self.json, done.as_dict(), describe(done))
        return 0

    def _push(self, repo: str) -> int:
        from earsight import hub

        given = {"-o": self.output, "--raw": self.raw, "--overwrite": self.overwrite}
        given["--format"] = self.format != "safetensors"
        for flag, value in given.items():
            if value:
                raise ValueError(f"{flag}: has no effect with --push, which uploads safetensors")
        where = hub.save_to_hub(self.folder, repo, private=self.private, licence=self.licence)
        emit(self.json, {"uploaded": where}, f"uploaded: {where}", run=self.folder)
        return 0


@dataclass(frozen=True, kw_only=True)
class Study:
    """Compare methods over several seeds: a table, a plot, and a verdict on each claim.

    Example: earsight study variants --corpus corpus.parquet --seeds 3 --budget 60

    It goes on from whatever is done, also by other studies.
    """

    name: Positional[str]
    """variants, negatives, shuffled, fine-tuning, or a YAML file of your own."""
    corpus: Path
    """The manifest of a labelled corpus."""
    output: Annotated[Path, arg(aliases=["-o"])] = Path("studies")
    """The folder of all studies."""
    seeds: int | None = None
    """How many seeds (default: as many as the study says)."""
    budget: float | None = None
    """Minutes after which to stop; the same command goes on."""
    jobs: Annotated[int, arg(aliases=["-j"])] = 1
    """Stages done at once; divides the cores among them where threads is 0."""
    labels: tuple[str, ...] = ()
    """Label columns to look at, instead of the study's."""
    settings: Settings = ()
    """Settings to change in all stages that train: train.epochs=2."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Do it."""
        from earsight import api
        from earsight.studies.tables import format_summary
        from earsight.terminal import stage_bar

        with stage_bar(quiet=self.json) as show:
            summary = api.study(
                self.name,
                self.corpus,
                home=self.output,
                seeds=self.seeds,
                budget=self.budget,
                jobs=self.jobs,
                labels=self.labels,
                settings=self.settings,
                show=show,
            )
        emit(self.json, asdict(summary), format_summary(summary))
        return 0


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Look at what this machine can do: versions, codecs, devices, extras, disk, speed.

    Example: earsight doctor

    What is bad comes first, with a remedy. The exit code is 1 where something essential is broken.
    """

    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Examine."""
        from earsight.doctor.examine import examine

        found = examine()
        emit(self.json, found.as_dict(), str(found))
        return 0 if found.works else FAILED


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Render a corpus of struck objects, learn from it, and write a report: the whole way once.

    Example: earsight demo -o demo-run
    """

    output: Annotated[Path, arg(aliases=["-o"])] = Path("demo-run")
    """The folder to make."""
    seed: int = 0
    """Of the corpus and of the training."""
    short: bool = False
    """A few clips and steps, to see that everything works; nothing is learned."""
    settings: Settings = ()
    """Settings to change: section.name=value."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Demonstrate."""
        from earsight import demo

        result = demo.demo(
            self.output, seed=self.seed, short=self.short, settings=self.settings, quiet=self.json
        )
        emit(self.json, result.as_dict(), str(result))
        return 0


def progress(what: str) -> Any:
    """A progress bar on the terminal, as a context that gives ``show(done, of)``."""
    from earsight.terminal import progress_bar

    return progress_bar(what)


def emit(as_json: bool, tree: Any, text: str, *, run: Path | None = None) -> None:
    """Print a result, for machines or for people.

    With ``run``, the run that it was made of, what must be said of imported weights is said too.
    """
    said = notices(run) if run is not None else ()
    if as_json:
        print(json.dumps({**tree, "notices": said} if said else tree, indent=2))
    else:
        print("\n".join([text, *(f"\nnotice: {notice}" for notice in said)]))


def notices(run: Path) -> tuple[str, ...]:
    """What must be said with everything that is made of a run's weights."""
    from earsight.training import origin

    return origin.notices(run)


def main(arguments: list[str] | None = None) -> None:
    """Run a command; exits with the documented code."""
    # Threads that spin while they wait take the cores from the workers that decode for them.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        # With several processes, torch warns of a choice that is made on purpose.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    given = sys.argv[1:] if arguments is None else arguments
    if given in (["--version"], ["-V"]):
        print(f"earsight {__version__}")
        return
    sys.exit(guarded(parse(given)))


def parse(given: list[str]) -> Command:
    """The command asked for; usage errors and --help leave from here."""
    presets = Annotated[
        Annotated[PresetsList, subcommand("ls")]
        | Annotated[PresetsShow, subcommand("show")]
        | Annotated[PresetsDiff, subcommand("diff")],
        subcommand("presets", description="Named settings: list, show or compare them."),
    ]
    commands = (
        Annotated[Scan, subcommand("scan")]
        | Annotated[Corpus, subcommand("corpus")]
        | presets
        | Annotated[Pretrain, subcommand("pretrain")]
        | Annotated[Evaluate, subcommand("evaluate")]
        | Annotated[Compare, subcommand("compare")]
        | Annotated[Report, subcommand("report")]
        | Annotated[Embed, subcommand("embed")]
        | Annotated[Search, subcommand("search")]
        | Annotated[Serve, subcommand("serve")]
        | Annotated[Import, subcommand("import")]
        | Annotated[Export, subcommand("export")]
        | Annotated[Study, subcommand("study")]
        | Annotated[Doctor, subcommand("doctor")]
        | Annotated[Demo, subcommand("demo")]
    )
    description = "Learn video and audio encoders from unlabelled videos, and put them to use."
    command: Command = tyro.cli(
        commands,
        args=given,
        prog="earsight",
        description=description,
        config=(FlagCreatePairsOff, OmitSubcommandPrefixes),
    )
    return command


def guarded(command: Command) -> int:
    """Run a command; a mistake or a failure is one clear sentence, not a traceback.

    Of several processes that fail alike, one says it.
    """
    from earsight.errors import SaidElsewhereError

    try:
        return command.run()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        code = exit_code(error)
        if code is None:
            raise
        if not isinstance(error, SaidElsewhereError):
            print(f"earsight: {error}", file=sys.stderr)
        return code


def exit_code(error: Exception) -> int | None:
    """The code of an error that its message explains; None where the traceback is needed."""
    from earsight.errors import RunError, SaidElsewhereError, StoppedError

    if isinstance(error, SaidElsewhereError):
        return exit_code(error.error)
    if isinstance(error, StoppedError):
        return 128 + error.signal
    if isinstance(error, RunError):
        return FAILED
    return USAGE if isinstance(error, ValueError | OSError) else None


if __name__ == "__main__":
    main()
