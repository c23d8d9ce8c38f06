"""Evaluation of a run: held-out clips, features from one decoding pass, rows for the tables.

The small-study protocol of methods.md §8: pooled backbone features before any head, evenly spaced
clips averaged, standardised, logistic regression; kNN with k = 20.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from earsight import random
from earsight.config import RunConfig
from earsight.corpus.batch import Batch
from earsight.corpus.instances import Instances
from earsight.corpus.loader import EvaluationClips, load
from earsight.evaluation.features import Encoder, Features, extract
from earsight.evaluation.labels import LabelChoice
from earsight.evaluation.rows import Row
from earsight.evaluation.scoring import classification_rows, geometry_rows, retrieval_rows
from earsight.training.setup import Data, clip_settings
from earsight.transforms.inputs import Inputs

_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Everything that evaluations of one run share.

    Attributes:
        config: the run's settings.
        data: both splits of the corpus.
        labels: the columns that classifiers are held against.
        inputs: transforms with the run's statistics.
        device: where features are computed.
        workers: decoding processes.
        progress: told of each decoded batch, ``(batches so far, batches in all)``.
    """

    config: RunConfig
    data: Data
    labels: LabelChoice
    inputs: Inputs
    device: torch.device
    workers: int
    progress: Callable[[int, int], None] | None = None

    def rows(self, tasks: Sequence[str], encoders: Sequence[Encoder]) -> list[Row]:
        """Rows of the tasks for the first encoder, beside the second (a baseline) if given."""
        if not len(self.data.held_out):
            raise ValueError(
                "no instance is held out; raise data.holdout, or name a test split in the labels"
            )
        spaces = encoders[0].method.spaces
        rows: list[Row] = []
        if {"retrieve", "geometry"} & set(tasks):
            gallery = self.gallery_features(encoders)
            before = gallery[1] if len(gallery) > 1 else None
            if "retrieve" in tasks:
                rows += retrieval_rows(gallery[0], spaces, before)
            if "geometry" in tasks:
                rows += geometry_rows(gallery[0], spaces, before)
        classifiers = [task for task in tasks if task in ("knn", "probe")]
        if classifiers and self.labels.train:
            rows += self._classify(classifiers, encoders)
        return rows

    def _classify(self, tasks: Sequence[str], encoders: Sequence[Encoder]) -> list[Row]:
        train, held_out = self.data.train, self.data.held_out
        most = self.config.evaluation.probe_samples
        fitted = self._features(
            train, sample_rows(train, most), encoders, clips=self.config.evaluation.clips
        )
        tested = self._features(
            held_out,
            np.arange(len(held_out), dtype=np.int64),
            encoders,
            clips=self.config.evaluation.clips,
        )
        before = (fitted[1], tested[1]) if len(encoders) > 1 else None
        rows: list[Row] = []
        for task in tasks:
            rows += classification_rows(
                task,
                fitted[0],
                tested[0],
                self.labels,
                groups=train.group,
                seed=self.config.seed,
                baseline=before,
            )
        return rows

    def gallery_features(self, encoders: Sequence[Encoder]) -> list[Features]:
        """Features of the fixed gallery of held-out clips, one centre clip each."""
        rows = sample_rows(self.data.held_out, self.config.evaluation.gallery)
        return self._features(self.data.held_out, rows, encoders, clips=1)

    def _features(
        self,
        instances: Instances,
        rows: NDArray[np.int64],
        encoders: Sequence[Encoder],
        *,
        clips: int,
    ) -> list[Features]:
        dataset = EvaluationClips(
            instances,
            clip_settings(self.config),
            rows=rows,
            batch=_BATCH,
            clips=clips,
            source=self.data.source,
        )
        numbers = range(len(dataset))
        batches = load(dataset, numbers, self.config.data, workers=self.workers)

        def watched() -> Iterator[Batch]:
            for number, batch in enumerate(batches):
                yield batch
                if self.progress is not None:
                    self.progress(number + 1, len(numbers))

        return extract(encoders, self.inputs, watched(), self.device)


def sample_rows(instances: Instances, most: int) -> NDArray[np.int64]:
    """At most ``most`` rows, chosen by their keys alone: the same in every run of a corpus."""
    place = random.uniform(0, "sample", instances.key)
    return np.sort(np.argsort(place, kind="stable")[:most]).astype(np.int64)
