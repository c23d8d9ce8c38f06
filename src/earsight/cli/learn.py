"""Commands that make a run: by training, or of published weights."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from earsight.cli.show import Settings, emit


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """Learn encoders from the clips of a corpus.

    Example: earsight pretrain --preset tiny --corpus corpus.parquet -o runs/first train.epochs=50
    """

    output: Annotated[Path, arg(aliases=["-o"])]
    """The run folder to make (or, with --resume, to go on with)."""
    preset: str | None = None
    """Settings to start from; see `earsight presets ls`."""
    config: Path | None = None
    """A YAML file laid over the preset."""
    corpus: Path | None = None
    """The manifest that `earsight scan` wrote."""
    start: Annotated[Path | None, arg(name="from")] = None
    """A run whose weights, and memory if the method keeps one, to start from (start_epoch=200
    takes a checkpoint that it kept)."""
    resume: bool = False
    """Go on with the run from its last checkpoint, with the settings it has."""
    restartable: bool = False
    """Start the run, or go on with it where the folder holds it: one command for jobs that are
    started again (torchrun --max-restarts, Slurm, Kubernetes)."""
    dry_run: bool = False
    """Build everything, try one made-up and one real micro-batch, and estimate memory and time."""
    profile: Path | None = None
    """Make no run, but take a few steps, say where time and memory go, and write a trace to this
    file, trace.json for one."""
    settings: Settings = ()
    """Settings to change: section.name=value."""
    json: bool = False
    """Print the result for machines, and no progress."""

    @property
    def divided(self) -> bool:
        """Whether several processes may share the work."""
        return not self.dry_run

    def run(self) -> int:
        """Train."""
        if self.profile is not None:
            # The profiler's library, which would print when it starts and stops, reads it once.
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        from earsight import api

        if self.dry_run and self.profile is not None:
            raise ValueError("--dry-run and --profile are two things; choose one")
        if self.restartable and (self.resume or self.dry_run or self.profile is not None):
            raise ValueError(
                "--restartable starts a run or goes on with it: leave --resume, --dry-run and "
                "--profile out"
            )
        config = api.run_config(
            self.output,
            preset=self.preset,
            config=self.config,
            corpus=self.corpus,
            start=self.start,
            settings=self.settings,
            resume=self.resume,
        )
        if self.dry_run:
            estimate = api.dry_run(config, self.output, resume=self.resume)
            emit(self.json, estimate.as_dict(), str(estimate))
            return 0
        if self.profile is not None:
            found = api.profile(config, self.profile)
            emit(self.json, found.as_dict(), str(found))
            return 0
        resume = None if self.restartable else self.resume
        figures = api.pretrain(config, self.output, resume=resume, quiet=self.json)
        if int(os.environ.get("RANK", "0")):
            return 0  # the first of several processes says it
        emit(self.json, {"run": str(self.output), **figures}, f"the run is in {self.output}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Import:
    """Make a run of published weights, to evaluate and use as any other.

    Example: earsight import avid AVID-CMA_Audioset.pth.tar -o runs/published --audio-stats s.npz
    """

    layout: Positional[Literal["avid"]]
    """Whose: avid, a released AVID or AVID-CMA checkpoint."""
    file: Positional[Path]
    """The checkpoint."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """The run folder to make."""
    settings: Settings = ()
    """What the file does not tell: video.frames=16, audio_encoder.strides=[1,2,2,1]."""
    audio_stats: Path | None = None
    """Statistics of the spectrograms: an .npz with mean and std, one value per band each."""
    json: bool = False
    """Print the result for machines."""

    def run(self) -> int:
        """Import."""
        from earsight import api
        from earsight.training.importing import describe

        origin = api.import_avid(
            self.file, self.output, audio_stats=self.audio_stats, settings=self.settings
        )
        tree = {"run": str(self.output), **origin.as_dict()}
        emit(self.json, tree, f"{describe(origin)}\n\nthe run is in {self.output}", run=self.output)
        return 0
