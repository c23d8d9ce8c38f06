"""What a study is: a small file of stages, what varies among them, figures and claims."""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from earsight.config import ConfigError, read_yaml

_FOLDER = Path(__file__).parent
_STRICT = ConfigDict(extra="forbid")
LABEL = "{label}"
"""Stands for each of a study's labels."""

EVERY = "*"
"""Stands for all: as a part of a figure's name, for what an evaluation has there; for arms."""


_ALONE = frozenset({"modality"})
_OPTIONS = {
    "finetune": frozenset({"modality", "label", "share", "scratch"}),
    "knn": _ALONE,
    "probe": _ALONE,
    "svm": _ALONE,
}
"""By task, what can be told beside settings."""


@checked(config=_STRICT, kw_only=True, frozen=True)
class Stage:
    """A step of every arm.

    Attributes:
        do: ``pretrain`` (from a random initialisation), ``continue`` (from the weights of ``of``)
            or ``evaluate``.
        of: the stage that it builds on; none for ``pretrain``.
        task: of an evaluation: ``retrieve``, ``knn``, ``probe``, ``svm``, ``memory``,
            ``finetune``, ``agreement`` or ``negatives``.
        settings: settings of the stage, ``section.name=value``.
        options: of fine-tuning: ``modality``, ``label``, ``share``, ``scratch``; of ``knn``,
            ``probe`` and ``svm``: ``modality``.
        arms: that do it; all if none is named.
    """

    do: Literal["pretrain", "continue", "evaluate"]
    of: str = ""
    task: Literal[
        "", "retrieve", "knn", "probe", "svm", "memory", "finetune", "agreement", "negatives"
    ] = ""
    settings: tuple[str, ...] = ()
    options: dict[str, Any] = Field(default_factory=dict)
    arms: tuple[str, ...] = ()

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        if self.do == "pretrain" and self.of:
            yield "of: a stage that pretrains builds on none"
        if self.do != "pretrain" and not self.of:
            yield f"of: name the stage to {self.do}"
        if (self.do == "evaluate") != bool(self.task):
            yield "task: belongs to stages that evaluate, and to each of them"
        known = _OPTIONS.get(self.task, frozenset())
        if self.options and not known:
            yield "options: have no effect unless task is finetune, knn, probe or svm"
        elif wrong := sorted(self.options.keys() - known):
            yield f"options: {self.task} has none named {', '.join(wrong)}"


@checked(config=_STRICT, kw_only=True, frozen=True)
class Report:
    """A figure that is reported for every arm.

    Attributes:
        name: for people; ``{label}`` stands for each of the study's labels.
        stage: the evaluation that brings it.
        row: its name there, such as ``probe/video/digit/accuracy``; with ``*`` in the place of a
            part, the mean of all that have anything there.
        gain: report its distance from the random initialisation instead.
        untrained: arms of which the figure of the random initialisation is reported instead;
            ``*`` for all.
    """

    name: str
    stage: str
    row: str
    gain: bool = False
    untrained: tuple[str, ...] = ()

    def faults(self, arms: Collection[str]) -> Iterator[str]:
        """What is wrong, one sentence each."""
        known = (*arms, EVERY)
        yield from (f"{arm!r} is no arm" for arm in self.untrained if arm not in known)
        if self.gain and self.untrained:
            yield "give one of gain and untrained"


