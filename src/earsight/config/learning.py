"""Settings of heads, optimiser and training."""

from collections.abc import Iterator
from typing import Literal

from earsight.config.checks import at_least
from earsight.config.registry import section


@section
class HeadConfig:
    """The projection from encoder features to the embedding.

    Attributes:
        hidden: widths of the hidden layers.
        dim: size of the embedding.
        norm: batch norm after each layer (helps small networks off the plateau at the start).
        fcl: one more linear layer at the end, without bias, which momentum encoders exchange.
    """

    hidden: tuple[int, ...] = (512, 512)
    dim: int = 128
    norm: bool = False
    fcl: bool = False

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from at_least(self, dim=2)
        if any(width < 1 for width in self.hidden):
            yield "hidden: widths must be 1 or more"


@section
class OptimizerConfig:
    """Adam with coupled weight decay, and its schedule.

    Attributes:
        lr: learning rate.
        weight_decay: coupled (added to the gradient).
        schedule: ``constant``, ``multistep`` or ``cosine`` (to zero at the last step).
        warmup_steps: steps over which the rate rises linearly from zero.
        milestones: epochs at which ``multistep`` multiplies the rate by ``gamma``.
        gamma: that factor.
        clip_norm: largest norm of the gradient; 0 for no limit.
    """

    lr: float = 1e-4
    weight_decay: float = 1e-5
    schedule: Literal["constant", "multistep", "cosine"] = "constant"
    warmup_steps: int = 0
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    clip_norm: float = 0.0

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from at_least(self, warmup_steps=0, weight_decay=0, clip_norm=0)
        if self.lr <= 0:
            yield "lr: must be positive"
        if self.gamma <= 0:
            yield "gamma: must be positive"
        if min(self.milestones, default=0) < 0:
            yield "milestones: are epochs, which count from 0"
        if self.milestones and self.schedule != "multistep":
            yield "milestones: have no effect unless schedule is multistep"
        if self.gamma != 0.1 and self.schedule != "multistep":
            yield "gamma: has no effect unless schedule is multistep"
        if self.schedule == "multistep" and not self.milestones:
            yield "milestones: the multistep schedule needs at least one epoch"


@section
class TrainConfig:
    """The loop.

    Attributes:
        batch: clips per optimiser step, over all processes.
        accumulate: micro-batches that a batch is split into.
        epochs: passes over ``epoch_samples`` draws.
        epoch_samples: draws per epoch; 0 for one of every instance.
        precision: ``float32``, ``bfloat16``, or ``auto`` (bfloat16 where the device gains by it).
        compile: what is compiled for training, which needs a C++ compiler, on a GPU Triton too:
            ``none``; ``inputs``, the changes of colour, in seconds; ``encoders``, which takes
            minutes before the first step and has not paid on a processor; or ``all``.
        log_every: steps between reads of the metrics.
        checkpoint_every: steps between checkpoints; 0 for once an epoch.
        keep_last: checkpoints kept besides the named ones.
        keep: epochs whose checkpoints are kept for good.
        rank_timeout: seconds after which a run of several processes gives up one that has not
            arrived where the others wait.
    """

    batch: int = 256
    accumulate: int = 1
    epochs: int = 100
    epoch_samples: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["none", "inputs", "encoders", "all"] = "none"
    log_every: int = 10
    checkpoint_every: int = 0
    keep_last: int = 2
    keep: tuple[int, ...] = ()
    rank_timeout: float = 300.0

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from at_least(
            self,
            batch=1,
            accumulate=1,
            epochs=1,
            epoch_samples=0,
            log_every=1,
            checkpoint_every=0,
            keep_last=1,
        )
        if self.rank_timeout <= 0:
            yield "rank_timeout: must be positive seconds"
        if self.batch % self.accumulate:
            yield f"accumulate: must divide the batch ({self.batch})"
        if any(not 1 <= epoch <= self.epochs for epoch in self.keep):
            yield f"keep: epochs lie between 1 and {self.epochs}"
