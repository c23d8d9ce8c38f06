"""Evaluation of a run: its held-out clips, and features of any clips from one decoding pass."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
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
from earsight.corpus.split import Task
from earsight.evaluation.categories import Category
from earsight.evaluation.feature_file import feature_path, read_features, write_features
from earsight.evaluation.features import Encoder, Features, Wanted, extract
from earsight.evaluation.fits import Fitted
from earsight.evaluation.labels import LabelChoice
from earsight.evaluation.rows import POOLED
from earsight.training.setup import Data, clip_settings, modalities_of
from earsight.transforms.inputs import Inputs

_BATCH = 32

Ints = NDArray[np.int64]

Shared = dict[tuple[Wanted, int], tuple[Encoder, Features]]
"""Features by what was taken and by the identity of the model, which is kept so long."""


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
        task: which modalities are read and encoded.
        progress: told of each decoded batch, ``(batches so far, batches in all)``.
        blocks: what the probe classifies, ``pooled`` or numbers of blocks; the cheapest by default,
            for use in training.
        cache: folder in which features are kept; None to keep none.
        pool: instances of several folds, whose features are taken together; None for none.
        shared: where evaluators of these folds keep them.
        tell: told what a reader of the figures should know.
        fits: where what is known of fitted classifiers is noted.
        categories: where classifiers add their accuracy of single categories; None for nowhere.
    """

    config: RunConfig
    data: Data
    labels: LabelChoice
    inputs: Inputs
    device: torch.device
    workers: int
    task: Task = "audio-visual"
    progress: Callable[[int, int], None] | None = None
    blocks: Sequence[str | int] = (POOLED,)
    cache: Path | None = None
    pool: Instances | None = None
    shared: Shared = field(default_factory=dict)
    tell: Callable[[str], None] | None = None
    fits: list[Fitted] = field(default_factory=list)
    categories: list[Category] | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that are encoded."""
        return modalities_of(self.task)

    def gallery_features(self, encoders: Sequence[Encoder]) -> list[Features]:
        """Features of the fixed gallery of held-out clips, one centre clip each."""
        rows = sample_rows(self.data.held_out, self.config.evaluation.gallery)
        return self.features(self.data.held_out, rows, encoders, Wanted())

    def pooled_features(self, rows: Ints, encoders: Sequence[Encoder]) -> list[Features]:
        """Features before any head of training clips, one centre clip each; nothing is kept."""
        return self._extract(self.data.train, rows, encoders, Wanted(embed=False))

    def split_features(
        self, encoders: Sequence[Encoder], fitted: Wanted, tested: Wanted
    ) -> list[tuple[Features, Features]]:
        """Per encoder, features of the training split (at most ``probe_samples``) and the other."""
        sampled = sample_rows(self.data.train, self.config.evaluation.probe_samples)
        every = np.arange(len(self.data.held_out), dtype=np.int64)
        train = self.features(self.data.train, sampled, encoders, fitted)
        held_out = self.features(self.data.held_out, every, encoders, tested)
        return list(zip(train, held_out, strict=True))

    def features(
        self, instances: Instances, rows: Ints, encoders: Sequence[Encoder], wanted: Wanted
    ) -> list[Features]:
        """Features by each encoder of the instances at ``rows``, by which they are named.

        Nothing is embedded where one modality is evaluated alone.
        """
        wanted = replace(wanted, embed=wanted.embed and self.task == "audio-visual")
        if self.pool is None:
            return self._read(instances, rows, encoders, wanted)
        return [
            _renamed(features, self.pool.key, instances.key[rows], rows)
            for features in self._pooled(self.pool, encoders, wanted)
        ]

    def _pooled(
        self, pool: Instances, encoders: Sequence[Encoder], wanted: Wanted
    ) -> list[Features]:
        """Features of all of the pool; those of encoders that are not asked for again go."""
        names = [(wanted, id(encoder.model)) for encoder in encoders]
        for name in [one for one in self.shared if one[1] not in {model for _, model in names}]:
            del self.shared[name]
        missing = [at for at, name in enumerate(names) if name not in self.shared]
        if missing:
            every = np.arange(len(pool), dtype=np.int64)
            some = [encoders[at] for at in missing]
            for encoder, features in zip(some, self._read(pool, every, some, wanted), strict=True):
                self.shared[wanted, id(encoder.model)] = (encoder, features)
        return [self.shared[name][1] for name in names]

    def _read(
        self, instances: Instances, rows: Ints, encoders: Sequence[Encoder], wanted: Wanted
    ) -> list[Features]:
        """Features that are kept, and the others computed in one pass."""
        paths = [self._path(encoder, instances, rows, wanted) for encoder in encoders]
        found = [
            None if path is None else read_features(path, encoder, self.modalities, wanted.blocks)
            for path, encoder in zip(paths, encoders, strict=True)
        ]
        missing = [at for at, features in enumerate(found) if features is None]
        if len(missing) < len(found):
            self.tell_of(f"features of {len(rows)} instances read from {self.cache}")
        if missing:
            made = self._extract(instances, rows, [encoders[at] for at in missing], wanted)
            for at, features in zip(missing, made, strict=True):
                found[at] = features
                path = paths[at]
                # A file that could not be read may come back: such features are not kept.
                if path is not None and not features.failures:
                    self._keep(path, features)
        return [features for features in found if features is not None]

    def _keep(self, path: Path, features: Features) -> None:
        try:
            write_features(path, features)
        except OSError as error:
            self.tell_of(f"features are not kept in {path.parent}: {error.strerror or error}")

    def _extract(
        self, instances: Instances, rows: Ints, encoders: Sequence[Encoder], wanted: Wanted
    ) -> list[Features]:
        batches = self.batches(instances, rows, wanted.clips)
        made = extract(encoders, self.inputs, batches, self.device, wanted)
        self.tell_failures(made[0].failures)
        return made

    def _path(
        self, encoder: Encoder, instances: Instances, rows: Ints, wanted: Wanted
    ) -> Path | None:
        if self.cache is None:
            return None
        return feature_path(
            self.cache,
            encoder,
            self.inputs,
            self.config,
            instances.take(rows),
            rows,
            self.modalities,
            wanted,
        )

    def batches(self, instances: Instances, rows: Ints, clips: int) -> Iterator[Batch]:
        """Batches of the instances at ``rows``, one view for each clip."""
        dataset = EvaluationClips(
            instances,
            clip_settings(self.config, self.task),
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

    def tell_failures(self, failures: Sequence[Failure]) -> None:
        """Tell how many instances could not be read."""
        if failures:
            first = failures[0]
            self.tell_of(
                f"{len(failures)} instances could not be read and are left out, the first "
                f"{first.path}: {first.reason}"
            )

    def tell_of(self, text: str) -> None:
        """Tell something that a reader of the figures should know."""
        if self.tell is not None:
            self.tell(text)


def _renamed(
    features: Features, pool: NDArray[np.uint64], keys: NDArray[np.uint64], rows: Ints
) -> Features:
    """Of a pool's features those of the instances ``keys``, named by ``rows``; some may lack."""
    order = np.argsort(keys)
    there = pool[features.row.numpy()]
    place = np.minimum(np.searchsorted(keys[order], there), len(keys) - 1)
    wanted = np.flatnonzero(keys[order][place] == there)
    row = rows[order[place[wanted]]]
    by_row = np.argsort(row, kind="stable")
    return features.take(torch.from_numpy(wanted[by_row]), torch.from_numpy(row[by_row]))


def sample_rows(instances: Instances, most: int) -> Ints:
    """At most ``most`` rows, chosen by their keys alone: the same in every run of a corpus."""
    place = random.uniform(0, "sample", instances.key)
    return np.sort(np.argsort(place, kind="stable")[:most]).astype(np.int64)
