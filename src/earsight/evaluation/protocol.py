"""Evaluation of a run: held-out clips, features from one decoding pass, rows for the tables.

The small-study protocol of methods.md §8: backbone features before any head, pooled or of single
blocks, evenly spaced clips averaged, standardised, logistic regression; kNN with k = 20.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from earsight import random
from earsight.config import RunConfig
from earsight.corpus.batch import Batch, Failure
from earsight.corpus.clips import EvaluationClips
from earsight.corpus.instances import Instances
from earsight.corpus.loader import load
from earsight.encoders.blocks import has_blocks
from earsight.evaluation.classify import classify
from earsight.evaluation.feature_file import feature_path, read_features, write_features
from earsight.evaluation.features import Encoder, Features, extract
from earsight.evaluation.labels import LabelChoice
from earsight.evaluation.rows import POOLED, Row, make_rows
from earsight.evaluation.scoring import (
    classification_rows,
    geometry_rows,
    pairing_rows,
    retrieval_rows,
)
from earsight.training.setup import Data, clip_settings
from earsight.training.targets import class_codes, target_of
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
        blocks: what the probe classifies, ``pooled`` or numbers of blocks; the cheapest by default,
            for use in training.
        cache: folder in which features are kept; None to keep none.
        tell: told what a reader of the figures should know.
    """

    config: RunConfig
    data: Data
    labels: LabelChoice
    inputs: Inputs
    device: torch.device
    workers: int
    progress: Callable[[int, int], None] | None = None
    blocks: Sequence[str | int] = (POOLED,)
    cache: Path | None = None
    tell: Callable[[str], None] | None = None

    def rows(self, tasks: Sequence[str], encoders: Sequence[Encoder]) -> list[Row]:
        """Rows of the tasks for the first encoder, beside the second (a baseline) if given."""
        if not len(self.data.held_out):
            raise ValueError(
                "no instance is held out; raise data.holdout, or name a test split in the labels"
            )
        spaces = encoders[0].method.spaces
        rows: list[Row] = []
        if {"retrieve", "pairing", "geometry"} & set(tasks):
            gallery = self.gallery_features(encoders)
            before = gallery[1] if len(gallery) > 1 else None
            if "retrieve" in tasks:
                rows += retrieval_rows(gallery[0], spaces, before)
            if "pairing" in tasks:
                rows += pairing_rows(gallery[0], spaces, before)
            if "geometry" in tasks:
                rows += geometry_rows(gallery[0], spaces, before)
        if "classify" in tasks and encoders[0].method.needs.labels:
            rows += self._own_classifier(encoders[0])
        classifiers = [task for task in tasks if task in ("knn", "probe")]
        if classifiers and self.labels.train:
            rows += self._classify(classifiers, encoders)
        return rows

    def _own_classifier(self, encoder: Encoder) -> list[Row]:
        """The classifier that a supervised run has learned, on the held-out clips."""
        target, held_out = target_of(self.config), self.data.held_out
        assert target is not None
        codes = class_codes(held_out, target)
        rows = np.flatnonzero(codes >= 0).astype(np.int64)
        if not len(rows):
            raise ValueError(
                f"no held-out instance has a {target.label} that the classifier knows; evaluate on "
                "a corpus with the labels that it was trained on"
            )
        if len(rows) < len(held_out):
            self._tell(
                f"{len(held_out) - len(rows)} held-out instances left out: without a "
                f"{target.label} that the classifier knows"
            )
        batches = self._batches(held_out, rows, self.config.evaluation.clips)
        classes = torch.from_numpy(codes)
        scores = classify(
            encoder.model, target.modality, self.inputs, batches, classes, self.device
        )
        self._tell_failures(scores.failures)
        return make_rows(scores, task="classify", modality=target.modality, label=target.label)

    def _classify(self, tasks: Sequence[str], encoders: Sequence[Encoder]) -> list[Row]:
        train, held_out = self.data.train, self.data.held_out
        blocks = self._numbered_blocks(encoders[0]) if "probe" in tasks else ()
        sampled = sample_rows(train, self.config.evaluation.probe_samples)
        every = np.arange(len(held_out), dtype=np.int64)
        clips = self.config.evaluation.clips
        fitted = self._features(train, sampled, encoders, clips, blocks)
        tested = self._features(held_out, every, encoders, clips, blocks)
        before = (fitted[1], tested[1]) if len(encoders) > 1 else None
        rows: list[Row] = []
        for task in tasks:
            rows += classification_rows(
                task,
                fitted[0],
                tested[0],
                self.labels,
                blocks=(POOLED,) if task == "knn" else self.blocks,
                groups=train.group,
                seed=self.config.seed,
                device=self.device,
                baseline=before,
            )
        return rows

    def _numbered_blocks(self, encoder: Encoder) -> tuple[int, ...]:
        """The blocks to take activations of; says which encoders have none."""
        wanted = tuple(int(block) for block in self.blocks if block != POOLED)
        encoders = encoder.model.encoders
        without = [name for name, module in encoders.items() if not has_blocks(module)]
        if wanted and without:
            self._tell(
                f"the encoder of {' and '.join(without)} gives out no blocks (it has no "
                "forward_features), so that only its pooled features can be probed"
            )
        if POOLED not in self.blocks and len(without) == len(encoders):
            raise ValueError("evaluation.blocks: these encoders give out no blocks; add pooled")
        return wanted

    def gallery_features(self, encoders: Sequence[Encoder]) -> list[Features]:
        """Features of the fixed gallery of held-out clips, one centre clip each."""
        rows = sample_rows(self.data.held_out, self.config.evaluation.gallery)
        return self._features(self.data.held_out, rows, encoders, 1, ())

    def pooled_features(
        self, rows: NDArray[np.int64], encoders: Sequence[Encoder]
    ) -> list[Features]:
        """Features before any head of training clips, one centre clip each; nothing is kept."""
        batches = self._batches(self.data.train, rows, 1)
        made = extract(encoders, self.inputs, batches, self.device, embed=False)
        self._tell_failures(made[0].failures)
        return made

    def _features(
        self,
        instances: Instances,
        rows: NDArray[np.int64],
        encoders: Sequence[Encoder],
        clips: int,
        blocks: Collection[int],
    ) -> list[Features]:
        """Features by each encoder; those that are not kept are computed in one pass."""
        paths = [self._path(encoder, instances, rows, clips) for encoder in encoders]
        found = [
            None if path is None else read_features(path, encoder, blocks)
            for path, encoder in zip(paths, encoders, strict=True)
        ]
        missing = [at for at, features in enumerate(found) if features is None]
        if len(missing) < len(found):
            self._tell(f"features of {len(rows)} instances read from {self.cache}")
        if missing:
            made = extract(
                [encoders[at] for at in missing],
                self.inputs,
                self._batches(instances, rows, clips),
                self.device,
                blocks,
            )
            self._tell_failures(made[0].failures)
            for at, features in zip(missing, made, strict=True):
                found[at] = features
                path = paths[at]
                # A file that could not be read may come back: such features are not kept.
                if path is not None and not features.failures:
                    write_features(path, features)
        return [features for features in found if features is not None]

    def _path(
        self, encoder: Encoder, instances: Instances, rows: NDArray[np.int64], clips: int
    ) -> Path | None:
        if self.cache is None:
            return None
        return feature_path(
            self.cache, encoder, self.inputs, self.config, instances.take(rows), rows, clips
        )

    def _batches(
        self, instances: Instances, rows: NDArray[np.int64], clips: int
    ) -> Iterator[Batch]:
        dataset = EvaluationClips(
            instances,
            clip_settings(self.config),
            rows=rows,
            batch=_BATCH,
            clips=clips,
            source=self.data.source,
        )
        numbers = range(len(dataset))
        for number, batch in enumerate(
            load(dataset, numbers, self.config.data, workers=self.workers)
        ):
            yield batch
            if self.progress is not None:
                self.progress(number + 1, len(numbers))

    def _tell_failures(self, failures: Sequence[Failure]) -> None:
        if failures:
            first = failures[0]
            self._tell(
                f"{len(failures)} instances could not be read and are left out, the first "
                f"{first.path}: {first.reason}"
            )

    def _tell(self, text: str) -> None:
        if self.tell is not None:
            self.tell(text)


def sample_rows(instances: Instances, most: int) -> NDArray[np.int64]:
    """At most ``most`` rows, chosen by their keys alone: the same in every run of a corpus."""
    place = random.uniform(0, "sample", instances.key)
    return np.sort(np.argsort(place, kind="stable")[:most]).astype(np.int64)
