"""One full-size step of every preset, and every protocol of an evaluation, with batches of two.

    python tests/try_full_size.py [NAME …]

Takes minutes and some gigabytes, so it is no part of the tests.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from conftest import draw_characters
from earsight import api, presets
from earsight.config import parse
from earsight.corpus.demo import render_demo
from earsight.presets import protocols

STEP = ["train.batch=2", "train.epochs=1", "train.epoch_samples=2", "train.keep=[]"]
STEP += ["evaluation.every=0", "evaluation.tasks=[geometry]", "evaluation.gallery=2"]
STEP += ["data.workers=0", "data.cache=none", "evaluation.clips=1"]
"""Small in number alone: pictures, sound and networks are the preset's own."""


def main(names: list[str]) -> None:
    """Run what is named, or all; prints a line each, and fails at the first that fails."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "media").mkdir()
        render_demo(folder / "media", clips=12, held_out=4, seed=0, workers=1)
        corpus, labels = folder / "corpus.parquet", folder / "media" / "labels.csv"
        api.scan([str(folder / "media")], corpus, labels=labels, workers=0)
        # Pictures of four cells come of four alphabets.
        drawn = draw_characters(folder / "drawn.zip", dict.fromkeys(("A", "Bb", "Ccc", "Dddd"), 3))
        api.omniglot(drawn, folder / "pairs", pairs=12, held_out=4, seed=0)
        for name in presets.names():
            if not names or name in names:
                pictures = "pictures" in presets.load(name)
                of = folder / "pairs" if pictures else corpus
                timed(name, lambda name=name, of=of: step(name, of, folder / name))
        wanted = [name for name in protocols.names() if not names or name in names]
        if wanted and not (folder / "avid-kinetics").exists():
            step("avid-kinetics", corpus, folder / "avid-kinetics")
        for name in wanted:
            timed(name, lambda name=name: evaluate(name, folder / "avid-kinetics"))


def timed(name: str, work: Callable[[], str]) -> None:
    """Print what a piece of work gives, and how long it took."""
    began = time.monotonic()
    print(f"{name:28} {work():40} {time.monotonic() - began:6.1f} s", flush=True)


def step(name: str, corpus: Path, run: Path) -> str:
    """Pretrain a preset for one step, from such a run of the preset that it goes on from."""
    config = parse(presets.load(name))
    # After one step on two clips, a CMA run knows of two rows: each has one other to agree with.
    few = {
        "avid": ["method.negatives=4"],
        "cma": ["method.negatives=4", "method.positives=1", "method.drawn=1"],
        "supervised": ["method.label=shape"],
    }
    own = few.get(config.method.name, [])
    if hasattr(config.method, "dictionary"):
        own = ["method.dictionary=2"]
        own += ["method.pool=8"] if hasattr(config.method, "pool") else []
    if config.optimizer.schedule == "multistep":
        own = [*own, "optimizer.milestones=[1]"]
    start = None
    if config.method.name == "cma":
        base = run.parent / name.replace("cma", "avid", 1).replace("tiny-avid", "tiny")
        if not base.exists():
            step(base.name, corpus, base)
        start = base
    made = api.run_config(
        run,
        preset=name,
        config=None,
        corpus=corpus,
        start=start,
        settings=[*STEP, *own],
        resume=False,
    )
    api.pretrain(made, run, quiet=True)
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses, f"{name} has made no step"
    size = f"{made.video.frames} x {made.video.size}"
    return f"{'pictures' if made.pictures.cells else size}, loss {losses[0]:.3g}"


def evaluate(name: str, run: Path) -> str:
    """Take a protocol to its first step, or to its end where nothing is trained."""
    protocol = protocols.load(name)
    modality = "audio" if name.startswith(("esc", "dcase")) else "video"
    if protocol.task == "svm":
        settings = ["evaluation.clips=2", "evaluation.svm_clips=2", "evaluation.labels=[shape]"]
        found = api.evaluate(run, "svm", preset=name, modality=modality, settings=settings)
    else:
        settings = [*STEP, *(["optimizer.milestones=[1]"] if "cosine" not in str(protocol) else [])]
        found = api.finetune(
            run, modality=modality, label="shape", preset=name, settings=settings, quiet=True
        )
    return f"{protocol.task}, {len(found.rows)} figures"


if __name__ == "__main__":
    main(sys.argv[1:])
