"""The pictures of a demo clip: an object that is struck, over a busy moving background.

Pixels are planar, ``(T, 3, H, W)``; a *patch* is a square part of each of some frames that holds
one thing, so that little more than what is seen is computed.
"""

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.demo_looks import Float, outline, surface
from earsight.corpus.demo_scene import (
    DISTRACTOR_COVER,
    DISTRACTOR_RADIUS,
    DURATION,
    FPS,
    FRAMES,
    HUES,
    LEAN,
    SHAPES,
    SIZE,
    SPIN,
    Scene,
    Strike,
)
from earsight.corpus.draws import Draws
from earsight.random import uniform

Int = NDArray[np.int64]

_TIMES = ((np.arange(FRAMES) + 0.5) / FPS).astype(np.float32)
"""A frame shows the middle of the time for which it stands."""
_WARM = np.array([255, 240, 200], dtype=np.float32)
_HANDLE = np.array([115, 100, 70], dtype=np.float32)
_HEAD = np.array([225, 200, 140], dtype=np.float32)


def render_pictures(scene: Scene) -> NDArray[np.uint8]:
    """The clip's frames.

    Returns:
        ``(FRAMES, 3, SIZE, SIZE)`` uint8, red, green and blue.
    """
    draws = scene.draws("pictures")
    frames = _background(scene, draws)
    for number in range(scene.distractors):
        _distractor(frames, scene.draws(f"distractor/{number}"))
    path = _path(draws, scene.radius)
    for strike in scene.strikes:
        _ripple(frames, path, scene.radius, strike)
    centre = path + _recoil(scene)
    _object(frames, scene, centre, draws)
    for strike in scene.strikes:
        _mallet(frames, centre, scene.radius, strike)
        _flash(frames, centre, scene.radius, strike)
    frames *= np.float32(draws.between(0.75, 1.1))
    return np.clip(frames, 0, 255, out=frames).astype(np.uint8)


def _background(scene: Scene, draws: Draws) -> Float:
    """Noise in space and time, coarse and fine, between colours of the clip's own."""
    middle = (draws.between(40, 110) + HUES * (draws.unit(3) - 0.5)).astype(np.float32)
    frames = np.empty((FRAMES, 3, SIZE, SIZE), dtype=np.float32)
    frames[:] = middle[:, None, None]
    for name, steps, cells, share in (("coarse", 4, 5, 1.0), ("fine", 5, 14, 0.5)):
        drawn = uniform(scene.seed, f"demo/{name}", scene.index, n=np.arange(steps * cells**2))
        grid = drawn.astype(np.float32) - np.float32(0.5)
        moving = (_interpolation(FRAMES, steps) @ grid.reshape(steps, -1)).reshape(-1, cells, cells)
        across = _interpolation(SIZE, cells)
        field = across @ moving @ across.T
        colour = share * scene.clutter * (2 + HUES / 50 * (draws.unit(3) - 0.5))
        frames += field[:, None] * colour.astype(np.float32)[:, None, None]
    return frames


def _interpolation(size: int, cells: int) -> Float:
    """``(size, cells)`` weights of linear interpolation between evenly spaced values."""
    position = np.linspace(0, cells - 1, size)
    distance = np.abs(position[:, None] - np.arange(cells))
    weights: Float = np.maximum(0, 1 - distance).astype(np.float32)
    return weights


def _path(draws: Draws, radius: float) -> Float:
    """``(FRAMES, 2)`` middle of a thing over time, x and y; the thing stays within the picture."""
    reach = SIZE / 2 - radius
    speed, phase = 1.5 + 3.5 * draws.unit(2), 2 * np.pi * draws.unit(2)
    swing = (0.3 + 0.5 * draws.unit(2)) * reach
    offset = (2 * draws.unit(2) - 1) * (reach - swing)
    return (SIZE / 2 + offset + swing * np.sin(speed * _TIMES[:, None] + phase)).astype(np.float32)


