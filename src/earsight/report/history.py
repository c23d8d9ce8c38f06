"""What a run's log and corpus tell of its training, without a place on this machine."""

import re
from dataclasses import dataclass
from pathlib import Path

from earsight.config import RunConfig
from earsight.corpus.instances import instances
from earsight.corpus.manifest import place_of, read
from earsight.corpus.split import assign, usable
from earsight.training.setup import task_of

_CORPUS = re.compile(
    r"^.{19}  .*: (\d+) instances to train on, (\d+) held out by (.+?)(?:; left out: .*)?$", re.M
)
_VERSIONS = re.compile(r"^.{19}  (earsight \S+.*)$", re.M)
_MACHINE = re.compile(r"^.{19}  (system: .*)$", re.M)


@dataclass(frozen=True, kw_only=True)
class History:
    """What is known of a training; empty or None where nothing is.

    Attributes:
        corpus: its name, without folders.
        clips: instances that were trained on.
        held_out: instances that were not.
        hours: of the clips trained on.
        versions: of the software.
        machine: that it was trained on, without its name.
    """

    corpus: str = ""
    clips: int | None = None
    held_out: int | None = None
    hours: float | None = None
    versions: str = ""
    machine: str = ""


def read_history(run: Path, config: RunConfig) -> History:
    """Read what there is."""
    path = run / "log.txt"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    found = list(_CORPUS.finditer(text))
    versions, machine = _VERSIONS.search(text), _MACHINE.search(text)
    clips = int(found[-1][1]) if found else None
    return History(
        corpus=Path(config.data.corpus).stem,
        clips=clips,
        held_out=int(found[-1][2]) if found else None,
        hours=_hours(config, clips),
        versions=versions[1] if versions else "",
        machine=machine[1] if machine else "",
    )


def _hours(config: RunConfig, clips: int | None) -> float | None:
    """Hours of the training split, where the manifest is there and still has as many clips."""
    path = Path(place_of(config.data.corpus))
    if not clips or not path.is_file():
        return None
    try:
        corpus = read(path)
        chosen = usable(
            corpus,
            audio_missing=config.data.audio_missing,
            keep_duplicates=config.data.keep_duplicates,
            task=task_of(config),
        )
        split = assign(corpus, config.data.holdout, config.seed, chosen.mask, config.data.fold)
        train = instances(corpus, split.train)
    except (ValueError, OSError):
        return None
    if len(train) != clips:
        return None
    return float((train.end - train.start).sum()) / 3600
