"""Kinds of numbers in settings, and what may be wrong with them."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

Fraction = float
Range = tuple[float, float]


def no_effect(config: Any, why: str, *names: str) -> Iterator[str]:
    """Every setting of a section, or of those named, that is not at its default."""
    usual = type(config)()
    for name in names or [one.name for one in fields(config)]:
        if getattr(config, name) != getattr(usual, name):
            yield f"{name}: {why}"


def at_least(config: Any, **bounds: float) -> Iterator[str]:
    """A fault for each setting below its bound."""
    for name, bound in bounds.items():
        if getattr(config, name) < bound:
            yield f"{name}: must be at least {bound}"


def within(config: Any, low: float, high: float, *names: str) -> Iterator[str]:
    """A fault for each of the settings outside of a range."""
    for name in names:
        if not low <= getattr(config, name) <= high:
            yield f"{name}: must lie between {low} and {high}"


def ordered(config: Any, *names: str) -> Iterator[str]:
    """A fault for each pair that is not two positive numbers in order."""
    for name in names:
        low, high = getattr(config, name)
        if not 0 < low <= high:
            yield f"{name}: must be two positive numbers, the smaller first"
