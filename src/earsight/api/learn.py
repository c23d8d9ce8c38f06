"""Configure and train runs; make them of published weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from earsight import presets
from earsight.config import ConfigError, RunConfig, Tree, as_tree, merge, override, parse, read_yaml
from earsight.corpus.clips import TrainingClips
from earsight.corpus.manifest import resolved
from earsight.evaluation.load import Progress
from earsight.evaluation.online import online
from earsight.training.devices import prepare_machine, worker_count
from earsight.training.estimate import Estimate, estimate
from earsight.training.importing import import_avid as import_checkpoint
from earsight.training.logging import require_extras
from earsight.training.origin import Origin
from earsight.training.place import place, said_once
from earsight.training.plan import Plan, with_size
from earsight.training.profile import Profile, check_trace, profile_steps
from earsight.training.run import check_place, train, training_clips
from earsight.training.run_folder import read_config
from earsight.training.setup import build_parts, fit_inputs, open_data
from earsight.training.step import Parts
from earsight.training.targets import with_classes


def configure(
    preset: str | None, *, config: Path | None = None, settings: Sequence[str] = ()
) -> RunConfig:
    """A configuration from a preset, a YAML file laid over it, and ``section.name=value`` last.

    Raises:
        ConfigError: names every setting that cannot be used.
    """
    tree: Tree = presets.load(preset) if preset else {}
    if config is not None:
        tree = merge(tree, read_yaml(config))
    if not tree:
        raise ConfigError(["choose a preset (`earsight presets ls`) or give a configuration file"])
    return parse(override(tree, settings))


@said_once()
def run_config(
    run: Path,
    *,
    preset: str | None,
    config: Path | None,
    corpus: Path | None,
    settings: Sequence[str],
    resume: bool,
    start: Path | None = None,
) -> RunConfig:
    """The configuration of a run to start, or (``resume``) of the one that is gone on with.

    Raises:
        ConfigError: names every setting that cannot be used.
    """
    if corpus is not None:
        settings = [*settings, f"data.corpus={json.dumps(resolved(corpus))}"]
    if start is not None:
        settings = [*settings, f"start={json.dumps(str(start.resolve()))}"]
    if not resume:
        return configure(preset, config=config, settings=settings)
    if preset or config or start:
        raise ConfigError(
            ["--resume takes the run's own settings; leave --preset, --config and --from out"]
        )
    return parse(override(as_tree(read_config(run)), settings))


def import_avid(
    file: Path, run: Path, *, audio_stats: Path | None = None, settings: Sequence[str] = ()
) -> Origin:
    """Make a run of published weights; see :func:`earsight.training.importing.import_avid`.

    Raises:
        ValueError: the checkpoint, the statistics or a setting cannot be used.
    """
    return import_checkpoint(file, run, audio_stats=audio_stats, settings=settings)


def dry_run(config: RunConfig, run: Path | None = None, *, resume: bool = False) -> Estimate:
    """Build a run, try one made-up and one real micro-batch, and say what it would take.

    Args:
        config: the run's settings.
        run: the folder that is meant; None to look at none, nor at what would be started from.
        resume: the run that it holds is to be gone on with.

    Raises:
        ValueError: settings, corpus or folder cannot be used, or there are several processes.
    """
    require_extras(config.log)
    if run is not None:
        check_place(config, run, resume)
    trial = _trial(config, "a dry run")
    workers = worker_count(trial.config)
    return estimate(trial.config, trial.parts, trial.clips, trial.plan, trial.device, workers)


def profile(config: RunConfig, trace: Path) -> Profile:
    """Train a run for a few steps and say where their time and memory go; no run is made.

    What a method does before an epoch is left out: dictionaries and pools are empty.

    Args:
        config: the run's settings.
        trace: a new file, ``.json`` or ``.json.gz``, for the trace.

    Raises:
        ValueError: settings, corpus or file cannot be used, or there are several processes.
    """
    check_trace(trace)
    trial = _trial(config, "a profile")
    workers = worker_count(trial.config)
    return profile_steps(trial.config, trial.parts, trial.clips, trial.device, workers, trace)


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """A run that is built to be looked at, not to be kept."""

    config: RunConfig
    plan: Plan
    parts: Parts
    clips: TrainingClips
    device: torch.device


def _trial(config: RunConfig, what: str) -> _Trial:
    if place().size > 1:
        raise ValueError(f"{what} looks at one process; start it without torchrun")
    device = prepare_machine(config)
    data = open_data(config)
    config = with_classes(config, data.train)
    plan = Plan.of(config, len(data.train))
    config = with_size(config, plan, len(data.train))
    inputs = fit_inputs(config, data, worker_count(config))
    parts = build_parts(config, inputs, len(data.train), device)
    clips = training_clips(config, data, plan, parts)
    return _Trial(config=config, plan=plan, parts=parts, clips=clips, device=device)


def pretrain(
    config: RunConfig,
    run: Path,
    *,
    resume: bool | None = False,
    quiet: bool = False,
    watch: Progress | None = None,
    tensors: Mapping[str, torch.Tensor] | None = None,
) -> Mapping[str, float]:
    """Train a run to its end, from the start or from its last checkpoint.

    Started by ``torchrun``, each process takes its part of every batch; rank 0 alone writes.

    Args:
        config: the run's settings.
        run: its folder.
        resume: go on from its last checkpoint; None to do so where the folder holds the run, of
            these settings, and to start it where not.
        quiet: show nothing.
        watch: told of steps done and of how many, now and then; what it raises ends the run, which
            can be resumed from its last checkpoint.
        tensors: clips in memory, in place of a corpus: ``video (N, 3, T, H, W)`` uint8 at
            ``video.fps`` and ``audio (N, samples)`` in [-1, 1] at ``audio.rate``; whatever else is
            in it is a column of labels, ``(N,)`` integers.

    Returns:
        The figures of the last evaluation, by name.

    Raises:
        ValueError: settings, corpus or run folder cannot be used.
        StoppedError: SIGINT or SIGTERM came, to whichever process; the state is saved.
        RankError: another process failed, ended or hangs.
    """
    if config.data.corpus:
        # Whoever reads the run's settings may stand in another folder.
        config = replace(config, data=replace(config.data, corpus=resolved(config.data.corpus)))
    return train(
        config, run, resume=resume, quiet=quiet, online=online, watch=watch, tensors=tensors
    )
