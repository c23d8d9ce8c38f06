"""Cells of FAISS: what they find agrees with what an exact search finds, and says how well."""

import json
import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

pytest.importorskip("faiss")

from earsight import api, cli
from earsight.search import approximate
from earsight.search.approximate import choose, make_cells, open_cells, search_cells
from earsight.search.embedder import Embedding
from earsight.search.index import About, Index
from earsight.search.query import search

WINDOWS, PER_FILE, DIM = 20_000, 5, 32


def clustered(seed, count, centres):
    generator = torch.Generator().manual_seed(seed)
    own = centres[torch.randint(len(centres), (count,), generator=torch.Generator().manual_seed(9))]
    return normalize(own + 0.6 * torch.randn(count, DIM, generator=generator), dim=1)


@pytest.fixture(scope="module")
def centres():
    return torch.randn(2, 300, DIM, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def index(centres, tmp_path):
    """Pictures and sound of the same clusters; of every tenth window no sound is known."""
    known = np.arange(WINDOWS) % 10 != 3
    audio = clustered(2, WINDOWS, centres[1]) * torch.from_numpy(known)[:, None]
    return Index(
        folder=tmp_path,
        about=About(
            model="made-up",
            run="",
            corpus="made-up",
            seconds=1.0,
            hop=1.0,
            missing="skip",
            block=64,
            parts=1,
            spaces=(("video", "audio"), ("audio", "video")),
        ),
        key=np.arange(WINDOWS, dtype=np.uint64) // PER_FILE,
        paths=tuple(f"{n}.mp4" for n in range(WINDOWS // PER_FILE)),
        file=np.arange(WINDOWS) // PER_FILE,
        start=np.arange(WINDOWS, dtype=np.float64) % PER_FILE,
        end=np.arange(WINDOWS, dtype=np.float64) % PER_FILE + 1,
        vectors={"video": clustered(1, WINDOWS, centres[0]), "audio": audio},
        known={"video": np.ones(WINDOWS, bool), "audio": known},
        failures=(),
    )


def queries(centres, count):
    seen, heard = clustered(3, count, centres[0]), clustered(4, count, centres[1])
    one = np.zeros(1)
    return [
        Embedding(start=one, end=one + 1, vectors={"video": v[None], "audio": a[None]})
        for v, a in zip(seen, heard, strict=True)
    ]


@pytest.mark.parametrize("spread", [True, False])
def test_what_is_found_agrees_with_an_exact_search(index, centres, spread):
    cells = make_cells(index)
    assert min(one.recall for one in cells.measured.values()) >= approximate.RECALL
    assert all(one.probed < one.cells for one in cells.measured.values())
    for by in ("video-video", "audio-audio", "agreement"):
        shared = total = 0
        for query in queries(centres, 20):
            exact = {(h.key, h.start): h for h in search(index, query, by=by, spread=spread)[1]}
            used, near = search_cells(index, cells, query, by=by, spread=spread)
            assert (used, len(near)) == (by, 10)
            scores = [hit.score for hit in near]
            assert scores == sorted(scores, reverse=True)
            for hit in near:
                twin = exact.get((hit.key, hit.start))
                shared += twin is not None
                # Scores are those of the vectors, not of what FAISS keeps of them.
                assert twin is None or hit.score == pytest.approx(twin.score, abs=1e-6)
            total += len(exact)
        assert shared / total >= 0.95, by
    assert f"when {approximate._SAMPLE} windows" in cells.about(index, query, "agreement")


def test_where_lists_cannot_be_sure_all_is_gone_through(index, centres, monkeypatch):
    query = queries(centres, 1)[0]
    # Sound that belongs to other pictures: the best agreement is far down in both lists.
    query = Embedding(
        start=query.start,
        end=query.end,
        vectors={"video": query.vectors["video"], "audio": -query.vectors["audio"]},
    )
    found = search_cells(index, make_cells(index), query, by="agreement")
    assert found == search(index, query, by="agreement")


def test_cells_are_kept_and_made_again_for_another_index(index, monkeypatch):
    made = open_cells(index)
    assert {one.name for one in (index.folder / "cells").iterdir()} == {
        "cells.json",
        "video.faiss",
        "audio.faiss",
    }
    monkeypatch.setattr(approximate, "make_cells", None)
    assert open_cells(index).measured == made.measured
    about = index.folder / "cells" / "cells.json"
    tree = json.loads(about.read_text())
    about.write_text(json.dumps(tree | {"model": "other"}))
    with pytest.raises(TypeError):
        open_cells(index)


def test_who_searches_how():
    assert choose("auto", 1_000_000)[0] == "exact"
    assert choose("auto", 1_000_001)[0] == "faiss"
    assert choose("exact", 10**7)[0] == "exact"
    assert choose("faiss", 100)[0] == "faiss"


def test_without_the_extra_it_is_named(index, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match=r"pip install 'earsight\[faiss\]'") as error:
        open_cells(index)
    assert len(str(error.value).splitlines()) == 1
    monkeypatch.setattr(approximate, "find_spec", lambda _: None)
    chosen, note = choose("auto", 2_000_000)
    assert chosen == "exact"
    assert "pip install 'earsight[faiss]'" in note


def test_the_command_says_how_it_searched(finished, media, tmp_path, capsys):
    api.embed(finished, media / "test", tmp_path / "index", window=0.5, hop=0.25, workers=0)
    query = ["search", str(tmp_path / "index"), "--query", str(media / "test" / "0002.mp4")]
    assert cli.guarded(cli.parse([*query, "--neighbours", "faiss", "--json"])) == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["neighbours"], tree["hits"][0]["path"]) == ("faiss", "0002.mp4")
    assert "approximate: FAISS looked into" in tree["note"]
    assert cli.guarded(cli.parse(query)) == 0
    assert "exact: all " in capsys.readouterr().out
    # An index with cells in it can still be gone on with.
    api.embed(finished, media / "test", tmp_path / "index", window=0.5, hop=0.25, workers=0)