@checked(config=_STRICT, kw_only=True, frozen=True)
class Claim:
    """A claim about a reported figure; one of ``more``, ``same`` and ``chance`` is given.

    Attributes:
        says: the claim, for people.
        report: name of the figure (with ``{label}``, one claim per label).
        more: arms of which the first is better than the second: more, or of what falls as a model
            improves, such as ranks, less.
        same: arms that differ by less than ``within``.
        chance: arm whose mean lies within the 95 % interval of guessing.
        margin: by which the first must be better; below 0, by which it may fall short.
        beyond: name of another figure; the first must then be better by more than it is there.
        than: name of another figure; what is said of the second arm is then taken from there.
        within: margin of ``same``.
        post_hoc: it was added when the study's figures had been seen.
    """

    says: str
    report: str
    more: tuple[str, str] | None = None
    same: tuple[str, str] | None = None
    chance: str | None = None
    margin: float = 0.0
    beyond: str = ""
    than: str = ""
    within: float = 0.0
    post_hoc: bool = False

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that it speaks of."""
        return self.more or self.same or ((self.chance,) if self.chance else ())

    def figures(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Names of the figures that it needs, each with the arms of which."""
        yield self.report, self.arms[:1] if self.than else self.arms
        if self.beyond:
            yield self.beyond, self.arms
        if self.than:
            yield self.than, self.arms[1:]

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        if sum(x is not None for x in (self.more, self.same, self.chance)) != 1:
            yield "give one of more, same and chance"
        if (self.same is not None) != (self.within > 0):
            yield "within: a positive margin belongs to same, and to each of them"
        for name in ("margin", "beyond", "than"):
            if getattr(self, name) and self.more is None:
                yield f"{name}: has no effect unless more is given"
        if self.beyond and self.than:
            yield "give one of beyond and than"
        if len(set(self.arms)) < len(self.arms) and not self.than:
            yield f"{self.arms[0]!r} is compared with itself: name another arm, or a figure (than)"


@checked(config=_STRICT, kw_only=True, frozen=True)
class Design:
    """A study.

    Attributes:
        name: of the study.
        about: what it asks, in a sentence or two.
        explains: what it looks into, for the most likely reason: other studies, each with how those
            of their claims begin.
        preset: settings that all arms share.
        settings: changes to them.
        labels: label columns that ``{label}`` stands for.
        first_seed: seeds count from here.
        seeds: how many are run unless told otherwise.
        arms: name to what it changes, per stage: settings, and options of evaluations.
        stages: in the order in which they are done.
        report: figures.
        claims: about them.
    """

    name: str
    about: str
    preset: str
    explains: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    settings: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    first_seed: int
    seeds: int = 5
    arms: dict[str, dict[str, tuple[str, ...]]]
    stages: dict[str, Stage]
    report: tuple[Report, ...]
    claims: tuple[Claim, ...] = ()

    def looks_into(self, study: str, claim: str) -> bool:
        """Whether it looks for the reason of another study's claim."""
        return claim.startswith(self.explains.get(study, ()))

    def of_stage(self, name: str) -> list[str]:
        """The arms that do a stage."""
        named = self.stages[name].arms
        return [arm for arm in self.arms if not named or arm in named]

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        for name in ("arms", "stages"):
            if not getattr(self, name):
                yield f"{name}: name at least one"
        yield from self._stage_faults()
        yield from self._arm_faults()
        yield from self._report_faults()
        yield from self._claim_faults()
        if self.seeds < 1:
            yield "seeds: must be at least 1"

    def _stage_faults(self) -> Iterator[str]:
        seen: list[str] = []
        for name, stage in self.stages.items():
            yield from (f"stages.{name}.{fault}" for fault in stage.faults())
            unknown = [arm for arm in stage.arms if arm not in self.arms]
            yield from (f"stages.{name}.arms: {arm!r} is no arm" for arm in unknown)
            if stage.of and stage.of not in seen:
                yield f"stages.{name}.of: no stage {stage.of!r} comes before it"
            elif stage.of:
                lacking = set(self.of_stage(name)) - set(self.of_stage(stage.of))
                yield from (
                    f"stages.{name}.arms: {arm!r} does not do {stage.of!r}, which it builds on"
                    for arm in sorted(lacking)
                )
            seen.append(name)

    def _arm_faults(self) -> Iterator[str]:
        for arm, changes in self.arms.items():
            for name, given in changes.items():
                if name not in self.stages:
                    yield f"arms.{arm}.{name}: is no stage"
                elif arm not in self.of_stage(name):
                    yield f"arms.{arm}.{name}: has no effect, for the stage's arms leave it out"
                elif self.stages[name].task != "finetune":
                    plain = [text for text in given if "." not in text.partition("=")[0]]
                    allowed = self.stages[name].do != "evaluate" and {
                        "device",
                        "threads",
                        "plugins",
                    }
                    wrong = [t for t in plain if not allowed or t.partition("=")[0] not in allowed]
                    yield from (f"arms.{arm}.{name}: {t!r} is no setting" for t in wrong)

    def _report_faults(self) -> Iterator[str]:
        for report in self.report:
            known = list(self.arms)
            if report.stage not in self.stages or self.stages[report.stage].do != "evaluate":
                yield f"report {report.name!r}: {report.stage!r} is no stage that evaluates"
            else:
                known = self.of_stage(report.stage)
            yield from (f"report {report.name!r}: {fault}" for fault in report.faults(known))

    def _claim_faults(self) -> Iterator[str]:
        stages = {report.name: report.stage for report in self.report}
        changed = {report.name for report in self.report if report.gain or report.untrained}
        for claim in self.claims:
            about = f"claim {claim.says!r}"
            yield from (f"{about}: {fault}" for fault in claim.faults())
            for name in filter(None, (claim.report, claim.beyond, claim.than)):
                if name not in stages:
                    yield f"{about}: reports {name!r}, which is not reported"
            if claim.chance is not None and claim.report in changed:
                yield f"{about}: chance is that of a figure as it is, not of a gain or untrained"
            missing = [arm for arm in claim.arms if arm not in self.arms]
            yield from (f"{about}: {arm!r} is no arm" for arm in missing)
            for name, arms in claim.figures():
                if stages.get(name) in self.stages:
                    lacking = set(arms) - set(self.of_stage(stages[name])) - set(missing)
                    yield from (f"{about}: {arm!r} has no {name!r}" for arm in sorted(lacking))


