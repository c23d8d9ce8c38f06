"""What enters a dictionary: rules that choose from the pool (cm-acc tables 2 and 3)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from earsight.methods.base import unit
from earsight.methods.momentum import MomentumConfig, PosteriorConfig
from earsight.selection.controls import choose_hardest, choose_uniformly
from earsight.selection.gradient_embedding import GradientEmbedding, pseudo_posteriors
from earsight.selection.seeding import Embedding, Vectors, d2_seeding


class Queries(NamedTuple):
    """The queries of a global batch, which candidates of the other modality are classified by.

    Attributes:
        outputs: ``(M, D)`` of the head, not normalised.
        inputs: ``(M, H)`` of its last linear layer (a batch norm after that counts as part of it).
    """

    outputs: Tensor
    inputs: Tensor


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a rule chooses from: at most as many candidates as there are queries.

    Attributes:
        settings: of the method.
        candidates: ``(P, D)`` keys, not normalised.
        usable: ``(P,)`` bool.
        queries: of the other modality.
        seed: the run's seed.
        index: a number of this choice that no other has.
        name: of the dictionary.
    """

    settings: MomentumConfig
    candidates: Tensor
    usable: Tensor
    queries: Queries
    seed: int
    index: int
    name: str

    @property
    def count(self) -> int:
        """``M``, how many are wanted: of more than a dictionary holds, the first would leave it."""
        batch = len(self.queries.outputs)
        return min(batch, self.settings.dictionary or batch)

    @property
    def purpose(self) -> str:
        """Of the draws."""
        return f"pool/{self.name}"

    @cached_property
    def gradients(self) -> GradientEmbedding:
        """Gradient embeddings of all candidates (eqs. 4–5), in the form that the settings say.

        Raises:
            ValueError: the rule was registered with settings that do not say it.
        """
        if not isinstance(self.settings, PosteriorConfig):
            raise ValueError(
                f"rule {self.settings.name!r} asks for gradients, and its settings do not say of "
                "which vectors; register it with PosteriorConfig"
            )
        normalised = self.settings.choice_normalise
        return GradientEmbedding.of(
            unit(self.candidates) if normalised else self.candidates,
            self.queries.outputs,
            self.queries.inputs,
            normalised=normalised,
            temperature=self.settings.choice_temperature,
        )


Rule = Callable[[Choice], Tensor]
"""Gives positions ``(≤ M,)`` among the candidates."""


def random_pool(choice: Choice) -> Tensor:
    """Uniformly (table 3's control)."""
    return choose_uniformly(
        choice.usable, choice.count, seed=choice.seed, index=choice.index, purpose=choice.purpose
    )


def ohem(choice: Choice) -> Tensor:
    """Those of highest pseudo-label loss."""
    settings = choice.settings
    assert isinstance(settings, PosteriorConfig)
    normalise = unit if settings.choice_normalise else Tensor.float
    keys, outputs = normalise(choice.candidates), normalise(choice.queries.outputs)
    found = pseudo_posteriors(keys, outputs, temperature=settings.choice_temperature)
    return choose_hardest(found.losses, choice.count, usable=choice.usable)


def feature(choice: Choice) -> Tensor:
    """D² seeding over the keys themselves (table 2)."""
    return _seeded(choice, Vectors.of(choice.candidates))


def gradient(choice: Choice) -> Tensor:
    """D² seeding over gradient embeddings (eqs. 4–5)."""
    return _seeded(choice, choice.gradients)


def _seeded(choice: Choice, points: Embedding) -> Tensor:
    return d2_seeding(
        points,
        choice.count,
        seed=choice.seed,
        index=choice.index,
        usable=choice.usable,
        purpose=choice.purpose,
    )


RULES: dict[str, Rule] = {
    "random-pool": random_pool,
    "ohem": ohem,
    "feature": feature,
    "cm-acc": gradient,
}
"""By the names of the methods; :func:`~earsight.methods.cm_acc.register_rule` adds others."""
