"""What methods that compare with a memory bank share: settings, scores, the partition."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from earsight.config import section
from earsight.encoders.pair import MODALITIES
from earsight.methods.base import Inherited, mean_over_ranks, rank
from earsight.objectives.nce import partition as partition_of
from earsight.objectives.scores import best_way, scores
from earsight.selection.memory_bank import MemoryBank

DIRECTIONS = {
    "video_to_audio": ("video", "audio"),
    "audio_to_video": ("audio", "video"),
    "video_to_video": ("video", "video"),
    "audio_to_audio": ("audio", "audio"),
}
"""Name to (modality of the query, modality of the target)."""

_LOWEST_TEMPERATURE = 0.02

_HIGHEST_MOMENTUM = {"float32": 1.0, "float16": 0.999, "bfloat16": 0.99}
"""Above it, rounding swallows updates: at 0.999 targets in bfloat16 stay near where they began."""


@section
class BankConfig:
    """Noise-contrastive estimation against a memory bank (avid-cma §3).

    Attributes:
        negatives: rows drawn per sample.
        temperature: inner products are divided by it.
        momentum: share of a target that an update keeps.
        partition: the normaliser is that of the ``first`` step, a moving average (``ema``), or
            ``fixed``.
        partition_value: the fixed one.
        partition_rate: share of the moving average that a step keeps.
        bank: with several processes, each keeps all targets (``replicated``), or those of its part
            of the rows alone (``sharded``); they learn the same, bit for bit.
        storage: type of number in which targets are stored. What is computed with them is not
            rounded to it.
    """

    negatives: int = 1024
    temperature: float = 0.07
    momentum: float = 0.5
    partition: Literal["first", "ema", "fixed"] = "first"
    partition_value: float | None = None
    partition_rate: float = 0.99
    bank: Literal["replicated", "sharded"] = "replicated"
    storage: Literal["float32", "float16", "bfloat16"] = "float32"

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
        elif self.momentum > (most := _HIGHEST_MOMENTUM[self.storage]):
            yield (
                f"storage: {self.storage} rounds away what momentum={self.momentum} moves; take a "
                f"momentum up to {most}, or more digits"
            )
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


def make_bank(
    settings: BankConfig, size: int, dim: int, seed: int, modalities: Sequence[str] = MODALITIES
) -> MemoryBank:
    """The bank that ``settings`` describe, or this rank's part of it."""
    number, ranks = rank() if settings.bank == "sharded" else (0, 1)
    return MemoryBank(
        size,
        dim,
        seed=seed,
        momentum=settings.momentum,
        modalities=modalities,
        dtype=getattr(torch, settings.storage),
        rank=number,
        ranks=ranks,
    )


def about_bank(settings: BankConfig, bank: MemoryBank) -> str:
    """How targets are kept, where that is not the usual way: words to end a sentence with."""
    stored = "" if settings.storage == "float32" else f"; targets are kept in {settings.storage}"
    if settings.bank == "replicated":
        return stored
    if not bank.owners.shared:
        return f"{stored}; method.bank=sharded changes nothing in a single process"
    rows, ranks = bank.owners.block, bank.owners.ranks
    return f"{stored}; {ranks} processes share the bank, each keeps up to {rows} rows"


def take_partition(partition: Tensor, settings: BankConfig, before: Inherited) -> None:
    """Go on with another run's Z̄, in place, unless it is of scores by another temperature."""
    if settings.partition != "fixed" and before.temperature == settings.temperature:
        partition.copy_(before.state["partition"])


def with_whole_bank(method: nn.Module, bank: MemoryBank) -> dict[str, Tensor]:
    """The state of a method with all targets of its ``bank`` on rank 0, and none elsewhere."""
    own = {n: x for n, x in method.state_dict().items() if not n.startswith("bank.")}
    return own | {f"bank.{name}": x for name, x in bank.whole_state().items()}


def bank_scores(
    embeddings: Mapping[str, Tensor],
    bank: MemoryBank,
    rows: Tensor,
    directions: Mapping[str, tuple[str, str]],
    temperature: float,
) -> dict[str, Tensor]:
    """Scores of each direction's queries with the sample's rows of its targets.

    A sample's rows are the same in every direction, and directions that look at the same targets
    share their fetching.

    Args:
        embeddings: modality to unit embeddings ``(B, D)``.
        bank: the targets.
        rows: ``(B, K)`` int64.
        directions: name to (modality of the query, modality of the target).
        temperature: ``τ``.

    Returns:
        ``(B, K)`` per direction, in the order of ``directions``.
    """
    wanted = [name for name in MODALITIES if name in {of for _, of in directions.values()}]
    how = best_way(bank.targets(wanted[0]), len(bank), rows.shape[1])
    targets, places = bank.fetch(wanted, rows, whole=how == "dense")
    found: dict[str, Tensor] = {}
    for target in wanted:
        names = [name for name, (_, of) in directions.items() if of == target]
        queries = torch.stack([embeddings[directions[name][0]] for name in names], dim=1)
        every = scores(queries, targets[target], places, temperature, how)
        found |= dict(zip(names, every.unbind(dim=1), strict=True))
    return {name: found[name] for name in directions}


@torch.no_grad()
def observe(partition: Tensor, negatives: Mapping[str, Tensor]) -> Tensor:
    """The partition of this rank's batch, over all directions; Z̄ becomes that of all ranks' if
    none is set (0).
    """
    observed = torch.stack([partition_of(s) for s in negatives.values()]).mean()
    # Elsewhere than on the CPU, a look at Z̄ would cost more than an exchange that is not needed.
    if partition.device.type != "cpu" or not bool(partition > 0):
        first = mean_over_ranks(observed)
        partition.copy_(torch.where(partition > 0, partition, first))
    return observed


@torch.no_grad()
def follow(partition: Tensor, observed: Tensor, settings: BankConfig) -> None:
    """Move Z̄ towards what a step has ``observed``, in mode ``ema`` alone."""
    if settings.partition != "ema":
        return
    rate = settings.partition_rate
    moved = rate * partition + (1 - rate) * observed.mean()
    partition.copy_(torch.where(moved.isfinite(), moved, partition))


def log_kz(settings: BankConfig, partition: Tensor) -> Tensor:
    """``c = log(K·Z̄)``."""
    return math.log(settings.negatives) + partition.log()


@torch.no_grad()
def score_metrics(
    positives: Mapping[str, Tensor], negatives: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Averages over directions.

    ``positive_score``, ``negative_score``, and ``accuracy``: the share of queries whose first
    positive beats all negatives.
    """
    positive = torch.cat([s[:, 0] for s in positives.values()])
    hardest = torch.cat([s.amax(dim=1) for s in negatives.values()])
    return {
        "positive_score": positive.mean(),
        "negative_score": torch.stack([s.mean() for s in negatives.values()]).mean(),
        "accuracy": (positive > hardest).float().mean(),
    }
