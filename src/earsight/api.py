"""What the commands do: each function wires the packages together; the CLI calls one of them."""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from earsight import presets
from earsight.config import (
    ConfigError,
    RunConfig,
    Tree,
    as_tree,
    merge,
    override,
    parse,
    read_yaml,
)
from earsight.corpus.av_digits import AvDigits, render_av_digits
from earsight.corpus.layouts import LayoutOptions, read_layout
from earsight.corpus.manifest import read as read_manifest
from earsight.corpus.scan import ScanReport
from earsight.corpus.scan import scan as scan_media
from earsight.evaluation.agreement_run import evaluate_agreement
from earsight.evaluation.compare import compare
from earsight.evaluation.finetune_run import finetune
from earsight.evaluation.load import Loaded, Progress, embed_held_out, load_run
from earsight.evaluation.memory_run import evaluate_memory as memory
from earsight.evaluation.negatives_run import evaluate_negatives
from earsight.evaluation.online import online, summary
from earsight.evaluation.results import Evaluation
from earsight.evaluation.rows import Row
from earsight.evaluation.run import evaluate
from earsight.exporting.write import export_run as export
from earsight.hub import download
from earsight.report.agreement import write_agreement
from earsight.report.make import make_report as report
from earsight.report.negatives import write_negatives
from earsight.search.approximate import Neighbours, choose, open_cells, search_cells
from earsight.search.embed import Missing, Span
from earsight.search.embedder import Embedder
from earsight.search.index import model_hash, read_index
from earsight.search.make import IndexReport, make_index
from earsight.search.query import By, Hit
from earsight.search.query import search as search_index
from earsight.studies.design import read_design
from earsight.studies.progress import Show
from earsight.studies.run import do_study, plan_study
from earsight.studies.stages import corpus_digest
from earsight.studies.summary import Summary, summarise, write_summary
from earsight.training.devices import (
    choose_device,
    cores,
    describe_machine,
    prepare_machine,
    versions,
    worker_count,
)
from earsight.training.estimate import Estimate, estimate
from earsight.training.importing import import_avid as import_checkpoint
from earsight.training.origin import Origin
from earsight.training.place import place, said_once
from earsight.training.plan import Plan, with_size
from earsight.training.run import train, training_clips
from earsight.training.run_folder import read_config
from earsight.training.setup import (
    build_parts,
    fit_inputs,
    open_data,
)
from earsight.training.targets import with_classes

if TYPE_CHECKING:
    from earsight.serve.run import Serving

__all__ = [
    "Loaded",
    "agreement",
    "av_digits",
    "compare",
    "configure",
    "dry_run",
    "embed",
    "embed_held_out",
    "evaluate",
    "export",
    "finetune",
    "import_avid",
    "load",
    "load_run",
    "memory",
    "negatives",
    "pretrain",
    "report",
    "run_config",
    "scan",
    "search",
    "seconds_of",
    "serve",
    "study",
    "summary",
    "training_clips",
]

HUB = "hf://"
"""What the name of a model on the hub begins with, where a run is asked for."""

AGREEMENT_PAGE = Path("evaluation/agreement.html")
"""Where a run folder keeps the page of its agreement."""

NEGATIVES_PAGE = Path("evaluation/negatives.html")
"""Where it keeps the page of its negatives."""


def configure(
    preset: str | None, *, config: Path | None = None, settings: Sequence[str] = ()
) -> RunConfig:
    """A configuration from a preset, a YAML file laid over it, and ``section.name=value`` last.

    Raises:
        ConfigError: names every setting that cannot be used.
    """
    tree: Tree = presets.load(preset) if preset else {}
    if config is not None:
        tree = merge(tree, read_yaml(config))
    if not tree:
        raise ConfigError(["choose a preset (`earsight presets ls`) or give a configuration file"])
    return parse(override(tree, settings))


@said_once()
def run_config(
    run: Path,
    *,
    preset: str | None,
    config: Path | None,
    corpus: Path | None,
    settings: Sequence[str],
    resume: bool,
    start: Path | None = None,
) -> RunConfig:
    """The configuration of a run to start, or (``resume``) of the one that is gone on with.

    Raises:
        ConfigError: names every setting that cannot be used.
    """
    if corpus is not None:
        settings = [*settings, f"data.corpus={json.dumps(str(corpus.resolve()))}"]
    if start is not None:
        settings = [*settings, f"start={json.dumps(str(start.resolve()))}"]
    if not resume:
        return configure(preset, config=config, settings=settings)
    if preset or config or start:
        raise ConfigError(
            ["--resume takes the run's own settings; leave --preset, --config and --from out"]
        )
    return parse(override(as_tree(read_config(run)), settings))


