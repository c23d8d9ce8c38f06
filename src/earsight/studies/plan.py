"""What a study has to do: every stage of every arm and seed, each with its settings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from earsight import presets
from earsight.config import ConfigError, RunConfig, as_tree, override, parse
from earsight.evaluation.finetune import check_finetune, finetune_tree
from earsight.evaluation.load import evaluation_config
from earsight.studies.design import LABEL, Design, Stage
from earsight.studies.stages import Job, decisive, make_job

_OWN = {
    "seed": "seeds count from first_seed, so many as --seeds says",
    "data.corpus": "is --corpus",
    "start": "a stage that continues starts from the one that `of` names",
}
"""Settings that a study makes itself, and what to give instead."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All jobs of a study.

    Attributes:
        design: the study.
        seeds: of the runs.
        jobs: by arm, seed and stage.
        settings: changes to the study's own that decide what is found.
    """

    design: Design
    seeds: tuple[int, ...]
    jobs: Mapping[tuple[str, int, str], Job]
    settings: tuple[str, ...] = ()

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
                own = [with_label(text, design.labels) for text in changes.get(name, ())]
                if stage.do == "evaluate" and after is not None:
                    job = _evaluation(design, name, varied(stage, own), corpus, after)
                else:
                    common = (*design.settings, *stage.settings)
                    shared = [with_label(text, design.labels) for text in common]
                    shared += [*own, *settings]
                    _check_own(name, shared)
                    settled = [f"seed={seed}", f'data.corpus="{corpus_path.resolve()}"']
                    settled += [f'start="../{after.key}"'] if after else []
                    config = parse(override(presets.load(design.preset), [*shared, *settled]))
                    measured = [text for text in shared if _is_measured(text)]
                    job = make_job(name, stage, config, corpus, after, measured)
                jobs[arm, seed, name] = job
    known = decisive(next(iter(jobs.values())).config)
    kept = tuple(text for text in settings if _name(text) in known or _is_measured(text))
    plan = Plan(design=design, seeds=chosen, jobs=jobs, settings=kept)
    if faults := list(_claims_without_difference(plan)):
        raise ConfigError(faults)
    return plan


def _evaluation(design: Design, name: str, stage: Stage, corpus: str, after: Job) -> Job:
    stage = by_labels(about_label(stage, design.labels), design.labels)
    measures = _measures(name, stage, after.config)
    return make_job(name, stage, after.config, corpus, after, measures=measures)


def _claims_without_difference(plan: Plan) -> Iterator[str]:
    stages = {report.name: report.stage for report in plan.design.report}
    for claim in plan.design.claims:
        stage = stages[claim.report]
        keys = {plan.jobs[arm, plan.seeds[0], stage].key for arm in claim.arms if not claim.than}
        if len(claim.arms) == 2 and len(keys) == 1:
            first, second = claim.arms
            yield (
                f"claim {claim.says!r}: {first!r} and {second!r} are made alike; leave out the "
                "settings that stand in for what tells them apart"
            )


def _measures(name: str, stage: Stage, config: RunConfig) -> dict[str, Any]:
    """How an evaluation measures; what it would refuse is refused before anything is trained.

    Raises:
        ConfigError: names the stage and every such setting.
    """
    try:
        if stage.task == "finetune":
            if lacking := sorted({"modality", "label"} - stage.options.keys()):
                raise ConfigError([f"options: finetune needs {' and '.join(lacking)}"])
            found = check_finetune(finetune_tree(config, **stage.options), stage.settings)
        else:
            found = evaluation_config(config, None, stage.settings)
    except ConfigError as error:
        raise ConfigError([f"stages.{name}: {fault}" for fault in error.faults]) from error
    paths = {f"evaluation.{key}": value for key, value in as_tree(found)["evaluation"].items()}
    return {path: value for path, value in paths.items() if _is_measured(path)}


def _is_measured(setting: str) -> bool:
    """Whether a run's evaluations take it over; those made during the training decide nothing."""
    name = _name(setting)
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


def _check_own(name: str, settings: Sequence[str]) -> None:
    """Refuse what a study sets itself.

    Raises:
        ConfigError: names every such setting.
    """
    names = sorted({_name(text) for text in settings} & _OWN.keys())
    if names:
        raise ConfigError([f"stages.{name}: {one}: {_OWN[one]}" for one in names])


def _name(setting: str) -> str:
    return setting.partition("=")[0].strip()


def with_label(text: str, labels: Sequence[str]) -> str:
    """A setting or an option with the study's label in the place of ``{label}``.

    Raises:
        ConfigError: there is not exactly one.
    """
    if LABEL not in text:
        return text
    if len(labels) != 1:
        raise ConfigError(["labels: this study learns one label; name one with --labels"])
    return text.replace(LABEL, labels[0])


def about_label(stage: Stage, labels: Sequence[str]) -> Stage:
    """An evaluation with the study's label in the place of ``{label}`` in its options.

    Raises:
        ConfigError: there is not exactly one.
    """
    options = {
        name: with_label(value, labels) if isinstance(value, str) else value
        for name, value in stage.options.items()
    }
    return replace(stage, options=options)


def by_labels(stage: Stage, labels: Sequence[str]) -> Stage:
    """A classification of the study's labels and of no others, which it does not report."""
    if stage.task in ("", "finetune", "retrieve") or not labels:
        return stage
    return replace(stage, settings=(f"evaluation.labels=[{', '.join(labels)}]", *stage.settings))
