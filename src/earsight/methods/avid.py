"""Audio-visual instance discrimination (avid-cma §3): Self-, Cross- and Joint-AVID."""

import math
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from earsight.config import METHODS, section
from earsight.corpus.batch import Batch
from earsight.methods.base import Method, Needs, Spaces, Step, mean_over_ranks
from earsight.objectives.nce import nce, partition
from earsight.objectives.scores import scores
from earsight.selection.memory_bank import MemoryBank
from earsight.selection.negatives import uniform_negatives

DIRECTIONS = {
    "video_to_audio": ("video", "audio"),
    "audio_to_video": ("audio", "video"),
    "video_to_video": ("video", "video"),
    "audio_to_audio": ("audio", "audio"),
}
"""Setting to (modality of the query, modality of the target)."""

_MODALITIES = ("video", "audio")
_LOWEST_TEMPERATURE = 0.02


@section
class AvidConfig:
    """AVID; the weights choose the variant (avid-cma eqs. 3–5).

    Cross-AVID is the default; Self-AVID has weight 1 for ``video_to_video`` and
    ``audio_to_audio`` alone; Joint-AVID has weight 1 for all four.

    Attributes:
        negatives: rows drawn per sample.
        temperature: inner products are divided by it.
        momentum: share of a target that an update keeps.
        partition: the normaliser is that of the ``first`` step, a moving average (``ema``), or
            ``fixed``.
        partition_value: the fixed one.
        partition_rate: share of the moving average that a step keeps.
        video_to_audio: weight of video queries against audio targets.
        audio_to_video: weight of audio queries against video targets.
        video_to_video: weight of video queries against video targets.
        audio_to_audio: weight of audio queries against audio targets.
    """

    name: str = "avid"
    negatives: int = 1024
    temperature: float = 0.07
    momentum: float = 0.5
    partition: Literal["first", "ema", "fixed"] = "first"
    partition_value: float | None = None
    partition_rate: float = 0.99
    video_to_audio: float = 1.0
    audio_to_video: float = 1.0
    video_to_video: float = 0.0
    audio_to_audio: float = 0.0

    def weights(self) -> dict[str, float]:
        """The weight of each direction that counts."""
        every = {name: float(getattr(self, name)) for name in DIRECTIONS}
        return {name: weight for name, weight in every.items() if weight > 0}

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        if self.negatives < 1:
            yield "negatives: must be at least 1"
        if self.temperature < _LOWEST_TEMPERATURE:
            yield (
                f"temperature: must be at least {_LOWEST_TEMPERATURE}, "
                "or exponentials of scores overflow"
            )
        if not 0 <= self.momentum < 1:
            yield "momentum: must lie between 0 and 1, below 1"
        yield from self._partition_faults()
        negative = [name for name in DIRECTIONS if getattr(self, name) < 0]
        yield from (f"{name}: must be 0 or more" for name in negative)
        if not negative and not self.weights():
            yield "video_to_audio: at least one direction needs a weight above 0"

    def _partition_faults(self) -> Iterator[str]:
        if self.partition == "fixed" and self.partition_value is None:
            yield "partition_value: a fixed partition needs its value, such as 2.2"
        if self.partition != "fixed" and self.partition_value is not None:
            yield "partition_value: has no effect unless partition is fixed"
        if self.partition_value is not None and self.partition_value <= 0:
            yield "partition_value: must be positive"
        if self.partition != "ema" and self.partition_rate != 0.99:
            yield "partition_rate: has no effect unless partition is ema"
        if not 0 <= self.partition_rate < 1:
            yield "partition_rate: must lie between 0 and 1, below 1"


