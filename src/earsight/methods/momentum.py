"""Settings of the methods with momentum encoders and dictionaries (cm-acc §3)."""

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, Literal, Self

from earsight.config import ConfigError, section

_BATCHES = 4
"""Batches that a small corpus' dictionary holds, and at most a quarter of its rows."""

_POOL_BATCHES = 16
_SHARE_OF_STEPS = 20
_SLOWEST = 0.999


@section
class MomentumConfig:
    """InfoNCE against a dictionary of keys by momentum encoders (cm-acc eqs. 6–7).

    What is None is set by the rule for small corpora, from the batch, the rows and the steps.

    Attributes:
        dictionary: ``K``, keys per modality; by the rule four batches, at most a quarter of the
            rows.
        momentum: ``m``, share of a weight that the key encoders keep in a step; by the rule
            ``1/(1−m)`` is a twentieth of all steps, and ``m`` at most 0.999.
        temperature: inner products are divided by it in the loss.
        normalise: L2-normalise embeddings in the loss.
        union: share of the dictionary that leaves a query's negatives, those that agree most with
            it in both modalities; 0 for none.
        union_positives: they become positives beside the own key.
        union_weight: weight of their mean loss.
    """

    name: str = "xmoco"
    dictionary: int | None = 3840
    momentum: float | None = 0.999
    temperature: float = 0.7
    normalise: bool = True
    union: float = 0.0
    union_positives: bool = False
    union_weight: float = 0.5

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        if self.dictionary is not None and self.dictionary < 1:
            yield "dictionary: must be at least 1, or null for the rule for small corpora"
        if self.momentum is not None and not 0 <= self.momentum < 1:
            yield "momentum: must lie between 0 and 1, below 1, or be null for the rule"
        if self.temperature <= 0:
            yield "temperature: must be above 0"
        if not 0 <= self.union < 1:
            yield "union: must lie between 0 and 1, below 1"
        if self.union_positives and not self.union:
            yield "union_positives: has no effect without union"
        if self.union_weight != 0.5 and not self.union_positives:
            yield "union_weight: has no effect without union_positives"
        if self.union_weight <= 0:
            yield "union_weight: must be above 0"

    def for_corpus(self, *, rows: int, batch: int, steps: int) -> Self:
        """These settings with what the rule for small corpora decides.

        Args:
            rows: of the training split.
            batch: clips of a micro-batch, over all ranks.
            steps: of the whole run.

        Raises:
            ConfigError: the corpus is too small for them.
        """
        ruled: dict[str, Any] = {
            "dictionary": max(1, min(_BATCHES * batch, rows // 4)),
            "momentum": min(_SLOWEST, 1 - _SHARE_OF_STEPS / max(steps, _SHARE_OF_STEPS)),
            "pool": _POOL_BATCHES * batch,
        }
        names = [x.name for x in fields(self) if x.name in ruled]
        given = {name: ruled[name] for name in names if getattr(self, name) is None}
        settings = replace(self, **given)
        faults = list(settings.corpus_faults(rows=rows, batch=batch))
        if faults:
            raise ConfigError(f"method.{fault}" for fault in faults)
        return settings

    def corpus_faults(self, *, rows: int, batch: int) -> Iterator[str]:
        """What does not fit a corpus of so many rows and batches of so many clips."""
        if self.size > rows:
            yield (
                f"dictionary: {self.size} keys are more than the {rows} training instances; set "
                f"it to {max(1, rows // 4)} or lower, or to null, or scan more videos"
            )
        if self.agreeing >= self.size:
            yield (
                f"union: {self.union:g} of {self.size} keys leaves a query no negative; lower it, "
                "or raise dictionary"
            )

    @property
    def size(self) -> int:
        """``K``; of settings that :meth:`for_corpus` has not completed, 1."""
        return self.dictionary or 1

    @property
    def agreeing(self) -> int:
        """Entries that ``union`` takes from a query's negatives."""
        return math.ceil(self.union * self.size)


@section
class PoolConfig(MomentumConfig):
    """A dictionary whose new keys are chosen from a pool of candidates.

    Attributes:
        pool: candidates; by the rule for small corpora sixteen batches.
        pool_source: random ``clips``, encoded at the start of each epoch, or the keys of
            ``recent`` batches, which cost nothing more.
    """

    name: str = "random-pool"
    pool: int | None = 38400
    pool_source: Literal["clips", "recent"] = "clips"

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from MomentumConfig.faults(self)
        if self.pool is not None and self.pool < 1:
            yield "pool: must be at least 1, or null for the rule for small corpora"

    def corpus_faults(self, *, rows: int, batch: int) -> Iterator[str]:
        """What does not fit a corpus of so many rows and batches of so many clips."""
        yield from MomentumConfig.corpus_faults(self, rows=rows, batch=batch)
        if self.size == rows:
            yield (
                f"dictionary: {self.size} keys are all training instances, so that none is left to "
                f"be chosen; set it to {max(1, rows // 4)} or lower, or to null, or scan more "
                "videos"
            )
        if self.candidates < batch:
            yield (
                f"pool: {self.candidates} candidates are fewer than the {batch} clips of a batch "
                "that are chosen from it; raise it, or set it to null"
            )

    @property
    def candidates(self) -> int:
        """Places in the pool; of settings that were not completed, 1."""
        return self.pool or 1


@section
class PosteriorConfig(PoolConfig):
    """Candidates are chosen by what the queries of the other modality say of them (cm-acc eq. 4).

    Attributes:
        choice_normalise: choose by L2-normalised queries and keys.
        choice_temperature: ``T``; their inner products are divided by it.
    """

    name: str = "cm-acc"
    choice_normalise: bool = False
    choice_temperature: float = 1.0

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from PoolConfig.faults(self)
        if self.choice_temperature <= 0:
            yield "choice_temperature: must be above 0"
