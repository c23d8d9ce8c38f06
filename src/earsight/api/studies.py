"""Do a study: the wiring of its engine."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from earsight.api.learn import pretrain
from earsight.api.measure import agreement, negatives
from earsight.config import RunConfig
from earsight.corpus.manifest import read as read_manifest
from earsight.evaluation.finetune_run import finetune
from earsight.evaluation.memory_run import evaluate_memory as memory
from earsight.evaluation.rows import Row
from earsight.evaluation.run import evaluate
from earsight.studies.design import read_design
from earsight.studies.plan import plan_study
from earsight.studies.progress import Show
from earsight.studies.run import do_study
from earsight.studies.stages import corpus_digest
from earsight.studies.summary import Summary, summarise, write_summary
from earsight.training.devices import choose_device, cores, describe_machine, versions


@dataclass(frozen=True, kw_only=True)
class _Engine:
    """What does the stages of a study: the functions of this module.

    ``threads`` is what each run takes where its settings leave it open (0).
    """

    device: torch.device
    threads: int

    def pretrain(self, config: RunConfig, run: Path, *, watch: Callable[[int, int], None]) -> None:
        config = replace(config, threads=config.threads or self.threads)
        pretrain(config, run, resume=None, quiet=True, watch=watch)

    def evaluate(
        self,
        run: Path,
        task: str,
        *,
        corpus: Path,
        settings: Sequence[str],
        options: Mapping[str, Any],
    ) -> Sequence[Row]:
        # The run may name the corpus as it was called before it was moved.
        shared: dict[str, Any] = {"corpus": corpus, "settings": settings}
        if task == "finetune":
            return finetune(run, quiet=True, **shared, **options).rows
        if task == "agreement":
            return agreement(run, **shared).rows
        if task == "negatives":
            return negatives(run, **shared).rows
        if task == "memory":
            return memory(run, **shared).rows
        return evaluate(run, task, **shared, **options).rows

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
    if labels and not design.labels:
        raise ValueError(f"study {design.name!r} looks at no label of one's choice: omit --labels")
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
