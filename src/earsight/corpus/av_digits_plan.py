"""Which recording and which picture meet in each clip of av-digits, and on which side of the split.

Neither a recording nor a picture stands on both sides. Recordings are held out by their index, so
that the same ones are, whatever the seed; pictures by a draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.av_digits_source import (
    DIGITS,
    RECORDINGS_URL,
    Recording,
    Recordings,
    handwritten,
)
from earsight.corpus.draws import Draws
from earsight.corpus.render import SPLITS, numbered
from earsight.random import permute

HELD_OUT_SHARE = 0.2
"""Of the recordings of each digit by each speaker, those with the lowest indices; of the pictures
of each digit."""
HUE_SHARE = 0.5
"""Speakers' hues stand evenly around the circle; a clip's ink lies within this share of the
distance between two, centred on its speaker's."""
GAIN = (0.5, 0.95)
"""Range of a clip's gain: the peak of the speech, to which the swelling of the glyph is in
proportion."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Everything that decides a clip, besides draws private to pictures or sound.

    Attributes:
        seed: of the corpus.
        index: of the clip, of which every draw is a function.
        recording: what is said, and by whom.
        image: index of the handwritten digit.
        glyph: ``(8, 8)`` its ink, from 0 to 1.
        hues: range from which the hue of the ink is drawn, in turns.
        gain: see :data:`GAIN`.
    """

    seed: int
    index: int
    recording: Recording
    image: int
    glyph: NDArray[np.float32]
    hues: tuple[float, float]
    gain: float

    def draws(self, purpose: str) -> Draws:
        """This clip's draws for a purpose."""
        return Draws(self.seed, f"av-digits/{purpose}", self.index)


def plan_clips(
    found: Recordings, *, clips: int, held_out: int, seed: int
) -> list[tuple[str, Clip]]:
    """Path below the corpus, and content, of every clip.

    Each block of ten clips holds each digit once; no recording is used twice, and pictures are
    used again only when all of a digit's have been. A clip is the same, however many are made.

    Args:
        found: the recordings.
        clips: how many to train on.
        held_out: how many to test on.
        seed: of everything drawn.

    Raises:
        ValueError: there are too few recordings.
    """
    counts = {"train": clips, "test": held_out}
    spoken = {split: _spoken(found.used, split, seed) for split in SPLITS}
    _require_enough(spoken, counts)
    images, shown = handwritten()
    jobs = []
    for split in SPLITS:
        drawn = [
            _drawn(np.flatnonzero(shown == digit), split, digit, seed) for digit in range(DIGITS)
        ]
        for number, (path, index) in enumerate(numbered(split, counts[split])):
            block, place = divmod(number, DIGITS)
            digit = int(permute(seed, f"av-digits/digit/{split}/{block}", place, DIGITS))
            recording = spoken[split][digit][block]
            image = _take(drawn[digit], block, f"av-digits/image/{split}/{digit}", seed)
            clip = Clip(
                seed=seed,
                index=index,
                recording=recording,
                image=image,
                glyph=images[image],
                hues=_hues(found.speakers, recording.speaker),
                gain=Draws(seed, "av-digits/gain", index).between(*GAIN),
            )
            jobs.append((path, clip))
    return jobs


def _spoken(recordings: Sequence[Recording], split: str, seed: int) -> list[list[Recording]]:
    """A split's recordings of each digit, in the order of use: speakers take turns."""
    turns: list[list[tuple[int, int, Recording]]] = [[] for _ in range(DIGITS)]
    speakers = sorted({recording.speaker for recording in recordings})
    for digit in range(DIGITS):
        for number, speaker in enumerate(speakers):
            own = [r for r in recordings if (r.digit, r.speaker) == (digit, speaker)]
            first = round(HELD_OUT_SHARE * len(own))
            kept = own[first:] if split == "train" else own[:first]
            order = permute(
                seed, f"av-digits/recording/{split}/{digit}/{speaker}", range(len(kept)), len(kept)
            )
            for turn, place in enumerate(order):
                seat = permute(seed, f"av-digits/turn/{digit}/{turn}", number, len(speakers))
                turns[digit].append((turn, int(seat), kept[place]))
    return [[r for *_, r in sorted(turn, key=lambda entry: entry[:2])] for turn in turns]


def _drawn(images: NDArray[np.int64], split: str, digit: int, seed: int) -> NDArray[np.int64]:
    """A split's pictures of one digit."""
    held_out = round(HELD_OUT_SHARE * len(images))
    order = permute(seed, f"av-digits/held-out/{digit}", range(len(images)), len(images))
    return images[order[held_out:] if split == "train" else order[:held_out]]


def _take(items: NDArray[np.int64], number: int, purpose: str, seed: int) -> int:
    """Item ``number`` of endless rounds through all, each in an order of its own."""
    turn, place = divmod(number, len(items))
    return int(items[permute(seed, f"{purpose}/{turn}", place, len(items))])


def _hues(speakers: Sequence[str], speaker: str) -> tuple[float, float]:
    middle, spread = speakers.index(speaker), HUE_SHARE / 2
    return (middle - spread) / len(speakers), (middle + spread) / len(speakers)


def _require_enough(spoken: dict[str, list[list[Recording]]], counts: dict[str, int]) -> None:
    short, most = [], {}
    for split, count in counts.items():
        needed = -(-count // DIGITS)
        has = [len(recordings) for recordings in spoken[split]]
        most[split] = DIGITS * min(has)
        short += [
            f"{split}: digit {digit} has {number} of {needed}"
            for digit, number in enumerate(has)
            if number < needed
        ]
    if short:
        raise ValueError(
            f"too few recordings ({'; '.join(short)}); take all of {RECORDINGS_URL}, or ask for at "
            f"most --clips {most['train']} and --held-out {most['test']}"
        )
