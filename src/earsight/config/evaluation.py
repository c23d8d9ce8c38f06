"""Settings of evaluations."""

from collections.abc import Iterator
from typing import Literal

from earsight.config.checks import at_least
from earsight.config.registry import section


@section
class EvaluationConfig:
    """Evidence while training, on held-out clips.

    Attributes:
        every: epochs between evaluations; 0 for only after the last.
        tasks: what is measured; ``knn`` and ``probe`` need labels, and read the training split;
            ``classify`` is a supervised run's own classifier.
        gallery: held-out clips ranked by retrieval.
        clips: evenly spaced clips per instance whose features are averaged.
        labels: label columns to classify by; empty for all that both splits can be scored by.
        probe_samples: most training instances whose features the probes are fitted on.
        blocks: features that `earsight evaluate probe` classifies, ``pooled`` and blocks by
            number; while training, always the pooled ones alone.
        svm_layer: features of single clips that `earsight evaluate svm` classifies: the last
            activation before pooling, ``flat``, or ``pooled``.
        svm_clips: clips of each training instance that it is fitted on.
        positives: most similar clips that `earsight evaluate agreement` looks at.
        negatives: most training clips that `earsight evaluate negatives` encodes.
    """

    every: int = 0
    tasks: tuple[Literal["retrieve", "geometry", "knn", "probe", "classify"], ...] = (
        "retrieve",
        "geometry",
        "knn",
        "probe",
        "classify",
    )
    gallery: int = 200
    clips: int = 1
    labels: tuple[str, ...] = ()
    probe_samples: int = 2000
    blocks: tuple[Literal["pooled", 1, 2, 3, 4], ...] = ("pooled", 1, 2, 3, 4)
    svm_layer: Literal["flat", "pooled"] = "flat"
    svm_clips: int = 10
    positives: int = 32
    negatives: int = 2000

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from at_least(
            self,
            every=0,
            gallery=2,
            clips=1,
            probe_samples=2,
            svm_clips=1,
            positives=1,
            negatives=24,
        )
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            yield "tasks: name at least one, and each once"
        if not self.blocks or len(set(self.blocks)) < len(self.blocks):
            yield "blocks: name at least one, and each once"
