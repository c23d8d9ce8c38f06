"""A dry run: one made-up and one real micro-batch, and what the whole run would take."""

import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from earsight.config import RunConfig
from earsight.corpus.batch import Batch
from earsight.corpus.clips import TrainingClips
from earsight.training.memory import Held, Memory
from earsight.training.plan import Plan
from earsight.training.spans import Span, unwatched
from earsight.training.step import Parts, train_step

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would take.

    Attributes:
        parameters: of encoders and heads.
        memory: bytes of a step by part.
        batches_mib: batches in flight between workers and training, in main memory.
        peak_mib: largest memory of this process, or on a GPU, of what was allocated there, in the
            steps that were tried.
        loss: of the real micro-batch, at the random initialisation.
        compute_seconds: per optimiser step.
        decode_seconds: per optimiser step and worker.
        steps: of the whole run.
        encoded: clips of the whole run that are encoded between epochs, for a pool or dictionary.
        hours: of the whole run, the slower of computing and decoding deciding; of clips that are
            only encoded, a third of computing, as their networks have no backward pass.
    """

    parameters: int
    memory: Memory
    batches_mib: float
    peak_mib: float
    loss: float
    compute_seconds: float
    decode_seconds: float
    steps: int
    encoded: int
    hours: float

    @property
    def predicted_mib(self) -> float:
        """The most that stands on the device at any moment of a step."""
        return self.memory.peak / _MIB

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "predicted_mib": self.predicted_mib}

    def __str__(self) -> str:
        return "\n".join(
            [
                f"parameters        {self.parameters:,}",
                f"memory of a step  {self.predicted_mib:.0f} MiB: {self.memory}",
                f"batches in flight {self.batches_mib:.0f} MiB, in main memory",
                f"largest so far    {self.peak_mib:.0f} MiB, with all that the process holds",
                f"a step            {self.compute_seconds:.2f} s to compute, "
                f"{self.decode_seconds:.2f} s to decode",
                f"loss              {self.loss:.3f} on one real micro-batch",
                f"the whole run     {self.steps} steps"
                + (f" and {self.encoded:,} clips encoded between epochs" if self.encoded else "")
                + f", about {self.hours:.2f} hours",
            ]
        )


def estimate(
    config: RunConfig,
    parts: Parts,
    clips: TrainingClips,
    plan: Plan,
    device: torch.device,
    workers: int,
) -> Estimate:
    """Try two micro-batches on ``parts`` (which are changed) and extrapolate."""
    began = time.monotonic()
    real = clips[0]
    decode = (time.monotonic() - began) * config.train.accumulate
    with Held(parts) as held:
        _step(config, parts, _made_up(real), device, held)
    loss, compute = _step(config, parts, real, device)
    encoded = _encoded(parts, plan)
    hours = plan.steps * _together(compute, decode, workers)
    hours += encoded / config.train.batch * _together(compute / 3, decode, workers)
    return Estimate(
        parameters=sum(p.numel() for p in parts.model.parameters()),
        memory=held.memory(clips.source),
        batches_mib=_bytes(real) * max(1, workers * config.data.prefetch) / _MIB,
        peak_mib=_peak_mib(device),
        loss=loss,
        compute_seconds=compute,
        decode_seconds=decode,
        steps=plan.steps,
        encoded=encoded,
        hours=hours / 3600,
    )


def _together(compute: float, decode: float, workers: int) -> float:
    """Seconds of a batch that is decoded by workers while another is computed on."""
    return max(compute, decode / workers) if workers else compute + decode


def _encoded(parts: Parts, plan: Plan) -> int:
    """Clips that only the method sees, in the whole run."""
    needs = parts.method.needs
    return needs.first_clips + needs.clips * (plan.steps // plan.steps_per_epoch)


def _bytes(batch: Batch) -> int:
    return sum(tensor.nbytes for view in batch.views for tensor in view.values())


def _step(
    config: RunConfig, parts: Parts, batch: Batch, device: torch.device, span: Span = unwatched
) -> tuple[float, float]:
    """Loss and seconds of one optimiser step that sees the batch ``accumulate`` times."""

    def again() -> Iterator[Batch]:
        while True:
            yield batch

    parts.model.train()
    began = time.monotonic()
    taken = train_step(config, parts, again(), device, span=span)
    loss = float(taken.metrics["loss"])
    seconds = time.monotonic() - began
    if not bool(taken.finite):
        raise ValueError(
            "the first loss is not finite; lower optimizer.lr, or set train.precision=float32"
        )
    return loss, seconds


def _made_up(batch: Batch) -> Batch:
    """A batch of a real one's shape, made up: shows whether shapes fit and memory suffices."""
    views = tuple({name: _like(x) for name, x in view.items()} for view in batch.views)
    return replace(batch, views=views, failures=())


def _like(x: Tensor) -> Tensor:
    if not x.is_floating_point():
        return torch.full_like(x, 127)
    return torch.linspace(-1, 1, x.shape[1], device=x.device).expand_as(x)


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak / (_MIB if sys.platform == "darwin" else 1024)
