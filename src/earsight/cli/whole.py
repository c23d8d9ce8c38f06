"""Commands that do many things in one: studies, the demo, benchmarks, the look at a machine."""

from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from earsight.cli.show import FAILED, Settings, emit


@dataclass(frozen=True, kw_only=True)
class Study:
    """Compare methods over several seeds: a table, a plot, and a verdict on each claim.

    Example: earsight study variants --corpus corpus.parquet --seeds 3 --budget 60

    It goes on from whatever is done, also by other studies.
    """

    name: Positional[str]
    """variants, negatives, shuffled, labels, or a YAML file of your own."""
    corpus: Path
    """The manifest of a labelled corpus."""
    output: Annotated[Path, arg(aliases=["-o"])] = Path("studies")
    """The folder of all studies."""
    seeds: int | None = None
    """How many seeds (default: as many as the study says)."""
    budget: float | None = None
    """Minutes after which to stop; the same command goes on."""
    jobs: Annotated[int, arg(aliases=["-j"])] = 1
    """Stages done at once; divides the cores among them where threads is 0."""
    labels: tuple[str, ...] = ()
    """Label columns to look at, instead of the study's."""
    settings: Settings = ()
    """Settings to change in all stages that train: train.epochs=2."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Do it."""
        from earsight import api
        from earsight.studies.tables import format_summary
        from earsight.terminal import stage_bar

        with stage_bar(quiet=self.json) as show:
            summary = api.study(
                self.name,
                self.corpus,
                home=self.output,
                seeds=self.seeds,
                budget=self.budget,
                jobs=self.jobs,
                labels=self.labels,
                settings=self.settings,
                show=show,
            )
        emit(self.json, asdict(summary), format_summary(summary))
        return 0


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Look at what this machine can do: versions, codecs, devices, extras, disk, speed.

    Example: earsight doctor

    What is bad comes first, with a remedy. The exit code is 1 where something essential is broken.
    """

    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Examine."""
        from earsight.doctor.examine import examine

        found = examine()
        emit(self.json, found.as_dict(), str(found))
        return 0 if found.works else FAILED


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Run the benchmarks of the project's repository, one after the other: one table of all.

    Example: earsight bench --quick

    The exit code is 1 where one does not run, or misses a target at its full size.
    """

    names: Positional[tuple[str, ...]] = ()
    """Which (default: all)."""
    quick: bool = False
    """Small sizes, to see that they work."""
    folder: Path = Path("benchmarks")
    """Where they lie."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """A file for all that they wrote, as JSON."""
    minutes: float | None = None
    """After which no other is begun, and the one that runs is ended."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Measure."""
        from earsight.bench import bench
        from earsight.terminal import stage_bar

        with stage_bar(quiet=self.json) as show:
            done = bench(
                self.names, folder=self.folder, quick=self.quick, minutes=self.minutes, show=show
            )
        if self.output is not None:
            self.output.write_text(dumps(done.as_dict(), indent=1) + "\n", encoding="utf-8")
        emit(self.json, done.as_dict(), str(done))
        return FAILED if done.failed or done.missed else 0


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Render a corpus of struck objects, learn from it, and write a report: the whole way once.

    Example: earsight demo -o demo-run
    """

    output: Annotated[Path, arg(aliases=["-o"])] = Path("demo-run")
    """The folder to make."""
    seed: int = 0
    """Of the corpus and of the training."""
    short: bool = False
    """A few clips and steps, to see that everything works; nothing is learned."""
    settings: Settings = ()
    """Settings to change: section.name=value."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Demonstrate."""
        from earsight import demo

        result = demo.demo(
            self.output, seed=self.seed, short=self.short, settings=self.settings, quiet=self.json
        )
        emit(self.json, result.as_dict(), str(result))
        return 0
