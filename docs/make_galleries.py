"""Write the galleries that docs/results.md shows, and what it says of them.

Two runs learn from clips that are rendered for this: of Cross-AVID, whose memory tells which clips
agree, and of CM-ACC, whose dictionaries are filled by choice. What is shown is what the pages of
their evaluations show.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from earsight import api
from earsight.corpus.demo import render_demo
from earsight.evaluation.results import Evaluation
from earsight.evaluation.shown import ShownClip, ShownExample
from earsight.media.decode import decode
from earsight.media.types import AudioRequest, ClipRequest, Limits, VideoRequest
from earsight.report.examples import read_examples
from earsight.training.devices import cores

FIGURES = Path(__file__).parent / "figures"
FACTS = FIGURES / "galleries.json"
SEED = 1001
CLIPS, HELD_OUT = 600, 100
REFERENCES = 5
"""Of those that an evaluation names, the first so many."""

PICTURE, SOUND, LINE, GAP = (128, 128), (128, 40), 13, 8
CELL = (PICTURE[0] + GAP, PICTURE[1] + SOUND[1] + 3 * LINE + 2 * GAP)
RATE = 16_000
FONT = ImageFont.load_default(11)
LIMITS = Limits(seconds=15.0)

Evaluate = Callable[[Path], Evaluation]
MOMENTUM = ["dictionary=null", "pool=null", "momentum=0.98", "temperature=0.2"]
GALLERIES: dict[str, tuple[str, str, Evaluate, list[str]]] = {
    "agreement": (
        "Clips that agree, and look-alikes that do not",
        "References are evenly spaced among the clips; none was picked. Beside each: clips that "
        "agree with it in both modalities, and those that are alike in one of them and least in "
        "the other. Numbers: cosine similarity to the reference, of the memories of pictures "
        "(*video*) and of sounds (*audio*).",
        api.agreement,
        [],
    ),
    "negatives": (
        "Negatives chosen by their gradients, and random ones",
        "Above, sounds as negatives for pictures; below, pictures as negatives for sounds. Left, "
        "of those that the choice by gradients took in the first draw, the eight with the "
        "longest gradients; right, eight at random. *norm*: length of a negative's gradient, near "
        "0 where no query takes it for its positive.",
        api.negatives,
        ["method.name=cm-acc", "head.fcl=true", *(f"method.{one}" for one in MOMENTUM)],
    ),
}
"""Title, caption, evaluation, and how the settings of its run differ from the demonstration's."""


def make(folder: Path) -> list[dict[str, Any]]:
    """Render, train and evaluate in ``folder``; draw; what there is to say of each gallery."""
    media, corpus = folder / "media", folder / "corpus.parquet"
    render_demo(media, clips=CLIPS, held_out=HELD_OUT, seed=SEED, workers=cores())
    api.scan([str(media)], corpus, labels=media / "labels.csv")
    facts = []
    for name, (title, caption, evaluate, settings) in GALLERIES.items():
        began = time.monotonic()
        common = [f"seed={SEED}", f"data.corpus={corpus}"]
        config = api.configure("demo", settings=[*common, *settings])
        api.pretrain(config, folder / name, quiet=True)
        evaluation = evaluate(folder / name)
        image = FIGURES / f"gallery-{name}.jpg"
        sheet(read_examples(evaluation)[:REFERENCES]).save(image, quality=80, optimize=True)
        facts.append(
            {
                "title": title,
                "image": image.name,
                "caption": caption,
                "settings": settings,
                "seed": SEED,
                "clips": CLIPS,
                "seconds": time.monotonic() - began,
                "machine": evaluation.details["machine"],
            }
        )
    return facts


def sheet(examples: Sequence[ShownExample]) -> Image.Image:
    """A row for each example: its reference, and the clips beside it by title."""
    rows = [cells(example) for example in examples]
    width = max(map(len, rows)) * CELL[0] + GAP
    page = Image.new("RGB", (width, len(rows) * CELL[1] + GAP), "white")
    draw = ImageDraw.Draw(page)
    for down, row in enumerate(rows):
        places = [(GAP + along * CELL[0], GAP + down * CELL[1]) for along in range(len(row))]
        for (left, top), (_, clip) in zip(places, row, strict=True):
            page.paste(cell(clip), (left, top + LINE + 2))
        # Titles may be wider than the clip that they stand above.
        for place, (title, _) in zip(places, row, strict=True):
            draw.text(place, title.removeprefix("rejected: "), fill="#005a9c", font=FONT)
    return page


def cells(example: ShownExample) -> list[tuple[str, ShownClip]]:
    """Clips of a row, each with what is said above it: a title where it begins."""
    row = [] if example.reference is None else [("reference", example.reference)]
    for title, clips in example.groups.items():
        row += [(title if at == 0 else "", clip) for at, clip in enumerate(clips)]
    return row


def cell(clip: ShownClip) -> Image.Image:
    """A picture, its sound, and what is said of both."""
    below = PICTURE[1] + SOUND[1]
    made = Image.new("RGB", (CELL[0], below + 2 * LINE), "white")
    draw = ImageDraw.Draw(made)
    picture, sound = seen_and_heard(clip)
    made.paste(picture, (0, 0))
    made.paste(sound, (0, PICTURE[1]))
    labels = ", ".join(clip.caption.split(", ")[1:])
    figures = " · ".join(f"{name} {value:.2f}" for name, value in clip.of.items())
    draw.text((0, below), labels, fill="black", font=FONT)
    draw.text((0, below + LINE), figures, fill="#555555", font=FONT)
    return made


def seen_and_heard(clip: ShownClip) -> tuple[Image.Image, Image.Image]:
    """The frame in the middle of a clip, and its sound by time and frequency."""
    middle, seconds = (clip.start + clip.end) / 2, clip.end - clip.start
    request = ClipRequest(
        path=clip.path,
        video=(VideoRequest(start=middle, fps=10, frames=1, size=PICTURE[::-1]),),
        audio=(AudioRequest(start=clip.start, duration=seconds, rate=RATE),),
    )
    found = decode(request, LIMITS)
    return Image.fromarray(found.video[0][0]), spectrogram(torch.from_numpy(found.audio[0]))


def spectrogram(sound: torch.Tensor) -> Image.Image:
    """Levels of 60 dB from white to black, low frequencies at the bottom."""
    window = torch.hann_window(512)
    power = torch.stft(sound, 512, 160, window=window, return_complex=True).abs().square()
    level = 10 * (power + 1e-10).log10()
    dark = ((level - level.max()) / 60 + 1).clamp(0, 1)
    return Image.fromarray((255 * (1 - dark)).byte().flip(0).numpy()).resize(SOUND)


if __name__ == "__main__":
    FIGURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        FACTS.write_text(json.dumps(make(Path(place)), indent=1) + "\n", encoding="utf-8")