def scan(
    sources: Sequence[str],
    output: Path,
    *,
    segment: str | float | None = None,
    layout: str | None = None,
    root: Path | None = None,
    layout_options: LayoutOptions | None = None,
    **options: Any,
) -> ScanReport:
    """Scan media into a manifest; see :func:`earsight.corpus.scan.scan`.

    Args:
        sources: folders or files, each perhaps ``name=PATH``; none with a layout.
        output: the manifest.
        segment: seconds, or text such as ``10s``.
        layout: a known data set, which brings labels and official splits.
        root: folder of its lists and media.
        layout_options: what some layouts can be told.
        options: the other arguments of that function.

    Raises:
        ValueError: a source or an option cannot be used, or nothing was found.
    """
    if layout is None or root is None or sources:
        _check_sources(sources, layout, root, layout_options)
        return scan_media(sources, output, segment=seconds_of(segment), **options)
    listing = read_layout(layout, root, layout_options)
    return scan_media([str(root)], output, segment=seconds_of(segment), listing=listing, **options)


def _check_sources(
    sources: Sequence[str], layout: str | None, root: Path | None, given: LayoutOptions | None
) -> None:
    """Either sources alone, or a layout and its root."""
    if layout is None and root is None and sources:
        if given not in {None, LayoutOptions()}:
            raise ValueError("classes, draw, seed and ancestors have no effect without a layout")
        return
    if layout is None and root is None:
        raise ValueError("nothing to scan; give folders, or a layout and its root")
    if sources:
        raise ValueError(
            f"give either sources ({sources[0]}, …) or a layout and its root, not both"
        )
    missing, other = ("root", "layout") if root is None else ("layout", "root")
    raise ValueError(f"{missing}: is missing; a {other} has an effect only together with one")


def av_digits(recordings: Path, output: Path, **options: Any) -> AvDigits:
    """Render the corpus av-digits; see :func:`earsight.corpus.av_digits.render_av_digits`.

    Args:
        recordings: folder of the Free Spoken Digit Dataset.
        output: the folder to make.
        options: the other arguments of that function.

    Raises:
        ValueError: the folder holds something already, or there are no or too few recordings.
    """
    return render_av_digits(recordings, output, **options)


def seconds_of(text: str | float | None) -> float | None:
    """Seconds of ``10s``, ``500ms``, ``2m`` or a plain number.

    Raises:
        ValueError: it is none of these.
    """
    if text is None or isinstance(text, float | int):
        return text
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|)\s*", text)
    if found is None:
        raise ValueError(f"{text!r} is no duration; write 10s, 500ms or 2m")
    return float(found[1]) * {"ms": 0.001, "m": 60.0}.get(found[2], 1.0)


def import_avid(
    file: Path, run: Path, *, audio_stats: Path | None = None, settings: Sequence[str] = ()
) -> Origin:
    """Make a run of published weights; see :func:`earsight.training.importing.import_avid`.

    Raises:
        ValueError: the checkpoint, the statistics or a setting cannot be used.
    """
    return import_checkpoint(file, run, audio_stats=audio_stats, settings=settings)


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
    return Embedder(loaded=load_run(Path(run), place), device=place)