def _toward(strike: Strike) -> Float:
    """``(2,)`` unit vector from the object's middle to where it is struck."""
    return np.array([np.cos(strike.angle), np.sin(strike.angle)], dtype=np.float32)


def _near(strike: Strike, before: float, after: float) -> tuple[Int, Float]:
    """Frames around a strike, and the seconds from the strike to each."""
    since = _TIMES - np.float32(strike.time)
    when = np.flatnonzero((since >= -before) & (since < after))
    return when, since[when]


def _recoil(scene: Scene) -> Float:
    """``(FRAMES, 2)`` how far blows throw the object from its path."""
    thrown = np.zeros((FRAMES, 2), dtype=np.float32)
    for strike in scene.strikes:
        when, since = _near(strike, 0, np.inf)
        push = 4 * strike.strength * np.exp(-since / np.float32(0.15))
        thrown[when] -= push[:, None] * _toward(strike)
    return thrown


def _squeeze(scene: Scene, x: Float, y: Float) -> None:
    """Change coordinates ``(T, P, P)`` in place, so that the object wobbles along its blows."""
    for strike in scene.strikes:
        when, since = _near(strike, 0, 0.5)
        wobble = np.exp(-since / np.float32(0.15)) * np.cos(np.float32(25) * since)
        stretch = np.float32(0.3 * strike.strength) * wobble[:, None, None]
        c, s = _toward(strike)
        along = (c * x[when] + s * y[when]) * stretch
        x[when] += c * along
        y[when] += s * along


def _patch(centre: Float, half: int) -> tuple[Int, Float, Float]:
    """Corners ``(T, 2)`` of patches, and each pixel's x and y ``(T, 2·half, 2·half)`` from
    the centre."""
    corner = np.floor(centre).astype(np.int64) - half
    offset = corner[:, :, None] + (np.arange(2 * half) + 0.5) - centre[:, :, None]
    offset = offset.astype(np.float32)
    blank = np.zeros((len(centre), 2 * half, 2 * half), dtype=np.float32)
    return corner, offset[:, 0, None, :] + blank, offset[:, 1, :, None] + blank


def _turn(x: Float, y: Float, angle: Float) -> tuple[Float, Float]:
    """Coordinates in a frame turned by ``angle (T,)``."""
    cos: Float = np.cos(angle)[:, None, None]
    sin: Float = np.sin(angle)[:, None, None]
    return cos * x + sin * y, cos * y - sin * x


def _paste(frames: Float, when: Int, corner: Int, colour: Float, cover: Float) -> None:
    """Lay patches over frames ``when``, cut at the edges of the picture.

    Args:
        frames: ``(FRAMES, 3, SIZE, SIZE)``, changed in place.
        when: ``(T,)`` frames.
        corner: ``(T, 2)`` x and y of each patch's first pixel.
        colour: ``(3,)``, or ``(T, 3, P, P)``.
        cover: ``(T, P, P)`` opacity.
    """
    side = cover.shape[1]
    plain = colour.ndim == 1
    for number, (frame, (x, y)) in enumerate(zip(when.tolist(), corner.tolist(), strict=True)):
        rows = slice(max(0, -y), min(side, SIZE - y))
        columns = slice(max(0, -x), min(side, SIZE - x))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        below = frames[
            frame, :, rows.start + y : rows.stop + y, columns.start + x : columns.stop + x
        ]
        above = colour[:, None, None] if plain else colour[number, :, rows, columns]
        below += cover[number, rows, columns] * (above - below)


