"""The whole way once: render a corpus, scan it, learn from it, evaluate, report."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from earsight import api
from earsight.corpus.demo import render_demo
from earsight.corpus.instances import Instances
from earsight.evaluation.features import Features
from earsight.evaluation.retrieval import count_better, nearest
from earsight.evaluation.rows import Row, format_table
from earsight.report.gallery import Gallery, Neighbour, Query, clip_caption
from earsight.report.write import write_report
from earsight.training.devices import cores

TRAIN_CLIPS = 1600
HELD_OUT_CLIPS = 200
SHORT_SETTINGS = ("train.epochs=2", "train.batch=16", "optimizer.warmup_steps=2")
SHORT_CLIPS = (48, 24)

_QUERIES = 8
_NEIGHBOURS = 3


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
    config = api.configure(
        "demo",
        settings=[f"seed={seed}", f"data.corpus={corpus.resolve()}", *short_settings, *settings],
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
        report = run / "report.html"
        write_report(run, report, gallery=make_gallery(run))
    return DemoResult(report=str(report), rows=tuple(rows), seconds=seconds)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note a stage's seconds under its name."""
    began = time.monotonic()
    yield
    seconds[name] = time.monotonic() - began


def make_gallery(run: Path) -> Gallery:
    """Evenly spaced held-out clips, each with its nearest across modalities: none is picked."""
    features, held_out = api.embed_held_out(run)
    size = len(features.row)
    step = max(1, size // _QUERIES)
    places = torch.arange(0, size, step)[:_QUERIES]
    directions = [("video", "audio"), ("audio", "video")]
    queries = [
        query(features, held_out, int(place), *directions[number % 2])
        for number, place in enumerate(places)
    ]
    return Gallery(queries=tuple(queries), size=size)


def query(features: Features, held_out: Instances, place: int, one: str, other: str) -> Query:
    """One clip's nearest in the other modality."""
    asked, gallery = features.embedding[one][place : place + 1], features.embedding[other]
    found, similarity = nearest(asked, gallery, _NEIGHBOURS)
    better, _ = count_better(asked, gallery, torch.tensor([place]))
    neighbours = [
        Neighbour(
            path=Path(held_out.path[int(features.row[at])]),
            caption=clip_caption(held_out, int(features.row[at])),
            similarity=float(score),
            is_true_match=int(at) == place,
            rank=rank,
        )
        for rank, (at, score) in enumerate(zip(found[0], similarity[0], strict=True), 1)
    ]
    row = int(features.row[place])
    return Query(
        path=Path(held_out.path[row]),
        caption=clip_caption(held_out, row),
        direction="video-audio" if one == "video" else "audio-video",
        neighbours=tuple(neighbours),
        true_rank=int(better[0]) + 1,
    )
