"""Commands that measure runs."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from earsight.cli.show import Settings, emit, notices, progress


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a run's encoders on held-out clips, beside the random initialisation and chance.

    Example: earsight evaluate probe runs/first

    Fine-tuning goes on where it was stopped, if the same is asked for again:
    earsight evaluate finetune runs/first --modality video --label digit --share 0.1
    """

    task: Positional[str]
    """retrieve, knn, probe, svm, memory (of the training clips), classify (a supervised run's own
    classifier), finetune, or with a page of clips to play: agreement (of clips in the run's
    memory) and negatives (what enters the run's dictionaries)."""
    folder: Positional[Path]
    """The run folder."""
    settings: Settings = ()
    """Settings to change: evaluation.clips=3, data.workers=4."""
    corpus: Path | None = None
    """Another corpus than the run's."""
    preset: str | None = None
    """A paper's protocol, such as ucf-101-8; a wrong name lists them."""
    folds: str | None = None
    """Official folds to take in turn: all, or 1,2,3 (default: the split of the manifest)."""
    seeds: int = 1
    """How often, with other draws: figures are means, with deviation and 95 % interval."""
    baseline: bool = True
    """Leave the random initialisation out."""
    modality: Literal["video", "audio"] | None = None
    """Evaluate one encoder alone, also on files without the other modality; which one finetune
    trains."""
    label: str | None = None
    """The label column that finetune learns."""
    share: float | None = None
    """Share of the labelled training instances that finetune uses, such as 0.1 (default: 1)."""
    scratch: bool = False
    """Let finetune start from a random initialisation instead, to compare with."""
    json: bool = False
    """Print the result for machines."""

    @property
    def divided(self) -> bool:
        """Whether several processes may share the work."""
        return self.task == "finetune" or (self.task == "probe" and self.preset is not None)

    def run(self) -> int:
        """Evaluate."""
        from earsight.evaluation.negatives_tables import format_negatives
        from earsight.evaluation.rows import format_table

        tasks = {
            "finetune": self._finetune,
            **({"probe": self._finetune} if self.preset else {}),
            "memory": self._memory,
            **dict.fromkeys(("agreement", "negatives"), self._look),
        }
        evaluation = tasks.get(self.task, self._evaluate)()
        if int(os.environ.get("RANK", "0")):
            return 0  # the first of several processes says it
        notes = "\n".join(evaluation.details["notes"])
        negatives = self.task == "negatives"
        table = format_negatives(evaluation) if negatives else format_table(evaluation.rows)
        page = f"clips to play: {self._page}" if self._page else ""
        parts = (evaluation.protocol, notes, table, page)
        text = "\n\n".join(part for part in parts if part)
        emit(self.json, asdict(evaluation), text, run=self.folder)
        return 0

    @property
    def _page(self) -> str:
        if self.task not in ("agreement", "negatives"):
            return ""
        # With them comes matplotlib.
        from earsight.api import AGREEMENT_PAGE, NEGATIVES_PAGE

        return str(self.folder / (AGREEMENT_PAGE if self.task == "agreement" else NEGATIVES_PAGE))

    def _refuse(self, *names: str) -> None:
        """Refuse options that have no effect on this task."""
        given = {name: getattr(self, name) for name in names}
        default = {"baseline": True, "seeds": 1, "scratch": False}
        for name, value in given.items():
            if value != default.get(name):
                flag = "no-baseline" if name == "baseline" else name
                raise ValueError(f"--{flag}: has no effect on {self.task}; leave it out")

    def _folds(self) -> Any:
        """What ``--folds`` says."""
        if self.folds is None or self.folds == "all":
            return self.folds or ()
        numbers = self.folds.split(",")
        if not all(number.strip().isdecimal() for number in numbers):
            raise ValueError(f"--folds: {self.folds!r} is neither all nor numbers such as 1,2,3")
        return tuple(int(number) for number in numbers)

    def _look(self) -> Any:
        """An evaluation with a page of its own."""
        from earsight import api

        self._refuse("preset", "modality", "label", "share", "scratch", "baseline")
        self._refuse("folds", "seeds")
        negatives = self.task == "negatives"
        with progress("decoding" if negatives else "searching") as show:
            return (api.negatives if negatives else api.agreement)(
                self.folder, corpus=self.corpus, settings=self.settings, progress=show
            )

    def _memory(self) -> Any:
        from earsight import api

        self._refuse("preset", "modality", "label", "share", "scratch", "baseline", "folds")
        with progress("decoding") as show:
            return api.memory(
                self.folder,
                corpus=self.corpus,
                settings=self.settings,
                seeds=self.seeds,
                progress=show,
            )

    def _evaluate(self) -> Any:
        from earsight import api

        self._refuse("label", "share", "scratch")
        with progress("decoding") as show:
            return api.evaluate(
                self.folder,
                self.task,
                corpus=self.corpus,
                settings=self.settings,
                preset=self.preset,
                modality=self.modality,
                folds=self._folds(),
                seeds=self.seeds,
                baseline=self.baseline,
                progress=show,
            )

    def _finetune(self) -> Any:
        from earsight import api
        from earsight.presets.protocols import load_for

        if self.modality is None or self.label is None:
            raise ValueError(
                f"{self.task} needs --modality (video or audio) and --label (a column of the "
                "corpus)"
            )
        self._refuse("baseline")
        if self.preset is not None:
            load_for((self.task,), self.preset)
        return api.finetune(
            self.folder,
            modality=self.modality,
            label=self.label,
            share=1.0 if self.share is None else self.share,
            scratch=self.scratch,
            preset=self.preset,
            corpus=self.corpus,
            settings=self.settings,
            folds=self._folds(),
            seeds=self.seeds,
            quiet=self.json,
        )


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Put the evaluations of runs side by side, and beside the figures that the papers print.

    Example: earsight compare runs/first runs/second

    What differs in how two figures were measured is named beside them.
    """

    runs: Positional[tuple[Path, ...]]
    """Run folders that were evaluated; one is enough for published figures."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Compare."""
        from earsight import api
        from earsight.evaluation.compare_tables import format_comparison

        comparison = api.compare(self.runs)
        text = format_comparison(comparison)
        said = [f"{run.name}: {notice}" for run in self.runs for notice in notices(run)]
        tree = {**asdict(comparison), **({"notices": said} if said else {})}
        emit(self.json, tree, "\n".join([text, *(f"\nnotice: {line}" for line in said)]))
        return 0
