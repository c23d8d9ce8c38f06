"""`earsight embed` from its command line: how near it comes to decoding and encoding alone.

In one run, in core-seconds: decoding and converting the clips of all windows (one process, nothing
else), encoding them (from memory, one thread), and the whole command, with all processes that it
starts. What a start costs, imports above all, is taken from the command over a single file, and
stands apart: it is paid once, however many files there are. The target is a share of what decoding
and encoding allow, ``(decode + encode) / (whole − start)``, which can hardly exceed 1. Processes
that run beside it hold it up, but add little to core-seconds.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

from common import DATA, Target, arguments, finish, median, timed
from earsight import api
from earsight.config import RunConfig
from earsight.corpus.batch import Batch
from earsight.corpus.instances import Instances, instances
from earsight.corpus.loader import load
from earsight.corpus.manifest import read
from earsight.evaluation.load import load_run, random_encoder
from earsight.search.embed import Span, WindowEmbedder
from earsight.search.index import read_index
from earsight.training.devices import keep_memory
from earsight.training.run_folder import create_run, save_encoders
from earsight.training.setup import blank_inputs

SHARE = 0.9
ROUNDS = 2
CPU = torch.device("cpu")
SIZES = {
    "tiny": [],
    "full size": ["video.frames=8", "video.size=112", "video_encoder.width=64"],
}
"""Settings laid over the preset ``tiny``; the network of the second weighs more than decoding."""
FILES = {"tiny": 2500, "full size": 256}

_CHILD_SUBREAPER = 36


def make_run(folder: Path, config: RunConfig) -> Path:
    """A run at its random initialisation: how fast it embeds does not depend on its weights."""
    encoder = random_encoder(config, CPU)
    create_run(folder, config)
    save_encoders(folder, encoder.model, blank_inputs(config), config, keys=encoder.method.keys)
    return folder


def floor(run: Path, chosen: Instances, block: int = 64) -> dict[str, float]:
    """Core-seconds of decoding and of encoding every window, in turn for parts of the files."""
    embedder = WindowEmbedder(loaded=load_run(run, CPU), device=CPU, span=Span())
    seconds = {"decode": 0.0, "encode": 0.0}
    for begin in range(0, len(chosen), block):
        part = range(begin, min(begin + block, len(chosen)))
        clips, _ = embedder.plan(chosen, [part])
        kept: list[Batch] = []
        read = load(clips, range(len(clips)), embedder.loaded.config.data, workers=0)
        seconds["decode"] += timed(partial(kept.extend, read))["core"]
        seconds["encode"] += timed(partial(encode, embedder, kept))["core"]
    return seconds


def encode(embedder: WindowEmbedder, batches: list[Batch]) -> None:
    """Embed what was read."""
    for batch in batches:
        embedder.vectors(batch)


def command(run: Path, corpus: Path, place: Path) -> float:
    """Core-seconds of the command and of all its processes."""
    index = place / "index"
    own, before = children(), core_seconds()
    subprocess.run(
        [sys.executable, "-m", "earsight", "embed", str(run), str(corpus), "-o", str(index)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # What it started is this process's own by now, and counts when it has been waited for.
    for child in children() - own:
        os.waitpid(child, 0)
    taken = core_seconds() - before
    assert len(read_index(index))
    shutil.rmtree(index)
    return taken


def children() -> set[int]:
    """Child processes that have not been waited for."""
    return {int(one) for one in Path("/proc/thread-self/children").read_text().split()}


def core_seconds() -> float:
    """Core-seconds of children that have been waited for, and of theirs."""
    times = os.times()
    return times.children_user + times.children_system


def corpus_of(place: Path, count: int) -> Path:
    """The manifest of ``count`` files of av-digits."""
    media = sorted((DATA / "av-digits").glob("*/*.mp4"))
    if not media:
        sys.exit(f"{DATA / 'av-digits'} is missing: nothing measured")
    folder, manifest = place / f"files-{count}", place / f"files-{count}.parquet"
    if not folder.exists():
        folder.mkdir()
        for number, path in enumerate(media[:count]):
            (folder / f"{number:05d}.mp4").symlink_to(path.resolve())
        api.scan([str(folder)], manifest)
    return manifest


def measure(run: Path, corpus: Path, one: Path, place: Path, rounds: int) -> list[dict[str, float]]:
    """Core-seconds of each round."""
    chosen = instances(read(corpus))
    return [
        floor(run, chosen)
        | {"start": command(run, one, place), "whole": command(run, corpus, place)}
        for _ in range(rounds)
    ]


def main() -> int:
    """Measure both sizes, in turn."""
    options = arguments(__doc__ or "")
    if ctypes.CDLL(None).prctl(_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("this system does not tell the core-seconds of grandchildren: nothing measured")
    torch.set_num_threads(1)
    keep_memory()
    targets, raw = [], {}
    table = [["", "decode", "encode", "start", "whole", "of all, with the start"]]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        one = corpus_of(place, 1)
        for name in list(SIZES)[: 1 if options.quick else None]:
            corpus = corpus_of(place, 12 if options.quick else FILES[name])
            config = api.configure("tiny", settings=[f"data.corpus={corpus}", *SIZES[name]])
            run = make_run(place / name.replace(" ", "-"), config)
            rounds = measure(run, corpus, one, place, 1 if options.quick else ROUNDS)
            raw[name] = rounds
            shares = [
                (each["decode"] + each["encode"]) / (each["whole"] - each["start"])
                for each in rounds
            ]
            what = f"{name}: share of what decoding and encoding allow"
            targets.append(Target(name=what, measured=median(shares), least=SHARE))
            table.append(line(name, rounds))
    return finish(targets, {"rounds": raw, "table": table, "quick": options.quick}, options.json)


def line(name: str, rounds: list[dict[str, float]]) -> list[str]:
    """The middle of each time, and the share with the start counted."""
    middle = {key: median([one[key] for one in rounds]) for key in rounds[0]}
    share = (middle["decode"] + middle["encode"]) / middle["whole"]
    return [name, *(f"{middle[key]:.1f} s" for key in middle), f"{share:.2f}"]


if __name__ == "__main__":
    sys.exit(main())
