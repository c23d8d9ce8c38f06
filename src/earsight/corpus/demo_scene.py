"""What happens in one clip of the demo corpus, decided before anything is drawn or sounded.

A clip shows an object of one shape, made of one material, that moves, is struck and rings. What
pictures and sound share is what the object is and does: its material (look; damping and
brightness), its shape (outline; ratios of the partials), its size (pitch), and when and how hard
it is struck. Background, path, light, tint, noise and stray sounds belong to one of them alone.

The constants below set how hard the corpus is to learn from; they were tuned so that a linear
classifier on the features of an untrained network falls well short of one on trained features.
"""

from dataclasses import dataclass

import numpy as np

from earsight.corpus.draws import Draws
from earsight.random import permute

SHAPES = ("disc", "triangle", "bar", "tube", "chimes", "ladder")
MATERIALS = ("wood", "glass", "steel", "rubber", "stone")

SIZE = 64
"""Side of the picture, in pixels."""
FPS = 16
FRAMES = 32
RATE = 24000
DURATION = FRAMES / FPS
"""Seconds of a clip, pictures and sound alike."""

RADIUS = (19.0, 24.0)
"""Range of the object's radius in pixels: the wider, the less the area says about the shape."""
LEAN = 0.1
"""Largest angle, in radians, by which an object leans from upright, either way."""
SPIN = 0.1
"""Fastest turn of anything, radians per second, either way."""
TINT = 10.0
"""Largest shift of the object's colour per channel, of 255: blurs materials and objects."""
GROOVES = 1.0
"""Depth of the grooves that repeat the outline over the face: the deeper, the plainer the shape."""
HUES = 30.0
"""Spread of the colours of background and silent shapes, of 255: less lets the object stand out."""
CLUTTER = 30.0
"""Contrast of the moving background, of 255."""
DISTRACTORS = (0, 2)
"""Least and most silent shapes that drift behind the object."""
DISTRACTOR_RADIUS = (3.0, 6.0)
"""Range of their radius in pixels."""
DISTRACTOR_COVER = (0.3, 0.7)
"""Range of their opacity."""

PITCH = {
    "disc": 520.0,
    "triangle": 740.0,
    "bar": 620.0,
    "tube": 440.0,
    "chimes": 880.0,
    "ladder": 370.0,
}
"""Fundamental in hertz of a shape of the middle size."""
PITCH_BY_SIZE = 1.0
"""Pitch falls with the radius to this power."""
DETUNE = 0.02
"""Largest relative error of pitch for a given size."""
DAMPING_SPREAD = 1.1
"""A clip's ringing time is its material's, times or over up to this factor."""
TILT_SPREAD = 0.5
"""A clip's spectral tilt is its material's, more or less up to this many decibel per octave."""
NOISE_DB = (-45.0, -28.0)
"""Range of the background noise's level, relative to a full-strength strike."""
STRAY_SOUNDS = (0, 1)
"""Least and most tones that sound without a cause in the picture."""
STRAY_DB = (-30.0, -18.0)
"""Range of their level, relative to a full-strength strike."""

FIRST_STRIKE = (0.15, 0.6)
"""Range of the moment of the first strike, in seconds."""
STRIKE_GAP = (0.3, 0.6)
"""Range of the seconds between strikes."""


@dataclass(frozen=True, kw_only=True)
class Strike:
    """One blow.

    Attributes:
        time: seconds from the start of the clip.
        strength: of the blow, loudness and flash alike, up to 1.
        angle: direction, seen from the object's middle, from which it comes, in radians.
    """

    time: float
    strength: float
    angle: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that decides a clip, besides draws private to pictures or sound.

    Attributes:
        seed: of the corpus.
        index: number of the clip, of which every draw is a function.
        shape: one of :data:`SHAPES`.
        material: one of :data:`MATERIALS`.
        radius: of the object, in pixels.
        pitch: its fundamental, in hertz.
        strikes: one to three blows, in order of time.
        clutter: contrast of the background, of 255.
        distractors: how many silent shapes drift behind the object.
        noise_db: level of the background noise against a full-strength strike.
        stray_sounds: how many tones sound without a cause in the picture.
    """

    seed: int
    index: int
    shape: str
    material: str
    radius: float
    pitch: float
    strikes: tuple[Strike, ...]
    clutter: float
    distractors: int
    noise_db: float
    stray_sounds: int

    def draws(self, purpose: str, count: int = 128) -> Draws:
        """This clip's draws for a purpose."""
        return Draws(self.seed, f"demo/{purpose}", self.index, count)


def plan_scene(seed: int, index: int) -> Scene:
    """Clip ``index`` of the corpus of ``seed``, however many clips are made.

    Each block of 30 consecutive indices holds every pair of shape and material once.
    """
    shape, material = _combination(seed, index)
    draws = Draws(seed, "demo/scene", index)
    radius = draws.between(*RADIUS)
    size = radius * 2 / (RADIUS[0] + RADIUS[1])
    pitch = PITCH[shape] * size**-PITCH_BY_SIZE * (1 + draws.between(-DETUNE, DETUNE))
    return Scene(
        seed=seed,
        index=index,
        shape=shape,
        material=material,
        radius=radius,
        pitch=pitch,
        strikes=_strikes(draws),
        clutter=CLUTTER * draws.between(0.6, 1.0),
        distractors=draws.whole(*DISTRACTORS),
        noise_db=draws.between(*NOISE_DB),
        stray_sounds=draws.whole(*STRAY_SOUNDS),
    )


def _combination(seed: int, index: int) -> tuple[str, str]:
    """Shape and material, balanced over each block of consecutive indices."""
    count = len(SHAPES) * len(MATERIALS)
    block, position = divmod(index, count)
    code = int(permute(seed, f"demo/combination/{block}", position, count))
    return SHAPES[code % len(SHAPES)], MATERIALS[code // len(SHAPES)]


def _strikes(draws: Draws) -> tuple[Strike, ...]:
    time = draws.between(*FIRST_STRIKE)
    strikes = []
    for _ in range(draws.whole(1, 3)):
        strength, angle = draws.between(0.4, 1.0), draws.between(-np.pi, np.pi)
        strikes.append(Strike(time=time, strength=strength, angle=angle))
        time += draws.between(*STRIKE_GAP)
    return tuple(strikes)
