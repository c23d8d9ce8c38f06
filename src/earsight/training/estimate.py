"""A dry run: one made-up and one real micro-batch, and what the whole run would take."""

import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from earsight.config import RunConfig
from earsight.corpus.batch import Batch
from earsight.corpus.clips import TrainingClips
from earsight.corpus.loader import batch_bytes
from earsight.training.loop import Parts, train_step
from earsight.training.plan import Plan

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would take.

    Attributes:
        parameters: of encoders and heads.
        parameter_mib: weights, gradients and optimiser state.
        method_mib: the method's state, such as the memory bank.
        batches_mib: batches in flight between workers and training.
        peak_mib: largest memory of this process (on a GPU: allocated there) in one step.
        loss: of the real micro-batch, at the random initialisation.
        compute_seconds: per optimiser step.
        decode_seconds: per optimiser step and worker.
        steps: of the whole run.
        hours: of the whole run, the slower of computing and decoding deciding.
    """

    parameters: int
    parameter_mib: float
    method_mib: float
    batches_mib: float
    peak_mib: float
    loss: float
    compute_seconds: float
    decode_seconds: float
    steps: int
    hours: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(
            [
                f"parameters        {self.parameters:,} ({self.parameter_mib:.0f} MiB with "
                "gradients and optimiser)",
                f"method's state    {self.method_mib:.0f} MiB",
                f"batches in flight {self.batches_mib:.0f} MiB",
                f"peak memory       {self.peak_mib:.0f} MiB",
                f"a step            {self.compute_seconds:.2f} s to compute, "
                f"{self.decode_seconds:.2f} s to decode",
                f"loss              {self.loss:.3f} on one real micro-batch",
                f"the whole run     {self.steps} steps, about {self.hours:.2f} hours",
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
    _step(config, parts, _made_up(real), device)
    loss, compute = _step(config, parts, real, device)
    weights = list(parts.model.parameters())
    parameter_bytes = sum(p.numel() * p.element_size() for p in weights)
    per_step = max(compute, decode / max(1, workers)) if workers else compute + decode
    return Estimate(
        parameters=sum(p.numel() for p in weights),
        # Weights, gradients, and Adam's two moments.
        parameter_mib=4 * parameter_bytes / _MIB,
        method_mib=sum(b.numel() * b.element_size() for b in parts.method.buffers()) / _MIB,
        batches_mib=batch_bytes(clips) * max(1, workers * config.data.prefetch) / _MIB,
        peak_mib=_peak_mib(device),
        loss=loss,
        compute_seconds=compute,
        decode_seconds=decode,
        steps=plan.steps,
        hours=plan.steps * per_step / 3600,
    )


def _step(
    config: RunConfig, parts: Parts, batch: Batch, device: torch.device
) -> tuple[float, float]:
    """Loss and seconds of one optimiser step that sees the batch ``accumulate`` times."""

    def again() -> Iterator[Batch]:
        while True:
            yield batch

    parts.model.train()
    began = time.monotonic()
    metrics, finite, _ = train_step(config, parts, again(), device)
    loss = float(metrics["loss"])
    seconds = time.monotonic() - began
    if not bool(finite):
        raise ValueError(
            "the first loss is not finite; lower optimizer.lr, or set train.precision=float32"
        )
    return loss, seconds


def _made_up(batch: Batch) -> Batch:
    """A batch of a real one's shape, made up: shows whether shapes fit and memory suffices."""
    views = tuple(
        {
            "video": torch.full_like(view["video"], 127),
            "audio": torch.linspace(-1, 1, view["audio"].shape[1]).expand_as(view["audio"]),
        }
        for view in batch.views
    )
    return Batch(
        views=views,
        row=batch.row,
        index=batch.index,
        start=batch.start,
        has_audio=batch.has_audio,
        labels=batch.labels,
    )


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak / (_MIB if sys.platform == "darwin" else 1024)
