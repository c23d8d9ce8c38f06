"""Evaluation of a run under way, as its training loop asks for it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from earsight.config import RunConfig
from earsight.evaluation.features import Encoder
from earsight.evaluation.fits import unfinished
from earsight.evaluation.load import make_evaluator
from earsight.evaluation.rows import as_metrics
from earsight.evaluation.tasks import evaluate_tasks
from earsight.training.logging import Log
from earsight.training.setup import Data
from earsight.training.step import Parts


def online(
    config: RunConfig, data: Data, parts: Parts, log: Log
) -> Callable[[int], Mapping[str, float]]:
    """What evaluates a run under way, and tells its log."""
    evaluator = make_evaluator(config, data, parts.inputs, tell=log.note)
    if evaluator.labels.left_out and {"knn", "probe"} & set(config.evaluation.tasks):
        log.note(str(evaluator.labels))

    def evaluate_epoch(epoch: int) -> Mapping[str, float]:
        began = time.monotonic()
        encoder = Encoder(model=parts.model, method=parts.method)
        own = replace(evaluator, fits=[])
        figures = as_metrics(evaluate_tasks(own, config.evaluation.tasks, [encoder]))
        for note in unfinished(own.fits):
            log.note(note)
        log.note(f"epoch {epoch}: {summary(figures)} ({time.monotonic() - began:.0f} s)")
        return figures

    return evaluate_epoch


def summary(figures: Mapping[str, float]) -> str:
    """The figures that tell most, in one line."""
    shown = [
        f"{name.removeprefix('retrieval/')} {100 * value:.1f} %"
        for name, value in figures.items()
        if "chance" not in name and name.rsplit("/", 1)[-1] in ("R@1", "accuracy", "Sample@1")
    ]
    return ", ".join(shown) or "no figures"
