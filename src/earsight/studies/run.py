"""Doing a study: every stage of every arm and seed once, resumable at any point."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import yaml

from earsight import presets
from earsight.config import ConfigError, RunConfig, import_plugins, override, parse
from earsight.evaluation.finetune import check_finetune, finetune_tree
from earsight.evaluation.load import evaluation_config
from earsight.evaluation.rows import Row
from earsight.studies.design import LABEL, Design, Stage
from earsight.studies.progress import Progress, Show
from earsight.studies.side_by_side import side_by_side
from earsight.studies.stages import (
    Job,
    Outcome,
    make_job,
    outcome_path,
    read_outcome,
    run_folder,
    write_outcome,
)
from earsight.training.alone import BusyError

_WAIT = 5.0
"""Seconds between two looks at a run that another study makes."""


class Engine(Protocol):
    """What does the work of a stage."""

    def pretrain(self, config: RunConfig, run: Path, *, watch: Callable[[int, int], None]) -> None:
        """Train a run, or go on with it; ``watch`` is told of steps of how many, and may raise.

        Raises:
            BusyError: another process trains it.
        """

    def evaluate(
        self,
        run: Path,
        task: str,
        *,
        corpus: Path,
        settings: Sequence[str],
        options: Mapping[str, Any],
    ) -> Sequence[Row]:
        """Evaluate a run."""

    def machine(self) -> Mapping[str, Any]:
        """Where it is done."""

    def versions(self) -> Mapping[str, str]:
        """Software that does it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All jobs of a study.

    Attributes:
        design: the study.
        seeds: of the runs.
        jobs: by arm, seed and stage.
    """

    design: Design
    seeds: tuple[int, ...]
    jobs: Mapping[tuple[str, int, str], Job]

    def unique(self) -> list[Job]:
        """Every job once, all arms of a seed before the next seed."""
        arms = {arm: at for at, arm in enumerate(self.design.arms)}
        order = sorted(self.jobs, key=lambda at: (at[1], arms[at[0]]))
        return list({self.jobs[at].key: self.jobs[at] for at in order}.values())


def plan_study(
    design: Design, corpus_path: Path, corpus: str, *, seeds: int, settings: Sequence[str] = ()
) -> Plan:
    """The jobs of a study.

    Args:
        design: the study.
        corpus_path: the manifest that runs are made on.
        corpus: its digest.
        seeds: how many.
        settings: changes to the settings of all stages that train.

    Raises:
        ConfigError: settings that cannot be used.
    """
    chosen = tuple(design.first_seed + at for at in range(seeds))
    jobs: dict[tuple[str, int, str], Job] = {}
    for seed in chosen:
        for arm, changes in design.arms.items():
            for name, stage in design.stages.items():
                if arm not in design.of_stage(name):
                    continue
                after = jobs[arm, seed, stage.of] if stage.of else None
                measured: list[str] = []
                if stage.do == "evaluate" and after is not None:
                    stage = about_label(varied(stage, changes.get(name, ())), design.labels)
                    stage = by_labels(stage, design.labels)
                    config = after.config
                    _check_evaluation(name, stage, config)
                else:
                    shared = (*design.settings, *stage.settings, *changes.get(name, ()), *settings)
                    measured = [text for text in shared if _is_measured(text)]
                    own = [f"seed={seed}", f'data.corpus="{corpus_path.resolve()}"']
                    own += [f'start="../{after.key}"'] if after else []
                    config = parse(override(presets.load(design.preset), [*shared, *own]))
                jobs[arm, seed, name] = make_job(name, stage, config, corpus, after, measured)
    return Plan(design=design, seeds=chosen, jobs=jobs)


def _check_evaluation(name: str, stage: Stage, config: RunConfig) -> None:
    """Refuse what an evaluation would refuse, before anything is trained for it.

    Raises:
        ConfigError: names the stage and every such setting.
    """
    try:
        if stage.task == "finetune":
            if lacking := sorted({"modality", "label"} - stage.options.keys()):
                raise ConfigError([f"options: finetune needs {' and '.join(lacking)}"])
            check_finetune(finetune_tree(config, **stage.options), stage.settings)
        else:
            evaluation_config(config, None, stage.settings)
    except ConfigError as error:
        raise ConfigError([f"stages.{name}: {fault}" for fault in error.faults]) from error


def _is_measured(setting: str) -> bool:
    """Whether a run's evaluations take it over; those made during the training decide nothing."""
    name = setting.partition("=")[0].strip()
    return name.startswith("evaluation.") and name not in ("evaluation.every", "evaluation.tasks")


