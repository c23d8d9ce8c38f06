"""What the commands do: each function wires the packages together; the CLI calls one of them."""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    write_yaml,
)
from earsight.corpus.av_digits import AvDigits, render_av_digits
from earsight.corpus.instances import Instances
from earsight.corpus.loader import TrainingClips
from earsight.corpus.scan import ScanReport
from earsight.corpus.scan import scan as scan_media
from earsight.evaluation.features import Encoder, Features
from earsight.evaluation.labels import choose_labels
from earsight.evaluation.protocol import Evaluator
from earsight.evaluation.results import Evaluation, versions, write_evaluation
from earsight.evaluation.rows import as_metrics
from earsight.training.devices import (
    choose_device,
    describe_machine,
    keep_memory,
    thread_count,
    worker_count,
)
from earsight.training.distributed import ALONE, Ranks, join_ranks
from earsight.training.estimate import Estimate, estimate
from earsight.training.importing import import_avid as import_checkpoint
from earsight.training.logging import Log, NoLog, RunLog, cut_metrics, require_extras
from earsight.training.loop import Loop, Parts
from earsight.training.origin import Origin, read_origin
from earsight.training.place import claim_gpu, place, said_once
from earsight.training.plan import Plan
from earsight.training.resume import check_alike, check_resumable, last_checkpoint
from earsight.training.run_folder import (
    create_run,
    load_encoders,
    read_config,
    save_encoders,
)
from earsight.training.setup import (
    Data,
    blank_inputs,
    build_method,
    build_model,
    build_parts,
    clip_settings,
    fit_inputs,
    open_data,
)
from earsight.transforms.inputs import Inputs

Progress = Callable[[int, int], None]


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
) -> RunConfig:
    """The configuration of a run to start, or (``resume``) of the one that is gone on with.

    Raises:
        ConfigError: names every setting that cannot be used.
    """
    if corpus is not None:
        settings = [*settings, f"data.corpus={json.dumps(str(corpus.resolve()))}"]
    if not resume:
        return configure(preset, config=config, settings=settings)
    if preset or config:
        raise ConfigError(
            ["--resume takes the run's own settings; leave --preset and --config out"]
        )
    return parse(override(as_tree(read_config(run)), settings))


def scan(
    sources: Sequence[str], output: Path, *, segment: str | float | None = None, **options: Any
) -> ScanReport:
    """Scan media into a manifest; see :func:`earsight.corpus.scan.scan`.

    Args:
        sources: folders or files, each perhaps ``name=PATH``.
        output: the manifest.
        segment: seconds, or text such as ``10s``.
        options: the other arguments of that function.

    Raises:
        ValueError: a source or an option cannot be used, or nothing was found.
    """
    return scan_media(sources, output, segment=seconds_of(segment), **options)


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


def dry_run(config: RunConfig) -> Estimate:
    """Build a run, try one made-up and one real micro-batch, and say what it would take.

    Raises:
        ValueError: settings or corpus cannot be used, or there are several processes.
    """
    if place().size > 1:
        raise ValueError("a dry run looks at one process; start it without torchrun")
    device = _prepare_machine(config)
    data = open_data(config)
    plan = Plan.of(config, len(data.train))
    inputs = fit_inputs(config, data, worker_count(config))
    parts = build_parts(config, inputs, len(data.train), device)
    clips = training_clips(config, data, plan, parts)
    return estimate(config, parts, clips, plan, device, worker_count(config))


def training_clips(
    config: RunConfig, data: Data, plan: Plan, parts: Parts, ranks: Ranks = ALONE
) -> TrainingClips:
    """The clips of a run, by number of micro-batch; of each, the part of this rank."""
    return TrainingClips(
        data.train,
        clip_settings(config),
        batch=plan.micro,
        views=parts.method.needs.views,
        rank=ranks.rank,
        ranks=ranks.size,
        source=data.source,
    )


def pretrain(
    config: RunConfig, run: Path, *, resume: bool = False, quiet: bool = False
) -> Mapping[str, float]:
    """Train a run to its end, from the start or from its last checkpoint.

    Started by ``torchrun``, each process takes its part of every batch; rank 0 alone writes.

    Returns:
        The figures of the last evaluation, by name.

    Raises:
        ValueError: settings, corpus or run folder cannot be used.
        StoppedError: SIGINT or SIGTERM came, to whichever process; the state is saved.
        RankError: another process failed, ended or hangs.
    """
    if resume:
        _refuse_imported(run)
    with said_once():
        require_extras(config.log)
        device = _prepare_machine(config)
    with join_ranks(device, config.train.rank_timeout) as ranks:
        data = open_data(config)
        plan = Plan.of(config, len(data.train), ranks.size)
        check_alike(config, data.train, ranks)
        state = _last_state(config, run, data) if resume else None
        ranks.on_main(lambda: _open_run(config, run, state) if resume else create_run(run, config))
        log = RunLog(run, config.log, steps=plan.steps, quiet=quiet) if ranks.is_main else NoLog()
        try:
            return _train(config, run, data, plan, device, log, ranks, state)
        finally:
            log.close()