def embed(
    run: Path,
    source: str | Path,
    output: Path,
    *,
    window: str | float | None = None,
    hop: str | float | None = None,
    missing: Missing = "skip",
    workers: int | None = None,
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
        device: where the encoders are.
        progress: told of parts done, and of how many.

    Raises:
        ValueError: run or source cannot be used, or the folder holds something else.
    """
    place = choose_device(device)
    loaded = load_run(run, place)
    prepare_machine(replace(loaded.config, device=str(place)))
    return make_index(
        loaded,
        run,
        source,
        output,
        device=place,
        span=Span(seconds=seconds_of(window), hop=seconds_of(hop), missing=missing),
        workers=cores() if workers is None else workers,
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


def dry_run(config: RunConfig) -> Estimate:
    """Build a run, try one made-up and one real micro-batch, and say what it would take.

    Raises:
        ValueError: settings or corpus cannot be used, or there are several processes.
    """
    if place().size > 1:
        raise ValueError("a dry run looks at one process; start it without torchrun")
    device = prepare_machine(config)
    data = open_data(config)
    config = with_classes(config, data.train)
    plan = Plan.of(config, len(data.train))
    config = with_size(config, plan, len(data.train))
    inputs = fit_inputs(config, data, worker_count(config))
    parts = build_parts(config, inputs, len(data.train), device)
    clips = training_clips(config, data, plan, parts)
    return estimate(config, parts, clips, plan, device, worker_count(config))


def pretrain(
    config: RunConfig,
    run: Path,
    *,
    resume: bool = False,
    quiet: bool = False,
    watch: Progress | None = None,
    tensors: Mapping[str, torch.Tensor] | None = None,
) -> Mapping[str, float]:
    """Train a run to its end, from the start or from its last checkpoint.

    Started by ``torchrun``, each process takes its part of every batch; rank 0 alone writes.

    Args:
        config: the run's settings.
        run: its folder.
        resume: go on from its last checkpoint.
        quiet: show nothing.
        watch: told of steps done and of how many, now and then; what it raises ends the run, which
            can be resumed from its last checkpoint.
        tensors: clips in memory, in place of a corpus: ``video (N, 3, T, H, W)`` uint8 at
            ``video.fps`` and ``audio (N, samples)`` in [-1, 1] at ``audio.rate``; whatever else is
            in it is a column of labels, ``(N,)`` integers.

    Returns:
        The figures of the last evaluation, by name.

    Raises:
        ValueError: settings, corpus or run folder cannot be used.
        StoppedError: SIGINT or SIGTERM came, to whichever process; the state is saved.
        RankError: another process failed, ended or hangs.
    """
    return train(
        config, run, resume=resume, quiet=quiet, online=online, watch=watch, tensors=tensors
    )


def agreement(
    run: Path,
    *,
    corpus: Path | None = None,
    settings: Sequence[str] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a run's memory bank; also writes ``RUN/evaluation/agreement.html``.

    Args and errors are those of :func:`earsight.evaluation.agreement_run.evaluate_agreement`.
    """
    evaluation = evaluate_agreement(run, corpus=corpus, settings=settings, progress=progress)
    write_agreement(evaluation, run / AGREEMENT_PAGE)
    return evaluation


def negatives(
    run: Path,
    *,
    corpus: Path | None = None,
    settings: Sequence[str] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate what enters a run's dictionaries; also writes ``RUN/evaluation/negatives.html``.

    Args and errors are those of :func:`earsight.evaluation.negatives_run.evaluate_negatives`.
    """
    evaluation = evaluate_negatives(run, corpus=corpus, settings=settings, progress=progress)
    write_negatives(evaluation, run / NEGATIVES_PAGE)
    return evaluation


@dataclass(frozen=True, kw_only=True)
class _Engine:
    """What does the stages of a study: the functions of this module.

    ``threads`` is what each run takes where its settings leave it open (0).
    """

    device: torch.device
    threads: int

    def pretrain(
        self, config: RunConfig, run: Path, *, resume: bool, watch: Callable[[int, int], None]
    ) -> None:
        config = replace(config, threads=config.threads or self.threads)
        pretrain(config, run, resume=resume, quiet=True, watch=watch)

    def evaluate(
        self, run: Path, task: str, *, settings: Sequence[str], options: Mapping[str, Any]
    ) -> Sequence[Row]:
        if task == "finetune":
            return finetune(run, settings=settings, quiet=True, **options).rows
        if task == "agreement":
            return agreement(run, settings=settings).rows
        if task == "negatives":
            return negatives(run, settings=settings).rows
        if task == "memory":
            return memory(run, settings=settings).rows
        return evaluate(run, task, settings=settings).rows

    def machine(self) -> Mapping[str, Any]:
        return describe_machine(self.device)

    def versions(self) -> Mapping[str, str]:
        return versions()


def study(
    name: str,
    corpus: Path,
    *,
    home: Path = Path("studies"),
    seeds: int | None = None,
    budget: float | None = None,
    jobs: int = 1,
    labels: Sequence[str] = (),
    settings: Sequence[str] = (),
    show: Show | None = None,
) -> Summary:
    """Do a study, going on from whatever of it is done.

    Args:
        name: of a study of the package, or the path of a YAML file of one's own.
        corpus: the manifest of a labelled corpus.
        home: the folder of all studies: results in ``NAME.json``, the outcomes of stages, which
            studies share, in ``stages/``, and runs in ``runs/``.
        seeds: how many; by default as many as the study says.
        budget: minutes after which nothing more is done.
        jobs: stages that are done at once, each in a process of its own if it is more than one; a
            script then needs its work below ``if __name__ == "__main__":``.
        labels: label columns to look at, instead of the study's.
        settings: changes to the settings of all stages that train.
        show: told of progress.

    Raises:
        ValueError: study, corpus or settings cannot be used.
        BudgetOverError: the time is over; called again, this goes on.
        StoppedError: SIGINT or SIGTERM came; the state is saved.
    """
    until = None if budget is None else time.monotonic() + 60 * budget
    design = read_design(name)
    if labels:
        design = replace(design, labels=tuple(labels))
    manifest = read_manifest(corpus)
    unknown = [label for label in design.labels if label not in manifest.label_names]
    if unknown:
        known = ", ".join(manifest.label_names) or "none; scan it again with --labels"
        raise ValueError(
            f"{corpus} has no label {', '.join(unknown)}; it has {known}: choose with --labels"
        )
    digest = corpus_digest(manifest)
    count = design.seeds if seeds is None else seeds
    if count < 1 or jobs < 1:
        raise ValueError("seeds and jobs: must be at least 1")
    plan = plan_study(design, corpus, digest, seeds=count, settings=settings)
    engine = _Engine(
        device=choose_device(next(iter(plan.jobs.values())).config.device),
        threads=max(1, cores() // jobs) if jobs > 1 else 0,
    )
    outcomes = do_study(plan, home, engine, jobs=jobs, until=until, show=show)
    summary = summarise(plan, outcomes, digest)
    write_summary(home, summary)
    return summary
