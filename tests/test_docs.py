"""Commands and code in the README and the docs work as written."""

import hashlib
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import earsight
from earsight import presets
from earsight.cli import parse
from earsight.cli.corpora import Prepare, Scan
from earsight.cli.learn import Pretrain
from earsight.cli.measure import Evaluate
from earsight.config import merge, override
from earsight.config import parse as parse_settings
from earsight.corpus.layouts import LAYOUTS
from earsight.encoders import build_pair
from earsight.encoders.released import PREFIXES
from earsight.evaluation.shown import ShownClip, ShownExample
from earsight.presets.protocols import load_for
from forked import run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What a reader's machine would take minutes for, on the same path.
SHORT = ("train.epochs=1", "train.batch=8", "evaluation.every=0", "data.workers=0", "threads=1")
SHORT_STUDY = ("--seeds", "1", *SHORT, "train.epoch_samples=16")


def blocks(page, language):
    """Fenced blocks of a language, with the title that names a file."""
    pattern = rf'^```{language}(?: title="([^"]+)")?\n(.*?)^```'
    found = re.finditer(pattern, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [(match[1], match[2]) for match in found]


def commands_in(page):
    """What a page's reader types, line by line."""
    lines = [line for _, text in blocks(page, "bash") for line in text.splitlines()]
    return [line for line in lines if line]


WITH_CODE = [page for page in PAGES if blocks(page, "bash") or blocks(page, "python")]
_COUNTS = Counter(line for page in PAGES for line in set(commands_in(page)))
SHARED = {line for line, count in _COUNTS.items() if count > 1}
"""Commands that stand on several pages."""


def shortened(words):
    """The command as written, with what makes it quick at its end."""
    if words[0] == "make":
        return None
    if words[0] == "torchrun":
        start = ["-m", "torch.distributed.run", *words[1:]]
        return [*start, *(SHORT if "--resume" not in words else ())]
    assert words[0] == "earsight", words
    if words[1] == "study":
        return ["-m", *words, *SHORT_STUDY]
    wanted = SHORT if words[1] == "pretrain" and "--resume" not in words else ()
    return ["-m", *words, *wanted]


@pytest.fixture(scope="module")
def place(media, tmp_path_factory):
    """A reader's folder, with videos and labels in it."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(media / "train", folder / "videos")
    shutil.copytree(media / "test", folder / "more-videos")
    lines = ["path,material"]
    for line in (media / "labels.csv").read_text().splitlines()[1:]:
        path, _, material = line.split(",")[0], None, line.rsplit(",", 1)[1]
        if path.startswith("train/"):
            lines.append(f"{path.removeprefix('train/')},{material}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def write_published(folder):
    """A small checkpoint in the published layout, and statistics for it."""
    sizes = ["video_encoder.width=4", "audio_encoder.width=4", "head.hidden=[16]", "head.dim=8"]
    pair = build_pair(earsight.configure("avid-published", settings=sizes))
    theirs = {ours: name for name, ours in PREFIXES.items()}
    model = {}
    for name, value in pair.state_dict().items():
        part, rest = name.split(".", 1)
        model[theirs[f"{part}."] + rest] = value
    torch.save({"model": model, "epoch": 1}, folder / "AVID-CMA_Audioset.pth.tar")
    np.savez(folder / "norm-stats.npz", mean=np.full(257, -30.0), std=np.full(257, 10.0))


class Reader:
    """Gives commands in one folder; what was done before from the same start is copied.

    A page's start is what its folder holds; all that follows from it are the commands themselves.
    """

    def __init__(self, place, folder):
        self.place, self.here, self.kept = place, folder / "here", folder / "kept"
        self.environment = {
            **os.environ,
            "HOME": str(self.here / "home"),
            # Else each home would have to look for all fonts.
            "MPLCONFIGDIR": str(folder / "fonts"),
        }
        self.known = {}

    def begin(self):
        """The folder as a page's reader has it, in the same place for all pages."""
        shutil.rmtree(self.here, ignore_errors=True)
        shutil.copytree(self.place, self.here)
        (self.here / "home").mkdir()
        (self.here / "home" / "videos").symlink_to(self.here / "videos")
        return self.here

    def start(self):
        """What the folder holds, by which a page's start is known."""
        files = sorted(path for path in self.here.rglob("*") if path.is_file())
        return tuple((path, hashlib.sha256(path.read_bytes()).digest()) for path in files)

    def give(self, before, command, line):
        """Do a command after others, or copy what it left; what the next one comes after."""
        after = (*before, tuple(command))
        if after in self.known:
            shutil.rmtree(self.here)
            shutil.copytree(self.known[after], self.here, symlinks=True)
            return after
        done = self.run(command)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        if line in SHARED:
            self.known[after] = self.kept / str(len(self.known))
            shutil.copytree(self.here, self.known[after], symlinks=True)
        return after

    def run(self, command):
        return run(command, self.here, self.environment)


@pytest.fixture(scope="module")
def reader(place, tmp_path_factory):
    return Reader(place, tmp_path_factory.mktemp("pages"))


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_commands_of_a_page(page, reader, characters):
    here = reader.begin()
    needs_run = page.name == "run-folder.md"
    needs_corpus = page.name == "add-a-method.md" or needs_run
    if page.name == "omniglot.md":
        shutil.copy(characters, here / "images.zip")
    if page.name == "published-weights.md":
        write_published(here)
    if page.name == "own-rule.md":
        labels = (here / "labels.csv").read_text().replace("material", "speaker", 1)
        (here / "speakers.csv").write_text(labels)
    prelude = ["earsight scan videos -o corpus.parquet"] if needs_corpus else []
    if needs_run:
        prelude.append("earsight pretrain --preset tiny --corpus corpus.parquet -o runs/first")
    if page.name == "own-rule.md":
        prelude.append("earsight scan videos --labels speakers.csv -o av-digits.parquet")
    for title, text in [*blocks(page, "python"), *blocks(page, "yaml")]:
        if title:
            (here / title).write_text(text)
    given = reader.start()
    for line in [*prelude, *commands_in(page)]:
        command = shortened(shlex.split(line.replace("~", str(here / "home"))))
        if command:
            given = reader.give(given, command, line)
    for title, text in blocks(page, "python"):
        if not title:
            settings = ", ".join(map(repr, SHORT))
            shorter = text.replace("settings=[", f"settings=[{settings}, ")
            script = "if __name__ == '__main__':\n" + "".join(
                f"    {code}\n" for code in shorter.splitlines()
            )
            (here / "script.py").write_text(script)
            done = reader.run(["script.py"])
            assert done.returncode == 0, f"{text}\n{done.stderr}"


def test_the_page_of_settings_is_up_to_date():
    """Made by a process of its own: in this one, tests register choices, too."""
    code = "import make_settings; print(make_settings.page(), end='')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "docs", capture_output=True, text=True, check=True
    )
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert done.stdout == page, "run python docs/make_settings.py"