def _last_state(config: RunConfig, run: Path, data: Data) -> dict[str, Any] | None:
    """The state to go on from, None where the run was stopped before the first was saved."""
    state = last_checkpoint(run)
    if state is not None:
        check_resumable(config, data.train, state)
    return state


def _open_run(config: RunConfig, run: Path, state: Mapping[str, Any] | None) -> None:
    """Cut what a run has logged past the state that it goes on from."""
    cut_metrics(run / "metrics.jsonl", state["step"] if state else -1)
    write_yaml(run / "config.yaml", config)


def _refuse_imported(run: Path) -> None:
    """Imported weights must not be trained over.

    Raises:
        ValueError: the run holds some.
    """
    if read_origin(run) is not None:
        raise ValueError(f"{run} holds imported weights, and no training to resume; evaluate it")


def _train(
    config: RunConfig,
    run: Path,
    data: Data,
    plan: Plan,
    device: torch.device,
    log: Log,
    ranks: Ranks,
    state: Mapping[str, object] | None,
) -> Mapping[str, float]:
    workers = worker_count(config)
    _describe(log, config, data, device)
    inputs = blank_inputs(config) if state else _fitted_inputs(config, data, workers, ranks)
    parts = build_parts(config, inputs, len(data.train), device, ranks)
    if state is None:
        log.note(f"statistics of sound taken over {inputs.clips} clips")
    _describe_division(log, plan, parts, ranks)
    evaluator = _evaluator(config, data, parts.inputs)
    if evaluator.labels.left_out and {"knn", "probe"} & set(config.evaluation.tasks):
        log.note(str(evaluator.labels))

    def evaluate(epoch: int) -> Mapping[str, float]:
        began = time.monotonic()
        encoder = Encoder(model=parts.model, method=parts.method)
        figures = as_metrics(evaluator.rows(config.evaluation.tasks, [encoder]))
        log.note(f"epoch {epoch}: {summary(figures)} ({time.monotonic() - began:.0f} s)")
        return figures

    loop = Loop(
        config=config,
        parts=parts,
        clips=training_clips(config, data, plan, parts, ranks),
        run=run,
        log=log,
        device=device,
        workers=workers,
        plan=plan,
        ranks=ranks,
        evaluate=evaluate if len(data.held_out) > 1 else None,
    )
    if state is not None:
        loop.load(state)
        log.note(f"goes on from step {loop.step} of {plan.steps}")
    del state
    loop.fit()
    ranks.on_main(lambda: save_encoders(run, parts.model, parts.inputs, config))
    log.note(f"done: {plan.steps} steps in {loop.elapsed:.0f} s")
    return loop.figures


def _fitted_inputs(config: RunConfig, data: Data, workers: int, ranks: Ranks) -> Inputs:
    """Inputs with statistics taken on rank 0, the same on all."""
    state = ranks.on_main(lambda: fit_inputs(config, data, workers).state())
    return Inputs.from_state(state)


def _prepare_machine(config: RunConfig) -> torch.device:
    """Threads and memory as configured; returns the device."""
    keep_memory()
    claim_gpu(config.device)
    torch.set_num_threads(thread_count(config.threads))
    return choose_device(config.device)


def _describe_division(log: Log, plan: Plan, parts: Parts, ranks: Ranks) -> None:
    """What batch norm and each query see, which several processes or micro-batches decide."""
    if ranks.size > 1:
        log.note(
            f"{ranks.size} processes: each takes {plan.micro // ranks.size} of the {plan.micro} "
            "clips of a micro-batch, and its batch norm sees these"
        )
    if about := parts.method.describe():
        log.note(about)


def _describe(log: Log, config: RunConfig, data: Data, device: torch.device) -> None:
    log.note(", ".join(f"{name} {number}" for name, number in versions().items()))
    log.note(", ".join(f"{name}: {value}" for name, value in describe_machine(device).items()))
    left_out = ", ".join(f"{count} {why}" for why, count in data.left_out.items() if count)
    log.note(
        f"{config.data.corpus}: {len(data.train)} instances to train on, {len(data.held_out)} held "
        f"out by {data.split}" + (f"; left out: {left_out}" if left_out else "")
    )
    late = [epoch for epoch in config.optimizer.milestones if epoch >= config.train.epochs]
    if late:
        log.note(
            f"optimizer.milestones: {late} come after the last epoch and change nothing; "
            f"a run of {config.train.epochs} epochs may want others"
        )


def _evaluator(
    config: RunConfig, data: Data, inputs: Inputs, progress: Progress | None = None
) -> Evaluator:
    return Evaluator(
        config=config,
        data=data,
        labels=choose_labels(data.train.labels, data.held_out.labels, config.evaluation.labels),
        inputs=inputs,
        device=choose_device(config.device),
        workers=worker_count(config),
        progress=progress,
    )