@dataclass(frozen=True, kw_only=True)
class Question:
    """A claim about one label's figure."""

    says: str
    report: str
    beyond: str
    than: str
    claim: Claim


def names() -> list[str]:
    """Every study's name, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def read_design(name: str) -> Design:
    """A study that comes with the package, or one of one's own by the path of its file.

    Raises:
        ConfigError: there is none, or its file cannot be used; every fault is named.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = _FOLDER / f"{name}.yaml"
        if name not in names():
            near = difflib.get_close_matches(name, names(), 1, 0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(names())
            raise ConfigError([f"study {name!r} does not exist{hint} (known: {known})"])
    return parse_design({"name": path.stem, **read_yaml(path)})


def parse_design(tree: Mapping[str, Any]) -> Design:
    """Check a study.

    Raises:
        ConfigError: names every fault.
    """
    try:
        design = TypeAdapter(Design).validate_python(dict(tree))
    except ValidationError as error:
        raise ConfigError(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        ) from error
    if faults := list(design.faults()):
        raise ConfigError(faults)
    return design


def expanded(texts: Sequence[str], labels: Sequence[str]) -> list[tuple[str, ...]]:
    """Texts with each label in the place of ``{label}``; once where none has that place."""
    if not any(LABEL in text for text in texts):
        return [tuple(texts)]
    return [tuple(text.replace(LABEL, label) for text in texts) for label in labels]


def reports(design: Design) -> list[Report]:
    """The reported figures, one per label where they are about labels."""
    return [
        replace(report, name=name, row=row)
        for report in design.report
        for name, row in expanded((report.name, report.row), design.labels)
    ]


def questions(design: Design) -> list[Question]:
    """The claims, one per label where they are about labels."""
    return [
        Question(says=says, report=report, beyond=beyond, than=than, claim=claim)
        for claim in design.claims
        for says, report, beyond, than in expanded(
            (claim.says, claim.report, claim.beyond, claim.than), design.labels
        )
    ]
