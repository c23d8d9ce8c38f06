"""Learning rates as a function of the step alone, so that nothing of them needs saving."""

import math

from earsight.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, steps: int, steps_per_epoch: int) -> float:
    """The rate of optimiser step ``step`` (from 0) out of ``steps``.

    The warm-up rises linearly and reaches ``lr`` at step ``warmup_steps``; the cosine falls from
    the end of the warm-up to zero after the last step.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / (config.warmup_steps + 1)
    if config.schedule == "multistep":
        passed = sum(step >= epoch * steps_per_epoch for epoch in config.milestones)
        return float(config.lr * config.gamma**passed)
    if config.schedule == "cosine":
        done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
        return config.lr * 0.5 * (1 + math.cos(math.pi * done))
    return config.lr