class Avid(Method):
    """Each embedding is told from noise by the stored target of its own row.

    State: the memory bank, and ``partition`` (Z̄, one for all directions; 0 until the first step
    sets it from its negative scores, before its loss).

    Args:
        settings: see :class:`AvidConfig`.
        size: ``N``, rows of the training split.
        dim: ``D``, size of the embeddings.
        seed: of the negatives and of the first targets.

    Raises:
        ValueError: there are fewer than two rows.
    """

    partition: Tensor

    def __init__(self, settings: AvidConfig, *, size: int, dim: int, seed: int) -> None:
        super().__init__()
        if size < 2:
            raise ValueError(
                f"AVID tells instances apart and needs at least 2 to train on, and there are {size}"
            )
        self.settings = settings
        self.seed = seed
        self.weights = settings.weights()
        used = {modality for name in self.weights for modality in DIRECTIONS[name]}
        self.modalities = tuple(name for name in _MODALITIES if name in used)
        self.bank = MemoryBank(
            size, dim, seed=seed, momentum=settings.momentum, modalities=self.modalities
        )
        self.register_buffer("partition", torch.tensor(settings.partition_value or 0.0))

    @property
    def needs(self) -> Needs:
        """One view, no labels."""
        return Needs()

    @property
    def spaces(self) -> Spaces:
        """Both directions across modalities where they were compared in training, else none."""
        crossing = any(len(set(DIRECTIONS[name])) == 2 for name in self.weights)
        return frozenset({("video", "audio"), ("audio", "video")}) if crossing else frozenset()

    def describe(self) -> str:
        """Negatives per query; they come from the bank, whatever the batch and the ranks."""
        return (
            f"{self.settings.negatives} negatives per query, drawn from {len(self.bank) - 1} rows"
        )

    def loss(self, model: nn.Module, batch: Batch) -> Step:
        """The weighted sum over directions of NCE, averaged over the batch (eqs. 2–5).

        Metrics: ``loss_<direction>`` without its weight; ``positive_score``, ``negative_score``
        (inner products over the temperature), ``accuracy`` (share of queries whose positive beats
        all negatives), each averaged over the directions; ``partition`` (Z̄ in use) and
        ``partition_of_batch``.
        """
        embeddings = self._embeddings(model, batch)
        by_direction = self._scores(embeddings, batch)
        positives = {name: s[:, :1] for name, s in by_direction.items()}
        negatives = {name: s[:, 1:] for name, s in by_direction.items()}
        observed = self._observe(negatives)
        log_kz = math.log(self.settings.negatives) + self.partition.log()
        losses = {name: nce(positives[name], negatives[name], log_kz).mean() for name in negatives}
        total = torch.stack([weight * losses[name] for name, weight in self.weights.items()]).sum()
        metrics = {f"loss_{name}": value.detach() for name, value in losses.items()}
        metrics |= _score_metrics(positives, negatives)
        metrics |= {"partition": self.partition.clone(), "partition_of_batch": observed}
        updates = {"row": batch.row, "partition": observed[None]}
        updates |= {name: x.detach() for name, x in embeddings.items()}
        return Step(loss=total, metrics=metrics, updates=updates)

    @torch.no_grad()
    def commit(self, updates: Mapping[str, Tensor]) -> None:
        """Move the targets of the batch's rows and, in mode ``ema``, the partition."""
        self.bank.update(updates["row"], {name: updates[name] for name in self.modalities})
        if self.settings.partition != "ema":
            return
        observed, rate = updates["partition"].mean(), self.settings.partition_rate
        moved = rate * self.partition + (1 - rate) * observed
        self.partition.copy_(torch.where(observed.isfinite(), moved, self.partition))

    def _embeddings(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Unit embeddings of the modalities that some direction uses."""
        view = {name: batch.views[0][name] for name in self.modalities}
        return self.embed(model, view)

    def _scores(self, embeddings: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Per direction ``(B, 1 + K)``: the positive first, then the negatives.

        A sample's negatives are the same rows in every direction, and directions that look at the
        same targets share their fetching.
        """
        count, size = self.settings.negatives, len(self.bank)
        negatives = uniform_negatives(self.seed, batch.index, batch.row, count, size)
        rows = torch.cat((batch.row[:, None], negatives), dim=1)
        result: dict[str, Tensor] = {}
        for target in self.modalities:
            names = [name for name in self.weights if DIRECTIONS[name][1] == target]
            if not names:
                continue
            queries = torch.stack([embeddings[DIRECTIONS[name][0]] for name in names], dim=1)
            found = scores(queries, self.bank.targets(target), rows, self.settings.temperature)
            result |= dict(zip(names, found.unbind(dim=1), strict=True))
        return {name: result[name] for name in self.weights}

    @torch.no_grad()
    def _observe(self, negatives: Mapping[str, Tensor]) -> Tensor:
        """The partition of this batch, over all directions and ranks; it sets Z̄ if none is set."""
        own = torch.stack([partition(s) for s in negatives.values()]).mean()
        observed = mean_over_ranks(own)
        self.partition.copy_(torch.where(self.partition > 0, self.partition, observed))
        return observed


@torch.no_grad()
def _score_metrics(
    positives: Mapping[str, Tensor], negatives: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    positive = torch.cat([s[:, 0] for s in positives.values()])
    hardest = torch.cat([s.amax(dim=1) for s in negatives.values()])
    return {
        "positive_score": positive.mean(),
        "negative_score": torch.stack([s.mean() for s in negatives.values()]).mean(),
        "accuracy": (positive > hardest).float().mean(),
    }


@METHODS.register("avid", AvidConfig)
def build_avid(settings: AvidConfig, *, size: int, dim: int, seed: int) -> Avid:
    """The method that ``settings`` describe."""
    return Avid(settings, size=size, dim=dim, seed=seed)
