"""Where the time and memory of a few training steps go; nothing is kept of what they learn."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from earsight.config import RunConfig
from earsight.corpus.clips import TrainingClips
from earsight.corpus.loader import load
from earsight.training.devices import describe_machine
from earsight.training.memory import Held, Memory
from earsight.training.spans import PARTS, Clock, Span, unwatched, wait_for
from earsight.training.step import Parts, train_step

STEPS = 5
"""Steps that are timed by part, and as many that nobody looks into."""

_WARM, _TRACED = 2, 2
_OPERATIONS = 8
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What was found.

    Attributes:
        trace: the file that chrome://tracing and ui.perfetto.dev read.
        machine: what it ran on.
        step_seconds: of a step that nobody looks into.
        parts: mean seconds of a step by part, in order, the device waited for between them.
        operations: mean seconds of a step in single operations, the slowest first; on a GPU, of
            the GPU.
        memory: bytes by part, and the peak.
    """

    trace: str
    machine: dict[str, str | int]
    step_seconds: float
    parts: dict[str, float]
    operations: dict[str, float]
    memory: Memory

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        total = sum(self.parts.values())
        about = f"a step: {1e3 * self.step_seconds:.1f} ms; {1e3 * total:.1f} ms looked at by part"
        sizes = {"peak": self.memory.peak, **self.memory.parts}
        return "\n".join(
            [
                about,
                *_table(self.parts, total),
                "\nthe slowest operations",
                *_table(self.operations, total),
                "\nmemory on the device",
                *(f"  {name:32} {size / _MIB:10.1f} MiB" for name, size in sizes.items() if size),
                f"\nthe trace is in {self.trace}; ui.perfetto.dev and chrome://tracing show it",
            ]
        )


def _table(seconds: dict[str, float], total: float) -> list[str]:
    return [
        f"  {name[:32]:32} {1e3 * value:10.1f} ms {100 * value / max(total, 1e-9):6.1f} %"
        for name, value in seconds.items()
    ]


def profile_steps(
    config: RunConfig,
    parts: Parts,
    clips: TrainingClips,
    device: torch.device,
    workers: int,
    trace: Path,
) -> Profile:
    """Train ``parts`` for some steps: first warm, then timed, then traced into a new file.

    Of the steps that warm up, the first is looked at for its memory.

    Raises:
        ValueError: the file of the trace exists, or its folder does not.
    """
    check_trace(trace)
    steps = _WARM + 2 * STEPS + _TRACED
    numbers = range(steps * config.train.accumulate)
    batches = load(clips, numbers, config.data, workers=workers, pin=device.type == "cuda")
    parts.model.train()

    def take(count: int, span: Span) -> float:
        began = time.perf_counter()
        for _ in range(count):
            train_step(config, parts, batches, device, span=span)
        wait_for(device)
        return (time.perf_counter() - began) / count

    with Held(parts) as held:
        take(1, held)
    take(_WARM - 1, unwatched)
    clock = Clock(device)
    with _encoders_too(parts, clock):
        take(STEPS, clock)
    whole = take(STEPS, unwatched)
    with _encoders_too(parts, record_function):
        operations = _traced(lambda: take(_TRACED, record_function), device, trace)
    return Profile(
        trace=str(trace),
        machine=describe_machine(device),
        step_seconds=whole,
        parts={name: clock.seconds[name] / STEPS for name in PARTS if name in clock.seconds},
        operations=operations,
        memory=held.memory(clips.source),
    )


def check_trace(trace: Path) -> None:
    """Refuse a file that a trace cannot be written to.

    Raises:
        ValueError: it exists, or its folder does not.
    """
    if trace.exists():
        raise ValueError(f"--profile: {trace} exists already; name another file")
    if not trace.parent.is_dir():
        raise ValueError(f"--profile: there is no folder {trace.parent}; make it first")
    if not trace.name.endswith((".json", ".json.gz")):
        raise ValueError(f"--profile: {trace} must end in .json or .json.gz")


@contextmanager
def _encoders_too(parts: Parts, span: Span) -> Iterator[None]:
    """Have ``span`` entered around the encoders, which run within the loss."""
    entered, hooks = [], []
    for name, module in (("encoders, forward", parts.wrapped), ("key encoders", parts.method.keys)):
        if module is None:
            continue

        def enter(_: nn.Module, given: object, name: str = name) -> None:
            entered.append(span(name))
            entered[-1].__enter__()

        def leave(_: nn.Module, given: object, out: object) -> None:
            entered.pop().__exit__(None, None, None)

        hooks.append(module.register_forward_pre_hook(enter))
        hooks.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _traced(work: Callable[[], object], device: torch.device, trace: Path) -> dict[str, float]:
    """Mean seconds of a step in its slowest operations; the trace is written, or nothing is."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        work()
    unfinished = trace.with_name(f".{trace.name}")
    try:
        profiler.export_chrome_trace(str(unfinished))
        unfinished.replace(trace)
    finally:
        unfinished.unlink(missing_ok=True)
    spent = {
        event.key: (event.self_device_time_total if on_gpu else event.self_cpu_time_total)
        for event in profiler.key_averages()
        if event.key not in PARTS
    }
    slowest = sorted(spent, key=lambda name: -spent[name])[:_OPERATIONS]
    return {name: spent[name] / 1e6 / _TRACED for name in slowest}
