"""The tutorial, as it is written: on the demo's clips, and on real files of many kinds."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

import forked

from .conftest import Server, start

ROOT = Path(__file__).parents[2]
REAL = ROOT / "../shared/data/real-videos"


def commands():
    """Those of the page."""
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def run(words, here):
    done = forked.run(["-m", *words], here)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(params=["demo", "real"])
def here(request, media, finished, tmp_path):
    """A reader's folder: the demo's run, and clips."""
    if request.param == "real" and not REAL.is_dir():
        pytest.skip("the real videos are not here")
    clips = media / "test" if request.param == "demo" else REAL
    shutil.copytree(clips, tmp_path / "clips", ignore=shutil.ignore_patterns("*.md"))
    (tmp_path / "demo-run").mkdir()
    shutil.copytree(finished, tmp_path / "demo-run" / "run")
    return tmp_path


def test_a_folder_of_clips_becomes_a_page(here):
    scan, embed, serve, search = commands()
    said = run(scan, here)
    assert re.search(r"\d+ files, \d+ instances, \d+ ok", said)
    run(embed, here)
    assert serve == ["earsight", "serve", "index"]
    temporary = here / "temporary"
    temporary.mkdir()
    process, said = start(here / "index", temporary)
    try:
        port = int(said["url"].rsplit(":", 1)[1].strip("/"))
        server = Server(process=process, port=port, root=here, temporary=temporary)
        home = server.ask()
        assert home.status == 200
        items = re.findall(r"/item/(\d+)", home.text)
        assert len(set(items)) >= 10
        assert len(set(re.findall(r"/item/(\d+)", server.ask(f"/item/{items[0]}").text))) > 3
        film = next(path for path in sorted((here / "clips").rglob("*.mp4")))
        answer = server.upload(film.read_bytes(), film.name)
        assert answer.status == 200
        assert film.name in answer.text
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stdout.close()
    search[search.index("clips/0000.mp4")] = str(film)
    hits = json.loads(run(search, here))["hits"]
    assert {"score", "start", "end"} <= hits[0].keys()
