"""Reading a run folder for its report; what is missing is said, never fatal."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earsight.config import RunConfig, parse, read_yaml
from earsight.evaluation.results import Evaluation, read_evaluation
from earsight.evaluation.rows import Row, is_block
from earsight.report.history import History, read_history
from earsight.report.metrics import Metrics, read_metrics
from earsight.report.terms import terms_of
from earsight.report.words import Fact, say_seconds
from earsight.training.origin import Origin, read_origin

_LOG_LINES = 80
_OF_TRAINING = ("Epochs set", "Batch", "Learning rate", "Seed")


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Everything the report tells of a run.

    Attributes:
        name: the folder's.
        method: its name; empty where it is not known.
        facts: what was trained, in a few names and values.
        data: what it was trained on.
        terms: on what terms weights and media may be used, as far as that is recorded.
        seconds: what took how long.
        software: versions and machines, of the training and of the latest evaluation.
        config: the text of ``config.yaml``; empty where there is none.
        log: the text of ``log.txt``, its middle left out where it is long.
        metrics: the curves.
        evaluations: the oldest first.
        notes: what is missing or could not be read.
    """

    name: str
    method: str
    facts: tuple[Fact, ...]
    data: tuple[Fact, ...]
    terms: tuple[Fact, ...]
    seconds: tuple[Fact, ...]
    software: tuple[Fact, ...]
    config: str
    log: str
    metrics: Metrics
    evaluations: tuple[Evaluation, ...]
    notes: tuple[str, ...]


def read_run(run: Path) -> RunFacts:
    """Read what there is of a run.

    Raises:
        ValueError: it is no folder.
    """
    if not run.is_dir():
        raise ValueError(f"{run}: is no run folder; give the folder that pretrain wrote")
    notes: list[str] = []
    text = _text(run / "config.yaml", notes)
    metrics = read_metrics(run / "metrics.jsonl")
    evaluations = _evaluations(run / "evaluation", notes)
    tree = _tree(run / "config.yaml", notes) if text else {}
    config = _config(tree, notes) if tree else None
    origin = _origin(run, notes)
    notes += _under_way(run, tree, metrics) if text else ()
    history = History() if config is None else read_history(run, config)
    return RunFacts(
        name=run.resolve().name,
        method=_plain(_at(tree, "method.name") or ""),
        facts=(*_imported(origin), *_settings(tree, origin), *_effort(metrics)),
        data=tuple(_data(history)),
        terms=_terms(run, config, notes),
        seconds=tuple(_seconds(metrics, evaluations)),
        software=(*_trained_with(history), *_software(evaluations)),
        config=text,
        log=_shorten(_text(run / "log.txt", notes)),
        metrics=metrics,
        evaluations=evaluations,
        notes=(*notes, *metrics.notes),
    )


