"""What enters a dictionary: rules that choose from the pool (cm-acc tables 2 and 3)."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from torch import Tensor

from earsight.methods.base import unit
from earsight.methods.momentum import MomentumConfig, PosteriorConfig
from earsight.selection.controls import choose_hardest, choose_uniformly
from earsight.selection.gradient_embedding import GradientEmbedding, pseudo_posteriors
from earsight.selection.seeding import Vectors, d2_seeding


class Queries(NamedTuple):
    """The queries of a global batch, which candidates of the other modality are classified by.

    Attributes:
        outputs: ``(M, D)`` of the head, not normalised.
        inputs: ``(M, H)`` of its last linear layer (a batch norm after that counts as part of it).
    """

    outputs: Tensor
    inputs: Tensor


class Rule(Protocol):
    """Chooses at most as many candidates as there are queries."""

    def __call__(
        self,
        settings: MomentumConfig,
        candidates: Tensor,
        usable: Tensor,
        queries: Queries,
        *,
        seed: int,
        index: int,
        name: str,
    ) -> Tensor:
        """Positions ``(≤ M,)`` among candidates ``(P, D)`` of which some are ``usable``.

        Args:
            settings: of the method.
            candidates: keys, not normalised.
            usable: ``(P,)`` bool.
            queries: of the other modality.
            seed: the run's seed.
            index: a number of this choice that no other has.
            name: of the dictionary.
        """
        ...


def random_pool(
    settings: MomentumConfig,
    candidates: Tensor,
    usable: Tensor,
    queries: Queries,
    *,
    seed: int,
    index: int,
    name: str,
) -> Tensor:
    """Uniformly (table 3's control)."""
    count = len(queries.outputs)
    return choose_uniformly(usable, count, seed=seed, index=index, purpose=f"pool/{name}")


def ohem(
    settings: MomentumConfig,
    candidates: Tensor,
    usable: Tensor,
    queries: Queries,
    *,
    seed: int,
    index: int,
    name: str,
) -> Tensor:
    """Those of highest pseudo-label loss."""
    assert isinstance(settings, PosteriorConfig)
    normalise = unit if settings.choice_normalise else Tensor.float
    keys, outputs = normalise(candidates), normalise(queries.outputs)
    found = pseudo_posteriors(keys, outputs, temperature=settings.choice_temperature)
    return choose_hardest(found.losses, len(outputs), usable=usable)


def feature(
    settings: MomentumConfig,
    candidates: Tensor,
    usable: Tensor,
    queries: Queries,
    *,
    seed: int,
    index: int,
    name: str,
) -> Tensor:
    """D² seeding over the keys themselves (table 2)."""
    count, points = len(queries.outputs), Vectors.of(candidates)
    return d2_seeding(points, count, seed=seed, index=index, usable=usable, purpose=f"pool/{name}")


def gradient(
    settings: MomentumConfig,
    candidates: Tensor,
    usable: Tensor,
    queries: Queries,
    *,
    seed: int,
    index: int,
    name: str,
) -> Tensor:
    """D² seeding over gradient embeddings (eqs. 4–5)."""
    assert isinstance(settings, PosteriorConfig)
    count, points = len(queries.outputs), gradients(settings, candidates, queries)
    return d2_seeding(points, count, seed=seed, index=index, usable=usable, purpose=f"pool/{name}")


def gradients(settings: PosteriorConfig, candidates: Tensor, queries: Queries) -> GradientEmbedding:
    """Gradient embeddings of candidates ``(P, D)``, in the form that the settings say."""
    normalised = settings.choice_normalise
    return GradientEmbedding.of(
        unit(candidates) if normalised else candidates,
        queries.outputs,
        queries.inputs,
        normalised=normalised,
        temperature=settings.choice_temperature,
    )


RULES: Mapping[str, Rule] = {
    "random-pool": random_pool,
    "ohem": ohem,
    "feature": feature,
    "cm-acc": gradient,
}