@pytest.mark.parametrize("name", ["benchmarks", "results", "scale", "reproduce"])
def test_generated_pages_are_up_to_date(name, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    made = importlib.import_module(f"make_{name}")
    assert made.page() == made.PAGE.read_text(encoding="utf-8"), f"run python docs/make_{name}.py"


def commands_of(page):
    """Commands of blocks that no reader's machine could run, as words."""
    for _, text in blocks(page, ""):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line)
            yield words[words.index("earsight") + 1 :]


@pytest.mark.parametrize("name", ["av-digits", "serve", "studies"])
def test_commands_that_take_too_long_can_be_given(name):
    text = "".join(text for _, text in blocks(ROOT / "docs" / f"{name}.md", ""))
    found = [shlex.split(line) for line in text.splitlines() if line.startswith("earsight ")]
    assert found
    for words in found:
        assert type(parse(words[1:])).__name__.lower() == words[1]


def test_commands_for_the_papers_data_can_be_given():
    found = [parse(words) for words in commands_of(ROOT / "docs" / "reproduce-at-scale.md")]
    kinds = Counter(type(command).__name__ for command in found)
    assert kinds["Pretrain"] == kinds["Compare"] == 9
    assert set(kinds) == {"Scan", "Prepare", "Pretrain", "Evaluate", "Compare"}
    runs, shards = set(), set()
    for command in found:
        if isinstance(command, Scan):
            assert command.layout in LAYOUTS
            assert command.draw is None or "draw" in LAYOUTS[command.layout].options
        elif isinstance(command, Prepare):
            earsight.configure(command.preset)
            shards.add(command.output)
        elif isinstance(command, Pretrain):
            start = [f"start={command.start}"] if command.start else []
            earsight.configure(command.preset, settings=[*command.settings, *start])
            assert command.start is None or command.start in runs
            assert command.corpus in shards
            runs.add(command.output)
        elif isinstance(command, Evaluate):
            assert command.folder in runs
            tree = merge(
                presets.load(command.folder.name),
                load_for((command.task,), command.preset).settings,
            )
            parse_settings(override(tree, [*command.settings, "train.keep=[]"]))


def test_the_readme_starts_with_exactly_two_commands():
    first = blocks(ROOT / "README.md", "bash")[0][1]
    assert first.split("\n") == ["make demo", "make test", ""]


def test_a_gallery_shows_clips_by_picture_and_sound(media, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    galleries = importlib.import_module("make_galleries")
    paths = sorted(media.glob("train/*.mp4"))[:4]
    shown = [
        ShownClip(path=str(path), start=0.0, end=1.0, caption=f"{path.name}, cube", of={"norm": 2})
        for path in paths
    ]
    examples = [
        ShownExample(reference=shown[0], groups={"agree in both": tuple(shown[1:])}),
        ShownExample(reference=None, groups={"random": tuple(shown[:2])}),
    ]
    page = np.asarray(galleries.sheet(examples))
    wide, high = galleries.CELL
    gap = galleries.GAP
    assert page.shape == (2 * high + gap, 4 * wide + gap, 3)
    drawn = [
        [page[gap + y * high :, gap + x * wide :][: high - gap, : wide - gap] for x in range(4)]
        for y in range(2)
    ]
    # A row of two leaves the rest of it white.
    assert [[bool((one < 250).any()) for one in row] for row in drawn] == [
        [True] * 4,
        [True, True, False, False],
    ]
