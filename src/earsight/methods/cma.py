"""Cross-modal agreement (avid-cma §4): clips alike in both modalities become positives."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

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
from earsight.methods.base import (
    Inherited,
    Method,
    Needs,
    Show,
    Spaces,
    Step,
    nothing_shown,
    over_ranks,
    rank,
)
from earsight.objectives.nce import nce
from earsight.objectives.scores import widened
from earsight.selection.agreement import Agreement, Mined, mine
from earsight.selection.agreement_ring import mine_shared
from earsight.selection.agreement_scores import in_blocks
from earsight.selection.certified import CertifiedIndex
from earsight.selection.negatives import draw_some, negatives_outside

CROSS = ("video_to_audio", "audio_to_video")
WITHIN = ("video_to_video", "audio_to_audio")

_COMPARED = 2**24
"""Pairs of a row's positives that are compared at a time."""


@section
class CmaConfig(BankConfig):
    """CMA: Cross-AVID, and positives found by agreement told from the same negatives (eqs. 6–9).

    It starts from a Cross-AVID run on the same corpus.

    Attributes:
        agreement: two clips agree as much as their pictures (``video``) or their sound (``audio``)
            are alike, the less alike of the two (``min``, eq. 6), or the more alike (``either``).
        positives: ``k``, rows found for each row.
        drawn: how many of them are drawn per step; 0 for all.
        refresh: epochs between two searches; the first precedes the first step.
        weight: ``λ`` of the loss on positives.
        mining_memory: MiB that a search may take beside the bank.
        search: ``exact`` compares all with all; ``certified`` looks into cells of an index until
            nothing better can be left, and compares with all where that takes too long: the same
            positives, sooner where there are many clips and they lie in clusters. With
            ``bank=sharded`` it must be exact.
        search_budget: share of the rows that a certified search may look at for a query.
    """

    name: str = "cma"
    agreement: Agreement = "min"
    positives: int = 32
    drawn: int = 0
    refresh: int = 50
    weight: float = 1.0
    mining_memory: int = 256
    search: Literal["exact", "certified"] = "exact"
    search_budget: float = 0.05

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from BankConfig.faults(self)
        for name in ("positives", "refresh", "mining_memory"):
            if getattr(self, name) < 1:
                yield f"{name}: must be at least 1"
        if not 0 <= self.drawn <= self.positives:
            yield f"drawn: must lie between 0 and positives ({self.positives})"
        if self.search == "certified" and self.agreement != "min":
            yield "search: certified is for agreement=min alone; set exact"
        if self.search == "certified" and self.bank == "sharded":
            yield (
                "search: certified needs the whole bank in each process; set exact, or "
                "bank=replicated"
            )
        if self.search == "exact" and self.search_budget != 0.05:
            yield "search_budget: has no effect unless search is certified"
        if not 0 < self.search_budget <= 1:
            yield "search_budget: must lie between 0 and 1, above 0"
        if self.weight <= 0:
            yield "weight: must be above 0; with 0 this is Cross-AVID (method.name=avid)"


