"""Contrast with a dictionary of keys by momentum encoders: SMoCo, XMoCo, CM-ACC (cm-acc §3)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from earsight.config import METHODS
from earsight.corpus.batch import Batch, View
from earsight.encoders.momentum import Caught, follow, key_pair, last_linear
from earsight.encoders.pair import MODALITIES, OTHER, Pair
from earsight.methods.base import (
    Method,
    Needs,
    Show,
    Spaces,
    Step,
    nothing_shown,
    over_ranks,
    rank,
    unit,
)
from earsight.methods.choice import RULES, Choice, Queries, Rule
from earsight.methods.momentum import MomentumConfig, PoolConfig, PosteriorConfig
from earsight.objectives.info_nce import info_nce, log_posterior
from earsight.random import integers_on_device
from earsight.selection.dictionary import Dictionary


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A global batch as the dictionaries see it: every rank has the same."""

    index: Tensor
    rows: Tensor
    keys: Mapping[str, Tensor]
    queries: Mapping[str, Queries]

    @property
    def finite(self) -> bool:
        """Whether all keys and queries are numbers."""
        every = [*self.keys.values(), *(one.outputs for one in self.queries.values())]
        # One wait for the device.
        return bool(torch.stack([torch.isfinite(x).all() for x in every]).all())


