"""Which embeddings may be compared, by modality (methods.md §3)."""

from dataclasses import dataclass

from earsight.encoders.pair import MODALITIES
from earsight.methods.base import Spaces

KEY = "_key"
"""What ends the name of an embedding that key encoders made."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """A comparison: names of the query's and of the gallery's embeddings."""

    query: str
    gallery: str


def modality_of(name: str) -> str:
    """The modality of an embedding."""
    return name.removesuffix(KEY)


def space_between(spaces: Spaces, query: str, gallery: str) -> Space:
    """How a query of one modality is compared with a gallery of another, or of the same.

    Across modalities these are the spaces that the method trains. Within one, embeddings by the
    same encoder are compared.

    Args:
        spaces: of the method.
        query: ``video`` or ``audio``.
        gallery: likewise.

    Raises:
        ValueError: there is no such modality, or the method trains no such space.
    """
    for name in (query, gallery):
        if name not in MODALITIES:
            raise ValueError(f"{name!r} is no modality; take {' or '.join(MODALITIES)}")
    if query == gallery:
        return Space(query=query, gallery=gallery)
    for one, other in sorted(spaces):
        if (modality_of(one), modality_of(other)) == (query, gallery):
            return Space(query=one, gallery=other)
    raise ValueError(
        f"{query} cannot be compared with {gallery}: this method trains no space in which they can "
        "be (SMoCo, Self-AVID and supervised runs have none); search within a modality"
    )