class Cma(Method):
    """Cross-AVID, and within each modality positives found by agreement in both.

    State: the memory bank, ``partition`` (Z̄), ``positives`` ``(N, k)`` int32 rows by descending
    agreement (-1 for rows never visited, which have none) and ``agreement``, their mean. Ranks that
    share the bank share ``positives`` too.

    Args:
        settings: see :class:`CmaConfig`.
        size: ``N``, rows of the training split.
        dim: ``D``, size of the embeddings.
        seed: of the draws and of targets that are new.
    """

    partition: Tensor
    positives: Tensor
    agreement: Tensor

    def __init__(self, settings: CmaConfig, *, size: int, dim: int, seed: int) -> None:
        super().__init__()
        self.settings = settings
        self.seed = seed
        self.bank = make_bank(settings, size, dim, seed)
        self.register_buffer("partition", torch.tensor(settings.partition_value or 0.0))
        kept = len(range(size)[self.bank.owners.own])
        none = torch.full((kept, settings.positives), -1, dtype=torch.int32)
        self.register_buffer("positives", none)
        self.register_buffer("agreement", torch.tensor(0.0))

    @property
    def needs(self) -> Needs:
        """One view, no labels, and the memory of the run that is started from."""
        return Needs(memory=True)

    @property
    def spaces(self) -> Spaces:
        """Both directions across modalities."""
        return frozenset({("video", "audio"), ("audio", "video")})

    def describe(self) -> str:
        """Positives and negatives per query."""
        settings = self.settings
        drawn = f", {settings.drawn} drawn per step" if settings.drawn else ""
        return (
            f"{settings.positives} positives per row by agreement ({settings.agreement}){drawn}, "
            f"{settings.negatives} negatives per query from the rows outside them"
            f"{about_bank(settings, self.bank)}"
        )

    def whole_state(self) -> dict[str, Tensor]:
        """The state with the whole bank and all positives, on rank 0."""
        state = with_whole_bank(self, self.bank)
        positives = self.bank.owners.whole_on_main(state.pop("positives"))
        return state if positives is None else {**state, "positives": positives}

    def check_rows(self) -> None:
        """Rows must be left for positives and a negative."""
        positives, size = self.settings.positives, len(self.bank)
        if positives >= size - 1:
            raise ValueError(
                f"method.positives: {positives} of {size} training instances leave no negative; "
                f"set it to {max(1, size // 10)} or lower, or scan more videos"
            )

    def inherit(self, before: Inherited) -> str:
        """Go on with the bank and Z̄ of a Cross-AVID run.

        Raises:
            ValueError: it has no such bank, or of other clips.
        """
        if not {f"bank.{name}" for name in MODALITIES} <= before.state.keys():
            raise ValueError(
                f"start: {before.run} keeps no memory bank of both modalities; CMA starts from a "
                "Cross-AVID (or CMA) run whose last checkpoint is there"
            )
        if not bool((before.rows >= 0).any()):
            raise ValueError(
                f"start: {before.run} was trained on other clips ({before.gone}, of which none is "
                "in this corpus); CMA starts from a run on the same corpus"
            )
        taken = before.heads and self.bank.take(before.state, before.rows, prefix="bank.")
        if not taken:
            raise ValueError(
                f"start: {before.run} has other heads, so that its memory holds embeddings of "
                "another kind; give this run the settings of that one (head.)"
            )
        take_partition(self.partition, self.settings, before)
        return before.described(taken)

    def begin_epoch(self, epoch: int, source: object = None, show: Show = nothing_shown) -> str:
        """Find positives anew where it is time to.

        Raises:
            ValueError: nothing was visited yet, as the run starts from none, or too little.
        """
        if epoch % self.settings.refresh:
            return ""
        visited = int(self._over_owners(self.bank.visited.sum()[None]))
        if not visited:
            raise ValueError(
                "method.name: cma finds positives in what a Cross-AVID run has learned; start from "
                "one with --from RUN"
            )
        if visited <= self.settings.positives:
            raise ValueError(
                f"method.positives: there cannot be {self.settings.positives} for a clip where "
                f"{visited} were visited; set it to {visited - 1} at most, or start from a run "
                "that has seen more of the corpus"
            )
        before = self.positives.clone()
        about = self._mine(show)
        known = self.positives[:, 0] >= 0
        kept = _kept(self.positives, before)
        rows, same = self._over_owners(torch.stack([known.sum(), kept])).tolist()
        count = self.settings.positives
        again = "" if not epoch else f", {100 * same / max(1, rows * count):.0f} % as before"
        return (
            f"{count} positives found for {rows} of {len(self.bank)} "
            f"rows: mean agreement {float(self.agreement):.3f}{again}{about}"
        )

    def loss(self, model: nn.Module, batch: Batch) -> Step:
        """``L_Cross-AVID + λ·L_wMPD``, both with the same negatives (eqs. 8–9).

        Rows without positives take part in the first alone. Metrics: those of AVID, with the
        positives' losses as ``loss_video_to_video`` and ``loss_audio_to_audio``; scores and
        accuracy are those across modalities; ``agreement`` of the positives when they were found.
        """
        embeddings = self.embed(model, batch.views[0])
        (every_positive,), places = self.bank.owners.fetch([self.positives], batch.row)
        positives = every_positive[places].long()
        drawn = draw_some(
            self.seed, "positives", batch.index, positives, self.settings.drawn or len(positives[0])
        )
        rows = torch.cat((batch.row[:, None], drawn, self._negatives(batch, positives)), dim=1)
        every = bank_scores(
            embeddings, self.bank, rows.clamp(min=0), DIRECTIONS, self.settings.temperature
        )
        first = 1 + drawn.shape[1]
        negatives = {name: s[:, first:] for name, s in every.items()}
        observed = observe(self.partition, negatives)
        c = log_kz(self.settings, self.partition)
        own = {name: every[name][:, :1] for name in CROSS}
        losses = {name: nce(own[name], negatives[name], c) for name in CROSS}
        agreed = (drawn[:, 0] >= 0).float()
        losses |= {n: agreed * nce(every[n][:, 1:first], negatives[n], c) for n in WITHIN}
        mean = {name: loss.mean() for name, loss in losses.items()}
        across, within = (
            torch.stack([mean[name] for name in names]).sum() for names in (CROSS, WITHIN)
        )
        metrics = {f"loss_{name}": value.detach() for name, value in mean.items()}
        metrics |= score_metrics(own, {name: negatives[name] for name in CROSS})
        metrics |= {"partition": self.partition.clone(), "partition_of_batch": observed}
        metrics["agreement"] = self.agreement.clone()
        updates = {"row": batch.row, "partition": observed[None]}
        updates |= {name: x.detach() for name, x in embeddings.items()}
        loss = across + self.settings.weight * within
        return Step(loss=loss, metrics=metrics, updates=updates)

    @torch.no_grad()
    def commit(self, updates: Mapping[str, Tensor]) -> None:
        """Move the targets of the batch's rows and, in mode ``ema``, the partition."""
        self.bank.update(updates["row"], {name: updates[name] for name in MODALITIES})
        follow(self.partition, updates["partition"], self.settings)

    def _negatives(self, batch: Batch, positives: Tensor) -> Tensor:
        """``(B, K)`` rows outside the own one and all its positives, drawn or not."""
        excluded = torch.cat((batch.row[:, None], positives), dim=1)
        count, size = self.settings.negatives, len(self.bank)
        return negatives_outside(self.seed, batch.index, excluded, count, size)

    @torch.no_grad()
    def _mine(self, show: Show) -> str:
        """Find positives of all rows; each rank does its part, and keeps it or gives it to all."""
        size, device = len(self.bank), self.positives.device
        if self.bank.owners.shared:
            found, about = self._shared(show), ""
        elif self.settings.search == "certified":
            found, about = self._certified(self._part())
        else:
            found, about = self._exact(self._part(), show), ""
        rows, agreement = found.rows.to(device).int(), found.agreement.to(device)
        if not self.bank.owners.shared:
            rows, agreement = over_ranks(rows)[:size], over_ranks(agreement)[:size]
        self.positives.copy_(rows)
        # In float64, on the processor: the same mean, however many ranks have added it up.
        counted = agreement[rows >= 0].cpu().double()
        total = torch.stack((counted.sum(), torch.tensor(len(counted)).double()))
        total = self._over_owners(total)
        self.agreement.copy_(total[0] / total[1])
        return about

    def _part(self) -> Tensor:
        """The rows of a whole bank that this rank searches for; behind the last, the last again."""
        number, ranks = rank()
        size, device = len(self.bank), self.positives.device
        share = -(-size // ranks)
        part = torch.arange(number * share, (number + 1) * share, device=device)
        return part.clamp(max=size - 1)

    def _over_owners(self, counts: Tensor) -> Tensor:
        """Sums ``(n,)`` over this rank's rows, added up over the ranks that share them."""
        return over_ranks(counts[None]).sum(dim=0) if self.bank.owners.shared else counts

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        """Of all positives, take those of the rows that are kept here."""
        every = state.get(f"{prefix}positives")
        if every is not None and len(every) == len(self.bank):
            state[f"{prefix}positives"] = every[self.bank.owners.own]
        super()._load_from_state_dict(state, prefix, *rest)

    def _shared(self, show: Show) -> Mined:
        """Positives of this rank's rows, the targets of all ranks passing round."""
        video, audio = (self.bank.targets(name) for name in MODALITIES)
        return mine_shared(
            video,
            audio,
            self.settings.positives,
            owners=self.bank.owners,
            usable=self.bank.visited,
            agreement=self.settings.agreement,
            memory=self.settings.mining_memory * 2**20,
            progress=lambda done, of: show(done, of, "finding positives"),
        )

    def _exact(self, queries: Tensor, show: Show) -> Mined:
        video, audio = self._targets()
        return mine(
            video,
            audio,
            self.settings.positives,
            agreement=self.settings.agreement,
            usable=self.bank.visited,
            queries=queries,
            memory=self.settings.mining_memory * 2**20,
            progress=lambda done, of: show(done, of, "finding positives"),
        )

    def _targets(self) -> tuple[Tensor, Tensor]:
        """All targets of both modalities, in float32."""
        video, audio = (widened(self.bank.targets(name)) for name in MODALITIES)
        return video, audio

    def _certified(self, queries: Tensor) -> tuple[Mined, str]:
        """The same positives by an index, and how much of it that could certify."""
        video, audio = self._targets()
        index = CertifiedIndex(video, audio, usable=self.bank.visited)
        count, budget = self.settings.positives, self.settings.search_budget
        found = index.mine(count, queries=queries, budget=budget)
        about = f"; {100 * found.share:.0f} % certified, the rest compared with all"
        memory = self.settings.mining_memory * 2**20
        return index.finish(found, count, queries=queries, memory=memory), about


def _kept(now: Tensor, before: Tensor) -> Tensor:
    """How many positives ``(N, k)`` were a row's before, a scalar; a negative one is none."""
    block = max(1, _COMPARED // now.shape[1] ** 2)
    counts = [
        ((now[some, :, None] == before[some, None]).any(dim=2) & (now[some] >= 0)).sum()
        for some in in_blocks(len(now), block)
    ]
    return torch.stack(counts).sum()


@METHODS.register("cma", CmaConfig)
def build_cma(settings: CmaConfig, *, size: int, dim: int, seed: int) -> Cma:
    """The method that ``settings`` describe."""
    return Cma(settings, size=size, dim=dim, seed=seed)