def summary(figures: Mapping[str, float]) -> str:
    """The figures that tell most, in one line."""
    shown = [
        f"{name.removeprefix('retrieval/')} {100 * value:.1f} %"
        for name, value in figures.items()
        if "chance" not in name and name.rsplit("/", 1)[-1] in ("R@1", "accuracy")
    ]
    return ", ".join(shown) or "no figures"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A run's encoders, ready to use; ``origin`` says where they come from if not from here."""

    config: RunConfig
    encoder: Encoder
    inputs: Inputs
    origin: Origin | None = None


def load_run(run: Path, device: torch.device, size: int = 2) -> Loaded:
    """Encoders, method and inputs of a finished run.

    Args:
        run: the run folder.
        device: where they are put.
        size: rows of the method's state (of no matter for its embeddings).

    Raises:
        ValueError: the folder is no run, or it has not finished.
    """
    read_config(run)
    config, state, inputs = load_encoders(run / "encoders.safetensors")
    model = build_model(config, device)
    model.load_state_dict(state)
    encoder = Encoder(model=model, method=build_method(config, size, device))
    return Loaded(config=config, encoder=encoder, inputs=inputs.to(device), origin=read_origin(run))


def evaluate(
    run: Path,
    task: str,
    *,
    corpus: Path | None = None,
    settings: Sequence[str] = (),
    baseline: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a run's encoders beside their random initialisation; writes it into the run.

    Args:
        run: the run folder.
        task: ``retrieve`` (with the geometry of the embedding), ``knn`` or ``probe``.
        corpus: another corpus than the run's.
        settings: ``evaluation.`` and ``data.`` settings to change.
        baseline: measure the random initialisation too.
        progress: told of decoded batches.

    Raises:
        ValueError: the run or corpus cannot be used for the task.
    """
    if task not in PROTOCOLS:
        raise ValueError(f"{task!r} is no evaluation; choose one of retrieve, knn or probe")
    began = time.monotonic()
    device = choose_device(read_config(run).device)
    loaded = load_run(run, device)
    config = _evaluation_config(loaded.config, corpus, settings)
    if not config.data.corpus:
        raise ValueError(f"{run} names no corpus; give one by --corpus, made with `earsight scan`")
    _prepare_machine(config)
    encoders = [loaded.encoder]
    if baseline:
        encoders.append(Encoder(model=build_model(config, device), method=loaded.encoder.method))
    evaluator = _evaluator(config, open_data(config, once=True), loaded.inputs, progress)
    rows = evaluator.rows(("retrieve", "geometry") if task == "retrieve" else (task,), encoders)
    if not any(row.task == task for row in rows):
        raise ValueError(_nothing(task))
    evaluation = Evaluation(
        name=task,
        protocol=PROTOCOLS[task].format(**vars(config.evaluation)),
        seed=config.seed,
        corpus=config.data.corpus,
        weights=_weights(run, loaded),
        rows=tuple(rows),
        seconds=time.monotonic() - began,
        details={
            "machine": describe_machine(device),
            "left_out": str(evaluator.labels) if task != "retrieve" else "",
            "notices": list(loaded.origin.notices) if loaded.origin else [],
        },
    )
    write_evaluation(run, evaluation)
    return evaluation


def embed_held_out(run: Path) -> tuple[Features, Instances]:
    """Embeddings of the run's held-out gallery, and the instances that its rows name."""
    loaded = load_run(run, choose_device(read_config(run).device))
    data = open_data(loaded.config, once=True)
    evaluator = _evaluator(loaded.config, data, loaded.inputs)
    return evaluator.gallery_features([loaded.encoder])[0], data.held_out


PROTOCOLS = {
    "retrieve": (
        "Cross-modal retrieval of held-out clips in a fixed gallery of at most {gallery}, one "
        "centre clip each, within the spaces that the method trains to agree."
    ),
    "knn": (
        "Cosine kNN (k = 20) on pooled encoder features before any head, {clips} evenly spaced "
        "clips averaged; fitted on at most {probe_samples} training instances."
    ),
    "probe": (
        "Multinomial logistic regression on standardised pooled encoder features before any head, "
        "{clips} evenly spaced clips averaged; C chosen on a tenth of the training split; fitted "
        "on at most {probe_samples} training instances."
    ),
}


def _evaluation_config(
    config: RunConfig, corpus: Path | None, settings: Sequence[str]
) -> RunConfig:
    """The run's settings with those changed that do not change what was learned."""
    wrong = [s for s in settings if not s.startswith(("evaluation.", "data.", "threads", "device"))]
    if wrong:
        raise ConfigError(
            [
                f"{s}: decides what was learned; only evaluation. and data. settings may change"
                for s in wrong
            ]
        )
    tree = override(as_tree(config), settings)
    if corpus is not None:
        tree = merge(tree, {"data": {"corpus": str(corpus.resolve())}})
    return parse(tree)


def _weights(run: Path, loaded: Loaded) -> str:
    if loaded.origin is not None:
        return f"{run.name}, imported from {loaded.origin.weights}"
    return f"{run.name}, {loaded.config.train.epochs} epochs"


def _nothing(task: str) -> str:
    if task == "retrieve":
        return "this method trains no space in which pictures and sounds can be compared"
    return "the corpus has no labels to classify by; scan it again with --labels"
