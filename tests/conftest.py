"""A small rendered corpus and settings that train on it in a second or two."""

import io
import json
import math
import os
import zipfile
from pathlib import Path

# Tests run side by side, one per core: threads that wait for a core make them take minutes.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from PIL import Image

from earsight import api
from earsight.corpus.demo import render_demo
from forked import Forked, start_server

if "PYTEST_XDIST_WORKER" in os.environ:
    start_server()

SMALL = (
    "video_encoder.width=4",
    "audio_encoder.width=4",
    "video.frames=4",
    "video.size=32",
    "audio.duration=1.0",
    "audio.stretch=[1.0,1.0]",
    "head.hidden=[16]",
    "head.dim=8",
    "method.negatives=8",
    "optimizer.warmup_steps=2",
    "optimizer.milestones=[1,54]",
    "train.batch=8",
    "train.epochs=2",
    "train.log_every=1",
    "evaluation.every=0",
    "evaluation.clips=1",
    "data.workers=0",
    "threads=1",
)


@pytest.fixture(scope="session")
def small():
    return SMALL


@pytest.fixture(scope="session")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    render_demo(folder, clips=32, held_out=12, seed=0, workers=1)
    return folder


@pytest.fixture(scope="session")
def corpus(media, tmp_path_factory):
    manifest = tmp_path_factory.mktemp("corpus") / "corpus.parquet"
    api.scan([str(media)], manifest, labels=media / "labels.csv", workers=0)
    return manifest


@pytest.fixture(scope="session")
def finished(corpus, tmp_path_factory):
    """A run trained to its end."""
    run = tmp_path_factory.mktemp("finished") / "run"
    config = api.configure("tiny", settings=[*SMALL, f"data.corpus={corpus}"])
    api.pretrain(config, run, quiet=True)
    return run


@pytest.fixture(scope="session")
def ran_by_ranks(tmp_path_factory):
    """What each of several processes of a script saved; it is given a folder and its number."""

    def run(script, count):
        folder = tmp_path_factory.mktemp("ranks")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes = [
            Forked([str(script), str(folder), str(number)], env=environment)
            for number in range(count)
        ]
        try:
            errors = [process.communicate(timeout=120)[1] for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        assert [process.returncode for process in processes] == [0] * count, errors
        return [torch.load(folder / f"{number}.pt") for number in range(count)]

    return run


RELEASED = Path(__file__).parents[1] / "../shared/avid_checkpoint_keys.json"


@pytest.fixture(scope="session")
def released_keys():
    """Keys and shapes of a released checkpoint, as they were listed from one."""
    if not RELEASED.exists():
        pytest.skip("the list of released keys is not on this machine")
    return json.loads(RELEASED.read_text())


def random_weights(shapes, seed=0):
    """Weights as a trained network has them: activations keep their size."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(1000)
        elif name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            weights[name] = torch.rand(shape, generator=generator) + 0.5
        else:
            fan_in = max(1, math.prod(shape[1:]))
            weights[name] = torch.randn(shape, generator=generator) / fan_in**0.5
    return weights


def criterion_state(dim, *, cma, rows=6):
    """The state of the criterion: banks, tables, normalisers and, for CMA, positives."""
    state = {
        "nce_average.view1_mem": torch.randn(rows, dim),
        "nce_average.view2_mem": torch.randn(rows, dim),
        "nce_average.multinomial.prob": torch.ones(rows - 1),
        "nce_average.multinomial.alias": torch.zeros(rows - 1, dtype=torch.long),
        "criterion.avg_exp_score": torch.tensor(2.5),
    }
    if cma:
        state["nce_average.positive_set"] = torch.zeros(rows, 32, dtype=torch.long)
        state["criterion.avg_exp_score"] = torch.tensor([2.0])
        state["criterion_within.avg_exp_score"] = torch.tensor([4.0])
        state["criterion_unset.avg_exp_score"] = torch.tensor(-1.0)
    return state


def scaled(shapes, width):
    """The same network with another width of the first stage, and everything in proportion."""
    return {n: [d * width // 64 if d >= 64 else d for d in shape] for n, shape in shapes.items()}


@pytest.fixture
def released(released_keys):
    """A function that makes the content of a checkpoint in the released layout."""

    def make(*, cma=False, width=4):
        shapes = scaled(released_keys["model"], width)
        parameters = {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-4}]}
        return {
            "epoch": 200,
            "model": random_weights(shapes),
            "optimizer": parameters,
            "train_criterion": criterion_state(2 * width, cma=cma),
        }

    return make


ALPHABETS = {"Short": 3, "Middling": 4, "Long": 5}
WRITERS = 5


def draw_characters(path, alphabets):
    """An archive of characters: each a few bars of its own, which every writer moves a little."""
    with zipfile.ZipFile(path, "w") as file:
        for alphabet, size in alphabets.items():
            for character in range(size):
                draw = np.random.default_rng(len(alphabet) * 100 + character)
                bars = draw.integers(15, 80, (4, 2))
                for writer in range(WRITERS):
                    paper = np.full((105, 105), 255, np.uint8)
                    for number, (x, y) in enumerate(bars + draw.integers(-4, 5, (4, 2))):
                        high, wide = (24, 6) if number % 2 else (6, 24)
                        paper[y : y + high, x : x + wide] = 0
                    image = io.BytesIO()
                    Image.fromarray(paper).save(image, format="png")
                    name = f"{alphabet}/character{character + 1:02d}/0001_{writer + 1:02d}.png"
                    file.writestr(name, image.getvalue())
    return path


@pytest.fixture(scope="session")
def characters(tmp_path_factory):
    """An archive of drawn characters."""
    return draw_characters(tmp_path_factory.mktemp("characters") / "images.zip", ALPHABETS)


@pytest.fixture(scope="session")
def pairs(characters, tmp_path_factory):
    """A small corpus of pairs of pictures of these characters."""
    folder = tmp_path_factory.mktemp("pairs") / "pairs"
    api.omniglot(characters, folder, pairs=96, held_out=24, seed=3)
    return folder