def _text(path: Path, notes: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        notes.append(f"{path.name} cannot be read ({error.strerror}).")
        return ""


def _tree(path: Path, notes: list[str]) -> Mapping[str, Any]:
    try:
        return read_yaml(path)
    except ValueError as error:
        notes.append(f"The configuration cannot be summed up: {error}")
        return {}


def _config(tree: Mapping[str, Any], notes: list[str]) -> RunConfig | None:
    try:
        return parse(dict(tree))
    except ValueError as error:
        notes.append(f"The configuration is not one of this version: {error}")
        return None


def _under_way(run: Path, tree: Mapping[str, Any], metrics: Metrics) -> Iterable[str]:
    """That a run has not finished, and how far it has come."""
    if (run / "encoders.safetensors").exists():
        return
    epochs = _at(tree, "train.epochs")
    of = f" of {_plain(epochs)}" if epochs is not None else ""
    yield (
        f"The run has not finished: it has come to epoch {metrics.epochs:.4g}{of}, and there are "
        "no encoders to look at yet."
    )


def _data(history: History) -> Iterable[Fact]:
    if history.corpus:
        yield "Corpus", history.corpus
    if history.clips is not None:
        yield "Clips trained on", f"{history.clips:,}"
    if history.held_out is not None:
        yield "Clips held out", f"{history.held_out:,}"
    if history.hours is not None:
        yield "Hours trained on", f"{history.hours:.3g}"


def _terms(run: Path, config: RunConfig | None, notes: list[str]) -> tuple[Fact, ...]:
    if config is None:
        return ()
    try:
        return tuple(terms_of(run, Path(config.data.corpus)))
    except ValueError as error:
        if str(error) not in notes:
            notes.append(str(error))
        return ()


def _seconds(metrics: Metrics, evaluations: Sequence[Evaluation]) -> Iterable[Fact]:
    if metrics.seconds:
        yield "Training", say_seconds(metrics.seconds)
    for evaluation in evaluations:
        yield f"Evaluation: {evaluation.name}", say_seconds(evaluation.seconds)


def _trained_with(history: History) -> Iterable[Fact]:
    if history.versions:
        yield "Trained with", history.versions
    if history.machine:
        yield "Trained on", history.machine


def _origin(run: Path, notes: list[str]) -> Origin | None:
    try:
        origin = read_origin(run)
    except ValueError as error:
        notes.append(str(error))
        return None
    notes += origin.warnings if origin else ()
    return origin


def _imported(origin: Origin | None) -> Iterable[Fact]:
    """Where weights that were not trained here come from, and on what terms."""
    if origin is not None:
        yield "Trained from" if origin.trained else "Imported from", origin.weights
        yield "Licence", origin.licence


def _evaluations(folder: Path, notes: list[str]) -> tuple[Evaluation, ...]:
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(read_evaluation(path))
        except (OSError, ValueError) as error:
            notes.append(f"evaluation/{path.name} is left out: {error}")
    if not found:
        notes.append("There is no evaluation yet: run the evaluate command on this run.")
    return tuple(sorted(found, key=lambda evaluation: evaluation.time))


def _at(tree: Mapping[str, Any], path: str) -> Any:
    """The setting at a dotted path, None where there is none."""
    value: Any = tree
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _settings(tree: Mapping[str, Any], origin: Origin | None) -> Iterable[Fact]:
    """The settings that say most, as far as they are there; of imported weights, what is known."""
    patterns = {
        "Method": ("{}", "method.name"),
        "Picture encoder": ("{}", "video_encoder.name"),
        "Sound encoder": ("{}", "audio_encoder.name"),
        "Embedding": ("{} values", "head.dim"),
        "Pictures": ("{} frames at {} fps, {} px", "video.frames", "video.fps", "video.size"),
        "Sound": ("{} s at {} Hz, {} bands", "audio.duration", "audio.rate", "audio.bands"),
        "Epochs set": ("{}", "train.epochs"),
        "Batch": ("{} clips", "train.batch"),
        "Learning rate": ("{}, {}", "optimizer.lr", "optimizer.schedule"),
        "Seed": ("{}", "seed"),
    }
    for title, (pattern, *paths) in patterns.items():
        if origin is not None and not origin.trained and title in _OF_TRAINING:
            continue
        values = [_at(tree, path) for path in paths]
        if all(value is not None for value in values):
            yield title, pattern.format(*map(_plain, values))


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _effort(metrics: Metrics) -> Iterable[Fact]:
    """How far the training came, and how long it took."""
    if metrics.steps:
        yield "Trained", f"{metrics.steps} steps, {metrics.epochs:.4g} epochs"
    if metrics.seconds:
        yield "Time", say_seconds(metrics.seconds)


def _software(evaluations: Sequence[Evaluation]) -> tuple[Fact, ...]:
    if not evaluations:
        return ()
    latest = evaluations[-1]
    versions = ", ".join(f"{name} {version}" for name, version in latest.versions.items())
    return (("Latest evaluation with", versions), ("Latest evaluation on", latest.machine))


def _shorten(text: str) -> str:
    """The first and last lines of a long log."""
    lines = text.splitlines()
    if len(lines) <= 2 * _LOG_LINES:
        return text
    gap = f"… {len(lines) - 2 * _LOG_LINES} lines left out …"
    return "\n".join([*lines[:_LOG_LINES], gap, *lines[-_LOG_LINES:]])


def headlines(evaluations: Sequence[Evaluation], most: int = 8) -> list[Row]:
    """The rows worth reading first: R@1 of pairs, and a classifier of each label.

    A later evaluation overrides an earlier one; kNN stands in where there is no probe. Probes of
    single blocks are left to their table.
    """
    chosen: dict[tuple[str, str | None], Row] = {}
    for task, metric in (("retrieve", "R@1"), ("knn", "accuracy"), ("probe", "accuracy")):
        for evaluation in evaluations:
            for row in evaluation.rows:
                pairs = task != "retrieve" or row.label is None
                if row.task == task and row.metric == metric and pairs and not is_block(row):
                    chosen[row.modality, row.label] = row
    return list(chosen.values())[:most]
