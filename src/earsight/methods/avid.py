"""Audio-visual instance discrimination (avid-cma §3): Self-, Cross- and Joint-AVID."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from earsight.config import METHODS, section
from earsight.corpus.batch import Batch
from earsight.encoders.pair import MODALITIES
from earsight.methods.bank import (
    DIRECTIONS,
    BankConfig,
    about_bank,
    bank_scores,
    follow,
    log_kz,
    make_bank,
    observe,
    score_metrics,
    take_partition,
    with_whole_bank,
)
from earsight.methods.base import Inherited, Method, Needs, Spaces, Step
from earsight.objectives.nce import nce
from earsight.selection.negatives import uniform_negatives


@section
class AvidConfig(BankConfig):
    """AVID; the weights choose the variant (avid-cma eqs. 3–5).

    Cross-AVID is the default; Self-AVID has weight 1 for ``video_to_video`` and
    ``audio_to_audio`` alone; Joint-AVID has weight 1 for all four.

    Attributes:
        video_to_audio: weight of video queries against audio targets.
        audio_to_video: weight of audio queries against video targets.
        video_to_video: weight of video queries against video targets.
        audio_to_audio: weight of audio queries against audio targets.
    """

    name: str = "avid"
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
        yield from BankConfig.faults(self)
        negative = [name for name in DIRECTIONS if getattr(self, name) < 0]
        yield from (f"{name}: must be 0 or more" for name in negative)
        if not negative and not self.weights():
            yield "video_to_audio: at least one direction needs a weight above 0"


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
        self.directions = {name: DIRECTIONS[name] for name in self.weights}
        used = {modality for both in self.directions.values() for modality in both}
        self.modalities = tuple(name for name in MODALITIES if name in used)
        self.bank = make_bank(settings, size, dim, seed, self.modalities)
        self.register_buffer("partition", torch.tensor(settings.partition_value or 0.0))

    @property
    def needs(self) -> Needs:
        """One view, no labels, and the memory of a run that is started from."""
        return Needs(memory=True)

    @property
    def spaces(self) -> Spaces:
        """Both directions across modalities where they were compared in training, else none."""
        crossing = any(query != target for query, target in self.directions.values())
        return frozenset({("video", "audio"), ("audio", "video")}) if crossing else frozenset()

    def describe(self) -> str:
        """Negatives per query; they come from the bank, whatever the batch and the ranks."""
        return (
            f"{self.settings.negatives} negatives per query, drawn from {len(self.bank) - 1} rows"
            f"{about_bank(self.settings, self.bank)}"
        )

    def whole_state(self) -> dict[str, Tensor]:
        """The state with the whole bank, on rank 0."""
        return with_whole_bank(self, self.bank)

    def inherit(self, before: Inherited) -> str:
        """Go on with the bank and Z̄ of another run, if it has such a bank and clips of this one."""
        if not before.heads:
            return f"memory of {before.run} is left: its embeddings are of other heads (head.)"
        taken = self.bank.take(before.state, before.rows, prefix="bank.")
        if taken:
            take_partition(self.partition, self.settings, before)
        return before.described(taken) if taken else ""

    def loss(self, model: nn.Module, batch: Batch) -> Step:
        """The weighted sum over directions of NCE, averaged over the batch (eqs. 2–5).

        Metrics: ``loss_<direction>`` without its weight; ``positive_score``, ``negative_score``
        (inner products over the temperature), ``accuracy`` (share of queries whose positive beats
        all negatives), each averaged over the directions; ``partition`` (Z̄ in use) and
        ``partition_of_batch``.
        """
        embeddings = self.embed(model, {name: batch.views[0][name] for name in self.modalities})
        by_direction = bank_scores(
            embeddings,
            self.bank,
            self._rows(batch),
            self.directions,
            self.settings.temperature,
        )
        positives = {name: s[:, :1] for name, s in by_direction.items()}
        negatives = {name: s[:, 1:] for name, s in by_direction.items()}
        observed = observe(self.partition, negatives)
        c = log_kz(self.settings, self.partition)
        losses = {name: nce(positives[name], negatives[name], c).mean() for name in negatives}
        total = torch.stack([weight * losses[name] for name, weight in self.weights.items()]).sum()
        metrics = {f"loss_{name}": value.detach() for name, value in losses.items()}
        metrics |= score_metrics(positives, negatives)
        metrics |= {"partition": self.partition.clone(), "partition_of_batch": observed}
        updates = {"row": batch.row, "partition": observed[None]}
        updates |= {name: x.detach() for name, x in embeddings.items()}
        return Step(loss=total, metrics=metrics, updates=updates)

    @torch.no_grad()
    def commit(self, updates: Mapping[str, Tensor]) -> None:
        """Move the targets of the batch's rows and, in mode ``ema``, the partition."""
        self.bank.update(updates["row"], {name: updates[name] for name in self.modalities})
        follow(self.partition, updates["partition"], self.settings)

    def _rows(self, batch: Batch) -> Tensor:
        """``(B, 1 + K)``: the own row, then the negatives."""
        count, size = self.settings.negatives, len(self.bank)
        negatives = uniform_negatives(self.seed, batch.index, batch.row, count, size)
        return torch.cat((batch.row[:, None], negatives), dim=1)


@METHODS.register("avid", AvidConfig)
def build_avid(settings: AvidConfig, *, size: int, dim: int, seed: int) -> Avid:
    """The method that ``settings`` describe."""
    return Avid(settings, size=size, dim=dim, seed=seed)