def varied(stage: Stage, changes: Sequence[str]) -> Stage:
    """An evaluation as an arm changes it: ``section.name=value``, or ``option=value``."""
    options = {}
    settings = list(stage.settings)
    for change in changes:
        name, _, value = change.partition("=")
        if "." in name:
            settings.append(change)
        else:
            options[name] = yaml.safe_load(value)
    return replace(stage, settings=tuple(settings), options={**stage.options, **options})


def about_label(stage: Stage, labels: Sequence[str]) -> Stage:
    """An evaluation with the study's label in the place of ``{label}`` in its options.

    Raises:
        ConfigError: there is not exactly one.
    """
    options = {
        name: value.replace(LABEL, labels[0]) if isinstance(value, str) and labels else value
        for name, value in stage.options.items()
    }
    if options != stage.options and len(labels) != 1:
        raise ConfigError(["labels: this study learns one label; name one with --labels"])
    return replace(stage, options=options)


def by_labels(stage: Stage, labels: Sequence[str]) -> Stage:
    """A classification of the study's labels and of no others, which it does not report."""
    if stage.task in ("", "finetune", "retrieve") or not labels:
        return stage
    return replace(stage, settings=(f"evaluation.labels=[{', '.join(labels)}]", *stage.settings))


def do_study(
    plan: Plan,
    home: Path,
    engine: Engine,
    *,
    jobs: int = 1,
    until: float | None = None,
    show: Show | None = None,
) -> dict[str, Outcome]:
    """Do what is not done yet; outcomes by key.

    Evaluations decide: a run is only made where one of them is missing.

    Args:
        plan: the jobs.
        home: the folder of all studies.
        engine: does the work; with several jobs at once it is sent to other processes.
        jobs: how many are done at once, each in a process of its own unless it is one.
        until: time (:func:`time.monotonic`) after which nothing more is begun, and what is under
            way is left.
        show: told of progress.

    Raises:
        BudgetOverError: the time is over.
        StoppedError: a signal came; what was under way is saved.
    """
    wanted = [job for job in plan.unique() if job.stage.do == "evaluate"]
    missing = needed(wanted, home)
    progress = Progress(len(missing), until, show)
    if jobs == 1:
        for job in missing:
            progress.moved(job, 0.0)
            do_job(job, home, engine, partial(progress.moved, job))
            progress.ended(job)
    else:
        work = partial(do_job, home=home, engine=engine)
        side_by_side(missing, work, jobs, progress, module=type(engine).__module__)
    return {job.key: _known(home, job) for job in wanted}


def _known(home: Path, job: Job) -> Outcome:
    outcome = read_outcome(home, job)
    assert outcome is not None
    return outcome


def needed(jobs: Iterable[Job], home: Path) -> list[Job]:
    """The evaluations that are missing, each after the runs that have to be made for it."""
    missing: dict[str, Job] = {}
    for job in jobs:
        if read_outcome(home, job) is not None:
            continue
        before = []
        run = job.after
        while run is not None and not is_made(home, run):
            before.append(run)
            run = run.after
        missing |= {one.key: one for one in (*before[::-1], job)}
    return list(missing.values())


def is_made(home: Path, job: Job) -> bool:
    """Whether the run of a job has finished, with the settings of now."""
    done = (run_folder(home, job) / "encoders.safetensors").exists()
    # A run that was stopped before its outcome was kept has none.
    return done and (not outcome_path(home, job).exists() or read_outcome(home, job) is not None)


def do_job(job: Job, home: Path, engine: Engine, watch: Callable[[float], None]) -> None:
    """Make a run, or evaluate one that is made, and keep the outcome.

    ``watch`` is told of the part of a run that is done, and may raise.
    """
    began = time.monotonic()
    rows: Sequence[Row] = ()
    if job.stage.do == "evaluate":
        assert job.after is not None
        stage, run = job.stage, run_folder(home, job.after)
        rows = engine.evaluate(
            run,
            stage.task,
            corpus=Path(job.config.data.corpus),
            settings=stage.settings,
            options=stage.options,
        )
    else:
        _make_run(job, home, engine, watch)
    if read_outcome(home, job) is not None:
        # A run made again, for more evaluations: the others, which are kept, are of the first.
        return
    seconds = time.monotonic() - began
    write_outcome(home, job, rows, seconds, engine.machine(), engine.versions())


def _make_run(job: Job, home: Path, engine: Engine, watch: Callable[[float], None]) -> None:
    # A process of its own has not read these settings, and so not imported what they name.
    if faults := import_plugins(job.config.plugins):
        raise ConfigError(faults)
    run = run_folder(home, job)
    while True:
        try:
            return engine.pretrain(job.config, run, watch=lambda step, of: watch(step / of))
        except BusyError:
            # Another study shares the run, and makes it now.
            watch(0.0)
            time.sleep(_WAIT)
