"""The pictures of a clip of av-digits: a glyph moves over a still background, and swells."""

import colorsys

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.av_digits_plan import Clip
from earsight.corpus.av_digits_sounds import FPS, FRAMES
from earsight.corpus.draws import Draws

Float = NDArray[np.float32]

SIZE = 64
"""Side of the picture, in pixels."""
CELLS = (2, 4)
"""Least and most cells of the background, across and down."""
DARK = 108.0
"""Brightest that a cell's red, green or blue is, of 255."""
BOX = (28.0, 37.0)
"""Range of the side of the glyph's box of 8×8 cells while nothing is said, in pixels."""
LEAN = np.radians(15)
"""Largest angle by which a glyph leans, either way."""
SWELL = 0.32
"""By which share the glyph grows at the loudest moment, at a gain of one."""
SPEED = (16.0, 48.0)
"""Range of the speed, in pixels per second; the glyph's box turns back at the picture's edges."""
SATURATION = (0.45, 0.8)
VALUE = (0.85, 1.0)
"""Ranges of the ink's saturation and brightness; its hue is the speaker's."""


def render_pictures(clip: Clip, loudness: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The clip's frames.

    Args:
        clip: which.
        loudness: ``(FRAMES,)`` of the speech, at most one.

    Returns:
        ``(FRAMES, 3, SIZE, SIZE)`` uint8, red, green and blue.
    """
    background = _background(clip.draws("background"))
    draws = clip.draws("glyph")
    box, angle = draws.between(*BOX), draws.between(-LEAN, LEAN)
    scale = box / 8 * (1 + SWELL * clip.gain * loudness)
    cover = glyph_cover(clip.glyph, _path(clip.draws("path"), box), scale, angle)
    ink = _ink(clip, draws)
    frames: Float = background + cover[:, None] * (ink[:, None, None] - background)
    return np.round(np.clip(frames, 0, 255)).astype(np.uint8)


def glyph_cover(
    glyph: Float, centre: NDArray[np.float64], scale: NDArray[np.float64], angle: float
) -> Float:
    """How much of each pixel is ink.

    Args:
        glyph: ``(8, 8)`` ink from 0 to 1.
        centre: ``(T, 2)`` x and y of the glyph's middle, in pixels.
        scale: ``(T,)`` pixels per cell of the glyph.
        angle: by which it is turned, in radians.

    Returns:
        ``(T, SIZE, SIZE)`` from 0 to 1.
    """
    pixel = np.arange(SIZE) + 0.5
    x = (pixel - centre[:, :1])[:, None, :] / scale[:, None, None]
    y = (pixel - centre[:, 1:])[:, :, None] / scale[:, None, None]
    across = cubic(np.cos(angle) * x + np.sin(angle) * y + 3.5, 8)
    down = cubic(np.cos(angle) * y - np.sin(angle) * x + 3.5, 8)
    cover: Float = np.clip(((down @ glyph) * across).sum(-1), 0, 1).astype(np.float32)
    return cover


def cubic(position: NDArray[np.float64], cells: int) -> Float:
    """``(…, cells)`` weights of cubic convolution (Keys, 1981) at positions ``(…,)`` in cells."""
    d = np.abs(position.astype(np.float32)[..., None] - np.arange(cells, dtype=np.float32))
    near = (1.5 * d - 2.5) * d**2 + 1
    far = ((2.5 - 0.5 * d) * d - 4) * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0)).astype(np.float32)


def _background(draws: Draws) -> Float:
    """``(3, SIZE, SIZE)`` colours of a few cells that run into each other."""
    down, across = draws.whole(*CELLS), draws.whole(*CELLS)
    cells = (DARK * draws.unit(3 * down * across)).reshape(3, down, across).astype(np.float32)
    return np.asarray(_enlarge(down) @ cells @ _enlarge(across).T, dtype=np.float32)


def _enlarge(cells: int) -> Float:
    """``(SIZE, cells)`` weights; those of cells beyond the edge go to the others."""
    weights = cubic((np.arange(SIZE) + 0.5) * cells / SIZE - 0.5, cells)
    enlarge: Float = weights / weights.sum(axis=1, keepdims=True)
    return enlarge


def _path(draws: Draws, box: float) -> NDArray[np.float64]:
    """``(FRAMES, 2)`` x and y of the middle: straight lines, reflected at the edges."""
    heading, speed = draws.between(0, 2 * np.pi), draws.between(*SPEED)
    step = speed / FPS * np.array([np.cos(heading), np.sin(heading)])
    room = SIZE - box
    way = draws.unit(2) * 2 * room + np.arange(FRAMES)[:, None] * step
    return np.asarray(box / 2 + np.abs((way % (2 * room)) - room))


def _ink(clip: Clip, draws: Draws) -> Float:
    """``(3,)`` red, green and blue, up to 255."""
    hue = draws.between(*clip.hues) % 1
    colour = colorsys.hsv_to_rgb(hue, draws.between(*SATURATION), draws.between(*VALUE))
    return np.array([255 * part for part in colour], dtype=np.float32)
