"""av-digits, a corpus of real files: a handwritten digit moves while the same digit is spoken.

Pictures and sound share the digit, the speaker (each has ink of a hue of their own), the moment of
speech (the glyph swells with it) and its loudness. Background, path, size, lean and noise belong
to one of them alone.
"""

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from earsight.corpus.av_digits_pictures import render_pictures
from earsight.corpus.av_digits_plan import Clip, plan_clips
from earsight.corpus.av_digits_sounds import FPS, RATE, loudness, render_sound, render_speech
from earsight.corpus.av_digits_source import RECORDINGS_URL, find_recordings
from earsight.corpus.clip_file import Encoding, write_clip
from earsight.corpus.discover import Skipped
from earsight.corpus.parallel import cores
from earsight.corpus.render import (
    LABELS,
    render_clips,
    require_counts,
    require_new,
    write_labels,
)
from earsight.corpus.scan_report import skipped_lines

CLIPS = 2000
HELD_OUT = 500
README = "README.md"
COLUMNS = ("path", "split", "digit", "speaker", "recording", "image")
ENCODING = Encoding(
    fps=FPS,
    rate=RATE,
    keyframe_every=16,
    preset="slow",
    crf=34,
    audio_bits=16_000,
    audio_coder="twoloop",
    audio_noise=False,
)


@dataclass(frozen=True, kw_only=True)
class AvDigits:
    """What was made.

    Attributes:
        folder: of the corpus.
        labels: its table of labels.
        clips: how many to train on.
        held_out: how many to test on.
        speakers: whose recordings were found.
        recordings: how many were found.
        left_out: files among them that are no such recordings, each with the reason.
        bytes: of all clips.
        seconds: it took.
    """

    folder: str
    labels: str
    clips: int
    held_out: int
    speakers: Sequence[str]
    recordings: int
    left_out: Sequence[Skipped]
    bytes: int
    seconds: float

    @property
    def next_command(self) -> str:
        """What to do with it."""
        manifest = f"{Path(self.folder).name}.parquet"
        words = ("earsight", "scan", self.folder, "--labels", self.labels)
        return shlex.join((*words, "--group-by", "image", "-o", manifest))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        left_out = [skipped._asdict() for skipped in self.left_out]
        return {**asdict(self), "left_out": left_out, "next": self.next_command}

    def __str__(self) -> str:
        left_out = skipped_lines(self.left_out, "files of the recordings' folder were left out")
        made = (
            f"{self.clips} clips to train on and {self.held_out} held out, of {len(self.speakers)} "
            f"speakers, in {self.folder} ({self.bytes / 1e6:.1f} MB, {self.seconds:.0f} s)"
        )
        return "\n".join([*left_out, made, f"next: {self.next_command}"])


def render_av_digits(
    recordings: Path,
    folder: Path,
    *,
    clips: int = CLIPS,
    held_out: int = HELD_OUT,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AvDigits:
    """Render ``folder/{train,test}/NNNN.mp4``, ``folder/README.md`` and ``folder/labels.csv``.

    A clip is a function of the recordings, the seed and its number alone, whatever the number of
    clips and of workers. Labels are ``path, split, digit, speaker, recording, image``; they are
    written last.

    Args:
        recordings: folder of the Free Spoken Digit Dataset, or its folder of recordings.
        folder: where to; made if need be.
        clips: how many to train on.
        held_out: how many to test on.
        seed: of everything drawn.
        workers: processes; 0 or 1 renders in this one (default: one per core).
        progress: called with the numbers of clips finished and wanted, now and then.

    Raises:
        ValueError: the folder holds something already, or there are no or too few recordings.
    """
    began = time.monotonic()
    require_counts(clips, held_out)
    require_new(folder)
    found = find_recordings(recordings)
    jobs = plan_clips(found, clips=clips, held_out=held_out, seed=seed)
    render_clips(
        folder,
        _render,
        jobs,
        workers=cores() if workers is None else workers,
        progress=None if progress is None else lambda done: progress(done, len(jobs)),
    )
    (folder / README).write_text(_readme(seed, clips, held_out), encoding="utf-8")
    write_labels(folder, COLUMNS, (_labels(path, clip) for path, clip in jobs))
    return AvDigits(
        folder=str(folder),
        labels=str(folder / LABELS),
        clips=clips,
        held_out=held_out,
        speakers=found.speakers,
        recordings=len(found.used),
        left_out=found.left_out,
        bytes=sum((folder / path).stat().st_size for path, _ in jobs),
        seconds=time.monotonic() - began,
    )


def _render(path: Path, clip: Clip) -> None:
    speech = render_speech(clip)
    pictures = render_pictures(clip, loudness(speech))
    write_clip(path, pictures, render_sound(clip, speech), ENCODING)


def _labels(path: str, clip: Clip) -> tuple[object, ...]:
    said = clip.recording
    return path, path.partition("/")[0], said.digit, said.speaker, said.path.name, clip.image


def _readme(seed: int, clips: int, held_out: int) -> str:
    return f"""# av-digits

{clips} clips to train on and {held_out} to test on, rendered by `earsight corpus av-digits` with
seed {seed}. In each a handwritten digit moves while the same digit is spoken. `{LABELS}` holds, per
clip, the split, the digit, the speaker, the recording and the index of the picture. No recording
and no picture stands in both splits.

## Sources and licence

- Recordings: the Free Spoken Digit Dataset, by Zohar Jackson and contributors,
  {RECORDINGS_URL}, Creative Commons Attribution-ShareAlike 4.0 International (CC BY-SA 4.0,
  https://creativecommons.org/licenses/by-sa/4.0/).
- Pictures: the test set of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits",
  UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, as scikit-learn ships it.

The recordings were changed: resampled, repeated, and mixed with noise. These clips are derived from
them, and so are under CC BY-SA 4.0 as well: whoever passes them on names the sources above, says
what was changed, and keeps this licence.
"""
