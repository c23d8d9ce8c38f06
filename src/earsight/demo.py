"""The whole way once: render a corpus, scan it, learn from it, evaluate, report."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from earsight import api
from earsight.corpus.demo import render_demo
from earsight.evaluation.rows import Row, format_table
from earsight.training.devices import cores

TRAIN_CLIPS = 1600
HELD_OUT_CLIPS = 200
SHORT_SETTINGS = ("train.epochs=2", "train.batch=16", "optimizer.warmup_steps=2")
SHORT_CLIPS = (48, 24)


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What a demonstration brought.

    Attributes:
        report: the page to open.
        rows: retrieval and probes, beside the random initialisation and chance.
        seconds: per stage.
    """

    report: str
    rows: tuple[Row, ...]
    seconds: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        rows = [row.as_dict() for row in self.rows]
        return {"report": self.report, "rows": rows, "seconds": self.seconds}

    def __str__(self) -> str:
        stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items())
        total = sum(self.seconds.values())
        return (
            f"{format_table(self.rows)}\n\n{stages}; {total:.0f} s in all\n"
            f"open {self.report} in a browser"
        )


def demo(
    folder: Path,
    *,
    seed: int = 0,
    short: bool = False,
    settings: Sequence[str] = (),
    quiet: bool = False,
    say: Callable[[str], None] = print,
) -> DemoResult:
    """Render, scan, pretrain, evaluate, report.

    Args:
        folder: what to make; holds ``corpus/``, ``corpus.parquet`` and ``run/`` afterwards.
        seed: of the corpus and of the training.
        short: a few clips and steps, which teach nothing.
        settings: settings to change, ``section.name=value``.
        quiet: say nothing.
        say: told of each stage.

    Raises:
        ValueError: the folder holds something already, or a setting cannot be used.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} exists already; choose another with -o, or delete it")
    seconds: dict[str, float] = {}
    tell = (lambda _: None) if quiet else say
    corpus, run = folder / "corpus.parquet", folder / "run"
    short_settings = SHORT_SETTINGS if short else ()
    place = json.dumps(str(corpus.resolve()))
    config = api.configure(
        "demo", settings=[f"seed={seed}", f"data.corpus={place}", *short_settings, *settings]
    )
    train, held_out = SHORT_CLIPS if short else (TRAIN_CLIPS, HELD_OUT_CLIPS)
    with timed(seconds, "render"):
        tell(f"rendering {train + held_out} clips of struck objects into {folder / 'corpus'}")
        media = folder / "corpus"
        render_demo(media, clips=train, held_out=held_out, seed=seed, workers=cores())
    with timed(seconds, "scan"):
        tell("scanning them")
        api.scan([str(media)], corpus, labels=media / "labels.csv")
    with timed(seconds, "pretrain"):
        tell("learning which sound belongs to which picture")
        api.pretrain(config, run, quiet=quiet)
    with timed(seconds, "evaluate"):
        tell("evaluating, beside the random initialisation")
        rows = [row for task in ("retrieve", "probe") for row in api.evaluate(run, task).rows]
    with timed(seconds, "report"):
        report = api.report([run])
    return DemoResult(report=report.path, rows=tuple(rows), seconds=seconds)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note a stage's seconds under its name."""
    began = time.monotonic()
    yield
    seconds[name] = time.monotonic() - began
