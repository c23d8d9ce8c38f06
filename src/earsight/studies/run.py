"""Doing a study: every stage of every arm and seed once, resumable at any point."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import yaml

from earsight import presets
from earsight.config import ConfigError, RunConfig, as_tree, override, parse
from earsight.errors import RunError
from earsight.evaluation.rows import Row
from earsight.studies.design import LABEL, Design, Stage
from earsight.studies.stages import (
    Job,
    Outcome,
    make_job,
    read_outcome,
    run_folder,
    write_outcome,
)

Show = Callable[[float, int, str], None]
"""Told of stages done (a part counts for a stage under way), of how many, and what is done."""


class BudgetOverError(RunError):
    """The time is over; the same command goes on."""


class Engine(Protocol):
    """What does the work of a stage."""

    def pretrain(
        self, config: RunConfig, run: Path, *, resume: bool, watch: Callable[[int, int], None]
    ) -> None:
        """Train a run; ``watch`` is told of steps done and of how many, and may raise."""

    def evaluate(
        self, run: Path, task: str, *, settings: Sequence[str], options: Mapping[str, Any]
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
                after = jobs[arm, seed, stage.of] if stage.of else None
                if stage.do == "evaluate" and after is not None:
                    stage = about_label(varied(stage, changes.get(name, ())), design.labels)
                    config = after.config
                else:
                    shared = (*design.settings, *stage.settings, *changes.get(name, ()), *settings)
                    own = (f"seed={seed}", f'data.corpus="{corpus_path.resolve()}"')
                    config = parse(override(presets.load(design.preset), [*shared, *own]))
                jobs[arm, seed, name] = make_job(name, stage, config, corpus, after)
    return Plan(design=design, seeds=chosen, jobs=jobs)


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


def do_study(
    plan: Plan, home: Path, engine: Engine, *, until: float | None = None, show: Show | None = None
) -> dict[str, Outcome]:
    """Do what is not done yet; outcomes by key.

    Evaluations decide: a run is only made where one of them is missing.

    Args:
        plan: the jobs.
        home: the folder of all studies.
        engine: does the work.
        until: time (:func:`time.monotonic`) after which nothing more is begun, and what is under
            way is left.
        show: told of progress.

    Raises:
        BudgetOverError: the time is over.
        StoppedError: a signal came; what was under way is saved.
    """
    jobs = [job for job in plan.unique() if job.stage.do == "evaluate"]
    runner = _Runner(home, engine, until, show, needed(jobs, home))
    outcomes = {}
    for job in jobs:
        outcomes[job.key] = read_outcome(home, job) or runner.do(job)
    return outcomes


def needed(jobs: Iterable[Job], home: Path) -> list[Job]:
    """The evaluations that are missing and the runs that have to be made for them."""
    missing: dict[str, Job] = {}
    for job in jobs:
        if read_outcome(home, job) is not None:
            continue
        before = job.after
        while before is not None and not is_made(home, before):
            missing[before.key] = before
            before = before.after
        missing[job.key] = job
    return list(missing.values())


def is_made(home: Path, job: Job) -> bool:
    """Whether the run of a job has finished."""
    return (run_folder(home, job) / "encoders.safetensors").exists()


class _Runner:
    def __init__(
        self,
        home: Path,
        engine: Engine,
        until: float | None,
        show: Show | None,
        needed: Sequence[Job],
    ) -> None:
        self._home, self._engine, self._until, self._show = home, engine, until, show
        self._total, self._done = len(needed), 0

    def do(self, job: Job) -> Outcome:
        """Do an evaluation, and what it builds on."""
        assert job.after is not None
        self._make(job.after)
        self._tell(job, 0.0)
        began = time.monotonic()
        rows = self._engine.evaluate(
            run_folder(self._home, job.after),
            job.stage.task,
            settings=job.stage.settings,
            options=job.stage.options,
        )
        outcome = self._keep(job, rows, time.monotonic() - began)
        self._done += 1
        return outcome

    def _make(self, job: Job) -> None:
        """Make a run, unless it is there."""
        if is_made(self._home, job):
            return
        run, config = run_folder(self._home, job), job.config
        if job.after is not None:
            self._make(job.after)
            start = run_folder(self._home, job.after)
            config = parse(override(as_tree(config), [f'start="../{start.name}"']))
        began = time.monotonic()
        self._engine.pretrain(
            config,
            run,
            resume=(run / "config.yaml").exists(),
            watch=lambda step, of: self._tell(job, step / of),
        )
        self._keep(job, (), time.monotonic() - began)
        self._done += 1

    def _keep(self, job: Job, rows: Sequence[Row], seconds: float) -> Outcome:
        engine = self._engine
        return write_outcome(self._home, job, rows, seconds, engine.machine(), engine.versions())

    def _tell(self, job: Job, part: float) -> None:
        if self._show is not None:
            self._show(self._done + part, self._total, f"seed {job.config.seed}, {job.name}")
        if self._until is not None and time.monotonic() > self._until:
            left = self._total - self._done
            raise BudgetOverError(
                f"the time is over with {left} of {self._total} stages left; "
                "the same command goes on"
            )
