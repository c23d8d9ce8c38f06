"""How the objects of the demo look: the outlines of shapes, the surfaces of materials."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.demo_scene import GROOVES, TINT, Scene
from earsight.corpus.draws import Draws
from earsight.random import uniform

Float = NDArray[np.float32]
Face = tuple[Float, Float, Float]
"""Of a surface, each ``(T, P, P)``: factor of its colour, share of white, opacity."""

_COLOURS = {
    "wood": (205.0, 125.0, 35.0),
    "glass": (60.0, 215.0, 200.0),
    "steel": (185.0, 190.0, 215.0),
    "rubber": (220.0, 50.0, 75.0),
    "stone": (95.0, 125.0, 70.0),
}
_SPECKLES = 24


def outline(shape: str, u: Float, v: Float) -> Float:
    """Distance to the outline of a shape of radius one, negative inside (a bound at corners)."""
    return _OUTLINES[shape](u, v)


def _box(u: Float, v: Float, half_width: float, half_height: float) -> Float:
    return np.maximum(np.abs(u) - np.float32(half_width), np.abs(v) - np.float32(half_height))


def _disc(u: Float, v: Float) -> Float:
    return np.hypot(u, v) - np.float32(0.88)


def _triangle(u: Float, v: Float) -> Float:
    """A bent rod, as in an orchestra."""
    solid = np.maximum(np.float32(0.866) * np.abs(u) + np.float32(0.5) * v, -v) - np.float32(0.54)
    outline: Float = np.abs(solid + np.float32(0.14)) - np.float32(0.14)
    return outline


def _bar(u: Float, v: Float) -> Float:
    return _box(u, v, 1.05, 0.36)


def _tube(u: Float, v: Float) -> Float:
    return _box(u, v, 0.36, 1.05)


def _chimes(u: Float, v: Float) -> Float:
    """Three upright rods."""
    nearest = np.minimum(np.abs(u), np.abs(np.abs(u) - np.float32(0.66)))
    return _box(nearest, v, 0.19, 0.9)


def _ladder(u: Float, v: Float) -> Float:
    """Three lying rods."""
    return _chimes(v, u)


_OUTLINES: dict[str, Callable[[Float, Float], Float]] = {
    "disc": _disc,
    "triangle": _triangle,
    "bar": _bar,
    "tube": _tube,
    "chimes": _chimes,
    "ladder": _ladder,
}


def surface(
    scene: Scene, draws: Draws, x: Float, y: Float, u: Float, v: Float, distance: Float
) -> tuple[Float, Float]:
    """Colour and opacity of the object's face.

    Args:
        scene: what the object is.
        draws: of the clip's pictures.
        x: ``(T, P, P)`` place in the picture from the object's middle, in radii, for light.
        y: likewise.
        u: ``(T, P, P)`` place on the object, which turns with it, for texture.
        v: likewise.
        distance: ``(T, P, P)`` from the outline, in radii, negative inside.

    Returns:
        Colour ``(T, 3, P, P)`` up to 255, and opacity ``(T, P, P)``.
    """
    tint = TINT * (2 * draws.unit(3) - 1)
    base = (np.array(_COLOURS[scene.material]) + tint).astype(np.float32)
    light = draws.between(0, 2 * np.pi)
    lit = np.float32(np.cos(light)) * x + np.float32(np.sin(light)) * y
    phase = draws.between(0, 2 * np.pi)
    if scene.material == "wood":
        shade, white, opacity = _wood(lit, u, v, phase)
    elif scene.material == "glass":
        shade, white, opacity = _glass(lit, distance)
    elif scene.material == "steel":
        shade, white, opacity = _steel(lit, u, phase)
    elif scene.material == "rubber":
        shade, white, opacity = _rubber(lit)
    else:
        shade, white, opacity = _stone(scene, lit, u, v)
    # Grooves that follow the outline make the shape plain all over the face.
    shade = shade * (1 - np.float32(GROOVES) * np.cos(np.float32(12) * distance) ** 2)
    return base[:, None, None] * shade[:, None] + np.float32(255) * white[:, None], opacity


def _wood(lit: Float, u: Float, v: Float, phase: float) -> Face:
    """Bands of grain, slightly bent, without gloss."""
    grain = np.sin(np.float32(14) * (v + np.float32(0.12) * np.sin(3 * u + phase)) + phase)
    shade = 1 + np.float32(0.3) * grain + np.float32(0.2) * lit
    return shade, np.zeros_like(lit), np.ones_like(lit)


def _glass(lit: Float, distance: Float) -> Face:
    """Clear in the middle, bright along the rim, with a sharp light."""
    rim = np.exp(np.minimum(distance, 0) / np.float32(0.12))
    spot = np.exp(-((lit - np.float32(0.45)) ** 2) / np.float32(0.012))
    opacity = np.clip(np.float32(0.3) + rim + spot, 0, 1)
    return 1 + np.float32(0.2) * lit, np.float32(0.3) * rim + np.float32(0.6) * spot, opacity


def _steel(lit: Float, u: Float, phase: float) -> Face:
    """Broad bands of reflected light that stay while the object turns, and fine brushing."""
    bands = np.cos(np.float32(4.5) * lit + phase)
    brushed = np.float32(0.06) * np.sin(40 * u)
    white = np.float32(0.4) * np.maximum(bands, 0) ** 6
    return np.float32(0.85) + np.float32(0.35) * bands + brushed, white, np.ones_like(lit)


def _rubber(lit: Float) -> Face:
    """Dull and dark, with a soft sheen."""
    sheen = np.float32(0.08) * np.exp(-((lit - np.float32(0.3)) ** 2) / np.float32(0.2))
    return np.float32(0.95) + np.float32(0.15) * lit, sheen, np.ones_like(lit)


def _stone(scene: Scene, lit: Float, u: Float, v: Float) -> Face:
    """Speckles of light and dark."""
    drawn = uniform(scene.seed, "demo/speckles", scene.index, n=np.arange(_SPECKLES**2))
    grain = drawn.astype(np.float32) - np.float32(0.5)
    scale = np.float32(_SPECKLES / 3)
    row = np.floor(v * scale).astype(np.int64) % _SPECKLES
    column = np.floor(u * scale).astype(np.int64) % _SPECKLES
    shade = 1 + np.float32(0.9) * grain[row * _SPECKLES + column] + np.float32(0.15) * lit
    return shade, np.zeros_like(lit), np.ones_like(lit)
