"""What the log of a run is told at its start."""

from collections.abc import Iterator

import torch

from earsight.config import RunConfig
from earsight.training.devices import describe_machine, versions
from earsight.training.distributed import Ranks
from earsight.training.logging import Log
from earsight.training.plan import Plan
from earsight.training.setup import Data
from earsight.training.step import Parts


def describe_run(log: Log, config: RunConfig, data: Data, plan: Plan, device: torch.device) -> None:
    """Software, machine and data, and settings that will change nothing."""
    log.note(", ".join(f"{name} {number}" for name, number in versions().items()))
    log.note(", ".join(f"{name}: {value}" for name, value in describe_machine(device).items()))
    left_out = ", ".join(f"{count} {why}" for why, count in data.left_out.items() if count)
    log.note(
        f"{config.data.corpus or 'tensors'}: {len(data.train)} instances to train on, "
        f"{len(data.held_out)} held out by {data.split}"
        + (f"; left out: {left_out}" if left_out else "")
    )
    for text in _idle_settings(config, data, plan):
        log.note(text)


def _idle_settings(config: RunConfig, data: Data, plan: Plan) -> Iterator[str]:
    late = [epoch for epoch in config.optimizer.milestones if epoch >= config.train.epochs]
    if late:
        yield (
            f"optimizer.milestones: {late} come after the last epoch and change nothing; "
            f"a run of {config.train.epochs} epochs may want others"
        )
    warmup = config.optimizer.warmup_steps
    if warmup >= plan.steps:
        yield (
            f"optimizer.warmup_steps: {plan.steps} steps end before the {warmup} of "
            "warming up, so it never learns at optimizer.lr"
        )
    if config.evaluation.every and len(data.held_out) < 2:
        yield "evaluation.every: no instances are held out, so nothing is evaluated"


def describe_division(log: Log, plan: Plan, parts: Parts, ranks: Ranks) -> None:
    """What batch norm and each query see, which several processes or micro-batches decide."""
    if ranks.size > 1:
        log.note(
            f"{ranks.size} processes: each takes {plan.micro // ranks.size} of the {plan.micro} "
            "clips of a micro-batch, and its batch norm sees these"
        )
    if about := parts.method.describe():
        log.note(about)
