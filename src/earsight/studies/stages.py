"""Stages of a study: what decides each, under which key its outcome is kept, and whether it is.

A stage is named by a hash of all that decides its outcome: its settings, the corpus, the seed, the
stage it builds on, and the text of plugins. Studies that ask for the same stage share it.
"""

import dataclasses
import hashlib
import importlib.util
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from earsight.config import RunConfig, Tree, as_tree
from earsight.corpus.manifest import LABEL_PREFIX, SPLIT, Corpus
from earsight.corpus.status import OK
from earsight.evaluation.rows import Row
from earsight.files import write_whole
from earsight.studies.design import Stage
from earsight.training.resume import decides

SCHEMA = 1
"""Version of a stage's file; a new one makes all stages anew."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A stage of one arm with one seed.

    Attributes:
        key: names it, wherever it is done.
        name: of the stage.
        stage: what it does.
        config: the settings of the run that it makes or evaluates.
        after: the job that it builds on.
        measures: how an evaluation measures: its settings, by path.
    """

    key: str
    name: str
    stage: Stage
    config: RunConfig
    after: "Job | None" = None
    measures: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a stage brought.

    Attributes:
        key: of its job.
        name: of the stage.
        seed: of the run.
        settings: all that decide it, as paths and values.
        rows: its figures.
        seconds: that it took.
        machine: where it was done.
        versions: of the software.
    """

    key: str
    name: str
    seed: int
    settings: Mapping[str, Any]
    rows: tuple[Row, ...]
    seconds: float
    machine: Mapping[str, Any]
    versions: Mapping[str, str]


def corpus_digest(corpus: Corpus) -> str:
    """A name for what is to be learned from and tested on: instances, splits and labels.

    What leaves all as it is stays out, so that names last: statuses where all are ``ok``, and
    groups where the labels name splits (there, they part no more than what a probe is tuned on).
    """
    digest = hashlib.blake2b(digest_size=12)
    order = np.argsort(corpus.column("key"))
    digest.update(np.ascontiguousarray(corpus.column("key")[order]).tobytes())
    if corpus.prepared is not None:
        digest.update(json.dumps(asdict(corpus.prepared), sort_keys=True).encode())
    columns = [name for name in corpus.table.column_names if name.startswith(LABEL_PREFIX)]
    for name in sorted([*columns, *([SPLIT] if corpus.has_splits else [])]):
        texts = corpus.column(name)[order]
        digest.update(json.dumps([name, [str(text) for text in texts]]).encode())
    left_out = (corpus.column("status") != OK) | corpus.is_duplicate()
    if left_out.any():
        fates = zip(corpus.column("status")[order], corpus.is_duplicate()[order], strict=True)
        digest.update(json.dumps([[status, bool(copy)] for status, copy in fates]).encode())
    if corpus.settings.group_by and not corpus.has_splits:
        digest.update(json.dumps(list(corpus.column("group")[order])).encode())
    return digest.hexdigest()


def make_job(
    name: str,
    stage: Stage,
    config: RunConfig,
    corpus: str,
    after: Job | None = None,
    measured: Sequence[str] = (),
    measures: Mapping[str, Any] | None = None,
) -> Job:
    """The job of a stage.

    Args:
        name: of the stage.
        stage: what it does.
        config: of the run that it makes or evaluates.
        corpus: its digest.
        after: the job that it builds on.
        measured: settings of evaluations that are given to a run; its evaluations take them over.
        measures: how an evaluation measures. Not part of the key, which names what was asked for;
            the outcome keeps it, and holds no longer once a default has changed.
    """
    decided: dict[str, Any] = {
        "schema": SCHEMA,
        "do": stage.do,
        "corpus": corpus,
        "after": after.key if after else "",
        "settings": changed(config) if stage.do != "evaluate" else {},
        "task": [stage.task, sorted(_last(stage.settings)), stage.options],
    }
    if stage.do != "evaluate":
        # What a run is made with stands in its configuration already.
        decided["task"] = []
    if of_evaluations := sorted(_last(measured)):
        decided["measured"] = of_evaluations
    if stage.do != "evaluate" and config.plugins:
        decided["plugins"] = [_code_digest(name) for name in config.plugins]
    text = json.dumps(decided, sort_keys=True)
    key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return Job(key=key, name=name, stage=stage, config=config, after=after, measures=measures or {})


def _last(settings: Sequence[str]) -> list[str]:
    """Settings without those that a later one overrides: order is lost in a key."""
    return list({text.partition("=")[0].strip(): text for text in settings}.values())


def _code_digest(name: str) -> str:
    """Of the text of a plugin's file: changed, it is another stage (as far as one file goes)."""
    spec = importlib.util.find_spec(name)
    origin = Path(spec.origin) if spec is not None and spec.origin else None
    text = origin.read_bytes() if origin is not None and origin.is_file() else b""
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def decisive(config: RunConfig) -> dict[str, Any]:
    """Every setting that decides what is learned, by path."""
    return {
        path: value
        for path, value in _flat(as_tree(config)).items()
        if path != "start" and decides(path, value)
    }


def changed(config: RunConfig) -> dict[str, Any]:
    """The decisive settings that are not at their default.

    The others are left out of keys, so that a setting that is new, and changes nothing unless it
    is set, does not make every stage anew.
    """
    default: Tree = {}
    for field in dataclasses.fields(config):
        value: Any = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            kind: Any = type(value)
            default[field.name] = asdict(kind())
        elif field.default is not dataclasses.MISSING:
            default[field.name] = field.default
    usual = _flat(json.loads(json.dumps(default)))
    names = {f"{part}.name" for part in ("method", "video_encoder", "audio_encoder")}
    missing = object()
    return {
        path: value
        for path, value in decisive(config).items()
        if path in names or usual.get(path, missing) != json.loads(json.dumps(value))
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def outcome_path(home: Path, job: Job) -> Path:
    """Where a study's folder keeps the outcome of a job."""
    return home / "stages" / f"{job.key}.json"


def run_folder(home: Path, job: Job) -> Path:
    """Where it keeps the run that a job makes."""
    return home / "runs" / job.key


def read_outcome(home: Path, job: Job) -> Outcome | None:
    """The outcome of a job, None where it is not done, or was with other settings.

    Raises:
        ValueError: its file is damaged.
    """
    path = outcome_path(home, job)
    if not path.exists():
        return None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(Row(**row) for row in tree.pop("rows"))
        if tree.pop("schema") != SCHEMA:
            return None
        outcome = Outcome(**tree, rows=rows)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path}: is damaged ({error}); delete it to do the stage again"
        ) from error
    return outcome if _agrees(outcome.settings, _settings(job)) else None


def _agrees(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether settings known to both are equal: a default may have changed since."""
    return all(old[path] == new[path] for path in old.keys() & new.keys())


def _settings(job: Job) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(json.dumps({**decisive(job.config), **job.measures}))
    return settings


def write_outcome(
    home: Path,
    job: Job,
    rows: Sequence[Row],
    seconds: float,
    machine: Mapping[str, Any],
    versions: Mapping[str, str],
) -> Outcome:
    """Keep the outcome of a job."""
    outcome = Outcome(
        key=job.key,
        name=job.name,
        seed=job.config.seed,
        settings=_settings(job),
        rows=tuple(rows),
        seconds=round(seconds, 1),
        machine=dict(machine),
        versions={"python": platform.python_version(), **versions},
    )
    tree = {"schema": SCHEMA, **vars(outcome), "rows": [row.as_dict() for row in rows]}
    path = outcome_path(home, job)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(tree, indent=1, allow_nan=False) + "\n")
    return outcome
