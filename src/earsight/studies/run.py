"""Doing a study: every stage of every arm and seed once, resumable at any point."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from earsight.config import ConfigError, RunConfig, import_plugins
from earsight.evaluation.rows import Row
from earsight.studies.plan import Plan
from earsight.studies.progress import Progress, Show
from earsight.studies.side_by_side import side_by_side
from earsight.studies.stages import (
    Job,
    Outcome,
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