def _object(frames: Float, scene: Scene, centre: Float, draws: Draws) -> None:
    """The struck object, with a dark edge."""
    radius = np.float32(scene.radius)
    corner, x, y = _patch(centre, int(np.ceil(scene.radius * 1.3)) + 1)
    x, y = x / radius, y / radius
    angle = draws.between(-LEAN, LEAN) + draws.between(-SPIN, SPIN) * (_TIMES - DURATION / 2)
    _squeeze(scene, x, y)
    u, v = _turn(x, y, angle.astype(np.float32))
    distance = outline(scene.shape, u, v)
    colour, opacity = surface(scene, draws, x, y, u, v, distance)
    edge = np.clip(distance * radius + np.float32(1.2), 0, 1)
    colour *= (1 - np.float32(0.75) * edge)[:, None]
    cover = np.clip(np.float32(0.5) - distance * radius, 0, 1) * np.maximum(opacity, edge)
    _paste(frames, np.arange(FRAMES), corner, colour, cover)


def _distractor(frames: Float, draws: Draws) -> None:
    """A plain shape that drifts and is silent."""
    shape = SHAPES[draws.whole(0, len(SHAPES) - 1)]
    radius = draws.between(*DISTRACTOR_RADIUS)
    corner, x, y = _patch(_path(draws, 0.0), int(np.ceil(radius * 1.05)) + 1)
    angle = draws.between(0, 2 * np.pi) + draws.between(-SPIN, SPIN) * _TIMES
    u, v = _turn(x, y, angle.astype(np.float32))
    distance = outline(shape, u / np.float32(radius), v / np.float32(radius))
    cover = np.clip(np.float32(0.5) - distance * np.float32(radius), 0, 1)
    cover *= np.float32(draws.between(*DISTRACTOR_COVER))
    colour = (draws.between(40, 200) + HUES * (draws.unit(3) - 0.5)).astype(np.float32)
    _paste(frames, np.arange(FRAMES), corner, colour, cover)


def _ripple(frames: Float, path: Float, radius: float, strike: Strike) -> None:
    """A pale wave that leaves the object when it is struck."""
    when, since = _near(strike, 0, 0.25)
    corner, x, y = _patch(path[when], int(radius) + 20)
    front = (np.float32(radius) + 70 * since)[:, None, None]
    fade = (np.float32(strike.strength) * (1 - since / np.float32(0.25)))[:, None, None]
    away = (np.hypot(x, y) - front) * np.float32(0.5)
    _paste(frames, when, corner, _WARM, np.float32(0.7) * fade * np.exp(-away * away))


def _contact(centre: Float, when: Int, radius: float, strike: Strike) -> Float:
    """``(T, 2)`` where the mallet meets the object."""
    return np.asarray(centre[when] + np.float32(0.85 * radius) * _toward(strike))


def _mallet(frames: Float, centre: Float, radius: float, strike: Strike) -> None:
    """It comes fast, hits, and leaves more slowly."""
    when, since = _near(strike, 0.25, 0.3)
    away = np.where(since < 0, -70 * since, 35 * since) + 4
    toward = _toward(strike)
    head = _contact(centre, when, radius, strike) + away[:, None] * toward
    corner, x, y = _patch(head.astype(np.float32), 12)
    along, across = toward[0] * x + toward[1] * y, toward[0] * y - toward[1] * x
    stick = np.float32(1.7) - np.maximum(np.abs(across), -along)
    _paste(frames, when, corner, _HANDLE, np.clip(stick, 0, 1))
    ball = np.hypot(x, y)
    _paste(frames, when, corner, _HEAD * np.float32(0.35), np.clip(np.float32(4.8) - ball, 0, 1))
    _paste(frames, when, corner, _HEAD, np.clip(np.float32(3.8) - ball, 0, 1))


def _flash(frames: Float, centre: Float, radius: float, strike: Strike) -> None:
    """A star of light where the blow lands, gone after a few frames."""
    when, since = _near(strike, 0, 0.3)
    corner, x, y = _patch(_contact(centre, when, radius, strike), 14)
    glow = np.float32(1.6 * strike.strength) * np.exp(-since / np.float32(0.08))
    rays = np.float32(5) + np.float32(2.5) * np.cos(8 * np.arctan2(y, x))
    cover = glow[:, None, None] * np.exp(-np.hypot(x, y) / rays)
    _paste(frames, when, corner, _WARM, np.clip(cover, 0, 1))
