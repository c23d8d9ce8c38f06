"""A run from its configuration to its encoders: corpus, parts, loop, files."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from earsight.config import RunConfig, write_yaml
from earsight.corpus.clips import TrainingClips
from earsight.terminal import progress_bar
from earsight.training.alone import alone_in
from earsight.training.compiled import require_compiler
from earsight.training.described import describe_division, describe_run
from earsight.training.devices import prepare_machine, worker_count
from earsight.training.distributed import ALONE, Ranks, join_ranks
from earsight.training.logging import Log, NoLog, RunLog, cut_metrics, require_extras
from earsight.training.loop import Evaluate, Loop
from earsight.training.origin import inherited, read_origin, write_origin
from earsight.training.place import said_once
from earsight.training.plan import Plan, with_size
from earsight.training.resume import (
    check_alike,
    check_resumable,
    check_settings,
    last_checkpoint,
)
from earsight.training.run_folder import (
    check_new,
    create_run,
    discard_run,
    read_config,
    save_encoders,
)
from earsight.training.setup import (
    Data,
    blank_inputs,
    build_parts,
    clip_settings,
    fit_inputs,
    open_data,
    tensor_data,
)
from earsight.training.start import (
    read_start,
    start_inputs,
    start_memory,
    start_weights,
    write_started,
)
from earsight.training.step import Parts
from earsight.training.targets import class_codes, target_of, with_classes
from earsight.transforms.inputs import Inputs

Progress = Callable[[int, int], None]


def training_clips(
    config: RunConfig, data: Data, plan: Plan, parts: Parts, ranks: Ranks = ALONE
) -> TrainingClips:
    """The clips of a run, by number of micro-batch; of each, the part of this rank."""
    needs, labels = parts.method.needs, None
    if needs.labels:
        target = target_of(config)
        if target is None:
            raise ValueError(
                f"method.name: {config.method.name} needs labels; its settings must name the "
                "column (label), the modality and the classes"
            )
        labels = class_codes(data.train, target)
    return TrainingClips(
        data.train,
        clip_settings(config),
        batch=plan.micro,
        views=needs.views,
        labels=labels,
        rank=ranks.rank,
        ranks=ranks.size,
        source=data.source,
    )


Online = Callable[[RunConfig, Data, Parts, Log], Evaluate]
"""Makes what evaluates a run under way."""


def train(
    config: RunConfig,
    run: Path,
    *,
    resume: bool | None,
    quiet: bool,
    online: Online | None = None,
    watch: Progress | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> Mapping[str, float]:
    """Train a run to its end, from the start or from its last checkpoint.

    Args:
        config: the run's settings.
        run: its folder.
        resume: go on from its last checkpoint; None to do so where the folder holds the run, and
            to start it where not.
        quiet: show nothing.
        online: makes what is called where an evaluation is due; None to evaluate nothing.
        watch: told of steps done and of how many, now and then.
        tensors: clips in memory, in place of a corpus; see
            :func:`earsight.training.setup.tensor_data`.

    Returns:
        The figures of the last evaluation, by name.

    Raises:
        ValueError: settings, corpus or run folder cannot be used.
        StoppedError: SIGINT or SIGTERM came, to whichever process; the state is saved.
        BusyError: another command is training the run.
        RankError: another process failed, ended or hangs.
    """
    if resume:
        _refuse_imported(run)
    with said_once():
        require_extras(config.log)
        device = prepare_machine(config)
        if config.train.compile != "none":
            require_compiler(device)
    with join_ranks(device, config.train.rank_timeout) as ranks:
        # All the same is read again where it is needed: decoding a cache may take hours.
        ranks.on_main(lambda: check_place(config, run, resume))
        data = _open_data(config, quiet, ranks) if tensors is None else tensor_data(config, tensors)
        config = with_classes(config, data.train)
        plan = Plan.of(config, len(data.train), ranks.size)
        config = with_size(config, plan, len(data.train))
        check_alike(config, data.train, ranks)
        if resume is None:
            # One of them looks, as for the last checkpoint.
            resume = ranks.on_main(lambda: _begun(config, run))
        if not resume:
            ranks.on_main(lambda: _new_run(config, run))
        with ExitStack() as stack:
            ranks.on_main(lambda: stack.enter_context(alone_in(run)))
            state = _last_state(config, run, data, ranks) if resume else None
            if resume:
                ranks.on_main(lambda: _open_run(config, run, state, plan))
            log: Log = NoLog()
            if ranks.is_main:
                log = RunLog(run, config.log, steps=plan.steps, quiet=quiet, watch=watch)
            try:
                with closing(log):
                    return _train(config, run, data, plan, device, log, ranks, state, online)
            except ValueError:
                # The same command, mended, must find the folder free.
                if ranks.is_main and not resume:
                    discard_run(run)
                raise


def _open_data(config: RunConfig, quiet: bool, ranks: Ranks) -> Data:
    """Open the corpus, with a bar where clips have to be decoded into a cache.

    A cache on disk is filled by rank 0, however long that takes; the others find it.
    """
    if config.data.cache == "none":
        return open_data(config)
    opened: list[Data] = []
    if config.data.cache != "memory":
        ranks.on_main(lambda: opened.append(_decoded(config, quiet)))
    return opened[0] if opened else _decoded(config, quiet or not ranks.is_main)


def _decoded(config: RunConfig, quiet: bool) -> Data:
    if quiet:
        return open_data(config)
    with progress_bar("decoding") as show:
        return open_data(config, progress=show)


def _last_state(config: RunConfig, run: Path, data: Data, ranks: Ranks) -> dict[str, Any] | None:
    """The state to go on from, None where the run was stopped before the first was saved."""
    state = last_checkpoint(run, ranks)
    if state is not None:
        check_resumable(config, data.train, state)
    return state


def _new_run(config: RunConfig, run: Path) -> None:
    """Make the run folder; what it starts from may be gone when somebody asks for its terms."""
    create_run(run, config)
    origin = inherited(run / config.start) if config.start else None
    if origin is not None:
        write_origin(run, origin)


def _open_run(config: RunConfig, run: Path, state: Mapping[str, Any] | None, plan: Plan) -> None:
    """Cut what a run has logged past the state that it goes on from."""
    step = state["step"] if state else -1
    cut_metrics(run / "metrics.jsonl", step)
    write_yaml(run / "config.yaml", config)
    if step < plan.steps:
        # Of a run that had finished with fewer epochs: they are those of its end no longer.
        (run / "encoders.safetensors").unlink(missing_ok=True)


def _begun(config: RunConfig, run: Path) -> bool:
    """Whether a folder holds the run that is to be started.

    Raises:
        ConfigError: it holds one of other settings.
    """
    if not (run / "config.yaml").is_file():
        return False
    _refuse_imported(run)
    check_settings(read_config(run), config)
    return True


def check_place(config: RunConfig, run: Path, resume: bool | None) -> None:
    """Refuse a folder, or what is started from, before anything is decoded; see :func:`train`.

    Raises:
        ValueError: the folder holds something already, or the start is no run that can be used.
    """
    if resume:
        _refuse_imported(run)
        read_config(run)
        return
    if resume is None and (run / "config.yaml").is_file():
        return
    check_new(run)
    if config.start:
        # Seen from a folder that is not there yet.
        start = str((run / config.start).resolve())
        read_start(replace(config, start=start), run)


def _refuse_imported(run: Path) -> None:
    """Imported weights must not be trained over.

    Raises:
        ValueError: the run holds some.
    """
    origin = read_origin(run)
    if origin is not None and not origin.trained:
        raise ValueError(f"{run} holds imported weights, and no training to resume; evaluate it")


def _train(
    config: RunConfig,
    run: Path,
    data: Data,
    plan: Plan,
    device: torch.device,
    log: Log,
    ranks: Ranks,
    state: Mapping[str, object] | None,
    online: Online | None,
) -> Mapping[str, float]:
    describe_run(log, config, data, plan, device)
    parts = _parts(config, run, data, device, log, ranks, fresh=state is None)
    describe_division(log, plan, parts, ranks)
    evaluate = online(config, data, parts, log) if online and len(data.held_out) > 1 else None
    loop = Loop(
        config=config,
        parts=parts,
        clips=training_clips(config, data, plan, parts, ranks),
        run=run,
        log=log,
        device=device,
        workers=worker_count(config),
        plan=plan,
        ranks=ranks,
        evaluate=evaluate,
    )
    if state is not None:
        loop.load(state)
        log.note(f"goes on from step {loop.step} of {plan.steps}")
    del state
    loop.fit()
    ranks.on_main(lambda: _save(run, parts, config))
    log.note(f"done: {plan.steps} steps in {loop.elapsed:.0f} s")
    return loop.figures


def _save(run: Path, parts: Parts, config: RunConfig) -> None:
    """Write what was learned, with the terms of what it was learned from."""
    origin = read_origin(run)
    save_encoders(
        run,
        parts.model,
        parts.inputs,
        config,
        keys=parts.method.keys,
        licence="" if origin is None else origin.licence,
    )


def _parts(
    config: RunConfig,
    run: Path,
    data: Data,
    device: torch.device,
    log: Log,
    ranks: Ranks,
    *,
    fresh: bool,
) -> Parts:
    """What is trained: as it starts (``fresh``), or for a saved state to be put in."""
    size = len(data.train)
    if not fresh:
        return build_parts(config, blank_inputs(config), size, device, ranks)
    start = read_start(config, run)
    inputs = start_inputs(config, start)
    if inputs is None:
        inputs = _fitted_inputs(config, data, ranks)
        if not config.pictures.cells:
            log.note(f"statistics of sound taken over {inputs.clips} clips")
    parts = build_parts(config, inputs, size, device, ranks)
    if start is not None:
        taken = start_weights(config, parts.model, start)
        parts.method.attach(parts.model)
        log.note(f"starts from {start.run}: {', '.join(taken)}")
        if ranks.is_main:
            write_started(run, start)
        if about := start_memory(start, parts.method, data.train.key, device, taken):
            log.note(about)
    return parts


def _fitted_inputs(config: RunConfig, data: Data, ranks: Ranks) -> Inputs:
    """Inputs with statistics taken on rank 0, the same on all."""
    state = ranks.on_main(lambda: fit_inputs(config, data, worker_count(config)).state())
    return Inputs.from_state(state)