class MomentumContrast(Method):
    """Queries are told from a dictionary of keys, which encoders that follow slowly have made.

    State: the key encoders, ``video_dictionary`` and ``audio_dictionary`` (of the keys that queries
    of the other modality, in SMoCo of the same, are compared with; each entry keeps the keys of
    both modalities), and for the methods that choose what enters them, the ``pool``.

    Args:
        settings: see :class:`MomentumConfig`.
        size: ``N``, rows of the training split.
        dim: ``D``, size of the embeddings.
        seed: of the draws.
    """

    def __init__(self, settings: MomentumConfig, *, size: int, dim: int, seed: int) -> None:
        super().__init__()
        self.settings = settings
        self.rows = size
        self.seed = seed
        self.within = settings.name == "smoco"
        self.rule = RULES.get(settings.name)
        self.key_encoders: Pair | None = None
        # A tuple hides it from torch, or its weights would be part of the state of this too.
        self._query: tuple[Pair, ...] = ()
        self.dictionaries = nn.ModuleDict(
            {name: Dictionary(settings.size, dim) for name in MODALITIES}
        )
        self.pool: Dictionary | None = None
        if isinstance(settings, PoolConfig):
            self.pool = Dictionary(settings.candidates, dim)

    @property
    def keys(self) -> Pair | None:
        """The momentum encoders."""
        return self.key_encoders

    def attach(self, model: Pair) -> None:
        """Key encoders begin as copies of the query encoders."""
        self._query = (model,)
        self.key_encoders = key_pair(model, crosswise=not self.within)

    @property
    def needs(self) -> Needs:
        """One view (SMoCo: two); clips for the first dictionaries, and for the pool."""
        fresh = isinstance(self.settings, PoolConfig) and self.settings.pool_source == "clips"
        return Needs(
            views=2 if self.within else 1,
            first_clips=self.settings.size,
            clips=len(self.pool) if self.pool is not None and fresh else 0,
        )

    @property
    def spaces(self) -> Spaces:
        """Queries of one modality with keys of the other; none across modalities for SMoCo."""
        if self.within:
            return frozenset()
        return frozenset({("video", "audio_key"), ("audio", "video_key")})

    def describe(self) -> str:
        """What a query is compared with, and what enters it."""
        settings = self.settings
        keys = f"{settings.size} keys per query, momentum {settings.momentum:.6g}"
        if not isinstance(settings, PoolConfig):
            return f"{keys}; those of a batch replace the oldest"
        return f"{keys}; of a pool of {settings.candidates}, {settings.name} chooses what enters"

    def embed(self, model: nn.Module, view: View) -> dict[str, Tensor]:
        """Embeddings of the query encoders, and for XMoCo ``video_key`` and ``audio_key``."""
        embeddings = super().embed(model, view)
        if self.within or self.key_encoders is None:
            return embeddings
        training = self.key_encoders.training
        keys = super().embed(self.key_encoders.eval(), view)
        self.key_encoders.train(training)
        return embeddings | {f"{name}_key": x for name, x in keys.items()}

    @torch.no_grad()
    def begin_epoch(
        self, epoch: int, source: Iterable[Batch] | None, show: Show = nothing_shown
    ) -> str:
        """Fill the dictionaries, once, and the pool."""
        needs = self.needs
        left, done = needs.first_clips if epoch == 0 else 0, 0
        of = needs.clips + left
        for batch in source or ():
            rows, keys = over_ranks(batch.row), self._keys(batch, over_ranks(batch.index))
            first = min(left, len(rows))
            left -= first
            for name in MODALITIES:
                own = {n: x[:first] for n, x in keys.items()}
                self._dictionary(name).enqueue(rows[:first], own)
            if self.pool is not None:
                self.pool.enqueue(rows[first:], {n: x[first:] for n, x in keys.items()})
            done = min(of, done + len(rows))
            show(done, of, "encoding clips")
        return ""

    def loss(self, model: nn.Module, batch: Batch) -> Step:
        """The sum over both directions of InfoNCE (eqs. 6–7), averaged over the batch.

        The dictionaries are updated first. Metrics: ``loss_<query>_to_<key>``; ``positive_score``
        and ``negative_score`` (inner products over the temperature) and ``accuracy`` (share of
        queries whose own key beats all negatives) averaged over the directions; ``candidates``,
        those that the choice had.
        """
        queries, seen = self._forward(model, batch)
        metrics = self._update(seen)
        own = slice(rank()[0] * len(batch), (rank()[0] + 1) * len(batch))
        mine = {name: x[own] for name, x in seen.keys.items()}
        losses, every = {}, []
        for query in MODALITIES:
            key = query if self.within else OTHER[query]
            # Half precision ends with the encoders: own key and negatives are scored alike.
            with torch.autocast(batch.row.device.type, enabled=False):
                loss, scores = self._direction(queries[query], key, mine, batch.row)
            losses[f"loss_{query}_to_{key}"] = loss
            every.append(scores)
        metrics |= {name: loss.detach() for name, loss in losses.items()}
        metrics |= {n: torch.stack([scores[n] for scores in every]).mean() for n in every[0]}
        return Step(loss=torch.stack(list(losses.values())).sum(), metrics=metrics, updates={})

    @torch.no_grad()
    def commit(self, updates: Mapping[str, Tensor]) -> None:
        """The key encoders follow."""
        assert self.key_encoders is not None
        assert self.settings.momentum is not None
        follow(self.key_encoders, self._query[0], self.settings.momentum, crosswise=not self.within)

    def _dictionary(self, name: str) -> Dictionary:
        dictionary = self.dictionaries[name]
        assert isinstance(dictionary, Dictionary)
        return dictionary

    def _forward(self, model: nn.Module, batch: Batch) -> tuple[dict[str, Tensor], Seen]:
        """This rank's queries, with their gradient, and what all ranks have seen."""
        view, query = batch.views[0], self._query[0]
        index = over_ranks(batch.index)
        with (
            Caught(last_linear(query.video_head)) as video,
            Caught(last_linear(query.audio_head)) as audio,
        ):
            embedded = dict(zip(MODALITIES, model(view["video"], view["audio"]), strict=True))
        inputs = {"video": video.inputs[0], "audio": audio.inputs[0]}
        seen = Seen(
            index=index,
            rows=over_ranks(batch.row),
            keys=self._keys(batch, index),
            queries={
                name: Queries(
                    over_ranks(embedded[name].detach().float()), over_ranks(inputs[name].float())
                )
                for name in (MODALITIES if self.rule else ())
            },
        )
        return embedded, seen

    @torch.no_grad()
    def _keys(self, batch: Batch, index: Tensor) -> dict[str, Tensor]:
        """Keys ``(ranks·B, D)`` of all ranks' clips, of ``index``, as the key encoders give them.

        With several ranks, each encodes clips of all of them, mixed anew every time: batch norm
        then cannot tell a query's own key by its neighbours (shuffled batch norm).
        """
        assert self.key_encoders is not None
        view = batch.views[1 if len(batch.views) > 1 else 0]
        own, ranks = rank()
        if ranks == 1:
            keys = self.key_encoders(view["video"], view["audio"])
            return {name: x.float() for name, x in zip(MODALITIES, keys, strict=True)}
        lots = integers_on_device(self.seed, "shuffle", index, 1, 2**31 - 1)
        order = lots[:, 0].argsort(stable=True)
        part = order[own * len(batch) : (own + 1) * len(batch)]
        mixed = {name: over_ranks(view[name])[part] for name in MODALITIES}
        keys = self.key_encoders(mixed["video"], mixed["audio"])
        back = order.argsort()
        return {n: over_ranks(x.float())[back] for n, x in zip(MODALITIES, keys, strict=True)}

    @torch.no_grad()
    def _update(self, seen: Seen) -> dict[str, Tensor]:
        """Put into each dictionary what the method says; how many candidates there were."""
        if self.rule is None or self.pool is None:
            for name in MODALITIES:
                self._dictionary(name).enqueue(seen.rows, seen.keys)
            return {}
        if not seen.finite:
            # Nor is the loss: the loop makes no update, names these clips and ends the run.
            return {"candidates": torch.zeros((), device=seen.rows.device)}
        counts = []
        for name in MODALITIES:
            dictionary = self._dictionary(name)
            taken = torch.isin(self.pool.rows, torch.cat([dictionary.rows, seen.rows]))
            usable = (self.pool.rows >= 0) & ~taken
            counts.append(usable.sum())
            choice = Choice(
                settings=self.settings,
                candidates=self.pool.keys(name),
                usable=usable,
                queries=seen.queries[OTHER[name]],
                seed=self.seed,
                index=int(seen.index[0]),
                name=name,
            )
            chosen = self.rule(choice)
            keys = {modality: self.pool.keys(modality)[chosen] for modality in MODALITIES}
            dictionary.enqueue(self.pool.rows[chosen], keys)
        if isinstance(self.settings, PoolConfig) and self.settings.pool_source == "recent":
            self.pool.enqueue(seen.rows, seen.keys)
        return {"candidates": torch.stack(counts).float().mean()}

    def _direction(
        self, queries: Tensor, key: str, own: Mapping[str, Tensor], rows: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss of queries ``(B, D)`` against the dictionary of ``key``, and its metrics."""
        dictionary = self._dictionary(key)
        normalise = unit if self.settings.normalise else torch.Tensor.float
        q, k, others = (normalise(x) for x in (queries, own[key], dictionary.keys(key)))
        temperature = self.settings.temperature
        positive, scores = (q * k).sum(dim=1) / temperature, q @ others.T / temperature
        known = dictionary.rows >= 0
        negative = known & (dictionary.rows != rows[:, None])
        loss = torch.zeros_like(positive)
        if self.settings.union:
            agreeing = self._agreeing(dictionary, own, negative)
            negative = negative & ~agreeing
            if self.settings.union_positives:
                share = agreeing.float() / agreeing.sum(dim=1, keepdim=True).clamp_min(1)
                among = log_posterior(scores, scores, negative)
                loss = -self.settings.union_weight * (share * among).sum(dim=1)
        loss = loss + info_nce(positive, scores, negative)
        with torch.no_grad():
            hardest = scores.masked_fill(~negative, -torch.inf).amax(dim=1)
            # Queries weigh the same, however many negatives they have: so ranks agree.
            counts = negative.sum(dim=1).clamp_min(1)
            metrics = {
                "positive_score": positive.mean(),
                "negative_score": (scores.where(negative, 0).sum(dim=1) / counts).mean(),
                "accuracy": (positive > hardest).float().mean(),
            }
        return loss.mean(), metrics

    @torch.no_grad()
    def _agreeing(
        self, dictionary: Dictionary, own: Mapping[str, Tensor], negative: Tensor
    ) -> Tensor:
        """``(B, K)`` bool: the entries that agree most with each clip, by both modalities' keys."""
        alike = [unit(own[name]) @ unit(dictionary.keys(name)).T for name in MODALITIES]
        agreement = torch.minimum(*alike).masked_fill(~negative, -torch.inf)
        best = agreement.topk(min(self.settings.agreeing, agreement.shape[1]), dim=1).indices
        return torch.zeros_like(negative).scatter(1, best, True) & negative


@METHODS.register("smoco", MomentumConfig)
@METHODS.register("xmoco", MomentumConfig)
@METHODS.register("random-pool", PoolConfig)
@METHODS.register("ohem", PosteriorConfig)
@METHODS.register("feature", PoolConfig)
@METHODS.register("cm-acc", PosteriorConfig)
def build_momentum_contrast(
    settings: MomentumConfig, *, size: int, dim: int, seed: int
) -> MomentumContrast:
    """The method that ``settings`` describe."""
    return MomentumContrast(settings, size=size, dim=dim, seed=seed)


def register_rule(name: str, settings: type[PoolConfig] = PoolConfig) -> Callable[[Rule], Rule]:
    """Decorator: make a rule of one's own a method, ``method.name``, like ``ohem``.

    Args:
        name: of the method.
        settings: its class of settings: ``PoolConfig``, or ``PosteriorConfig`` for a rule that
            reads ``choice_normalise`` and ``choice_temperature``.

    Raises:
        ValueError: the name is taken, or the class is another. ``earsight evaluate negatives`` asks
            every rule, by these settings; what needs more is a method of its own.
    """
    if settings not in (PoolConfig, PosteriorConfig):
        raise ValueError(
            f"rule {name!r}: its settings are PoolConfig or PosteriorConfig; for settings of your "
            "own, register a method"
        )

    def decorate(rule: Rule) -> Rule:
        known = RULES.get(name)
        again = known is not None and known.__qualname__ == rule.__qualname__
        if name in METHODS.names() and not again:
            raise ValueError(f"a method named {name!r} is registered already")
        METHODS.register(name, settings)(build_momentum_contrast)
        RULES[name] = rule
        return rule

    return decorate
