"""Indexes of a corpus, made in parts, and what is found in them."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from earsight import api, cli
from earsight.search import make
from earsight.search.index import read_about, read_index


@pytest.fixture(scope="module")
def films(media):
    return media / "test"


@pytest.fixture(scope="module")
def index(finished, films, tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched") / "index"
    api.embed(finished, films, folder, window=1.0, hop=0.5, workers=0)
    return folder


def test_an_index_holds_every_window_of_every_file(index, finished, films):
    found = read_index(index)
    files = sorted(path.name for path in films.glob("*.mp4"))
    assert sorted(found.paths) == files
    embedder = api.load(finished, device="cpu")
    for name in files[:3]:
        alone = embedder.embed(films / name, window=1.0, hop=0.5)
        mine = found.file == found.paths.index(name)
        assert np.allclose(found.start[mine], alone.start)
        for modality, x in alone.vectors.items():
            torch.testing.assert_close(
                found.vectors[modality][torch.from_numpy(mine)], x, atol=1e-5, rtol=0
            )
    table = pq.read_table(index / "parts" / "000000.parquet")
    assert table.column_names == ["key", "path", "start", "end", "modality", "vector", "model"]


def test_a_stopped_index_goes_on_and_is_the_same(finished, films, index, tmp_path, monkeypatch):
    monkeypatch.setattr(make, "_BLOCK", 4)
    folder = tmp_path / "index"

    def stop(done, of):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.embed(finished, films, folder, window=1.0, hop=0.5, workers=0, progress=stop)
    with pytest.raises(ValueError, match=r"is not finished: 1 of 3 parts"):
        read_index(folder)
    report = api.embed(finished, films, folder, window=1.0, hop=0.5, workers=0)
    assert (report.reused, report.parts) == (2, 3)
    again, whole = read_index(folder), read_index(index)
    assert np.array_equal(again.key, whole.key)
    for name, x in whole.vectors.items():
        torch.testing.assert_close(again.vectors[name], x, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"another --hop \(0\.5, now 0\.25\);"):
        api.embed(finished, films, folder, window=1.0, hop=0.25, workers=0)


def test_what_is_refused_leaves_the_index_as_it_was(index, finished, films, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(films / "0000.mp4", other / "another.mp4")
    before = (index / "corpus.parquet").read_bytes()
    with pytest.raises(ValueError, match="an index with another corpus"):
        api.embed(finished, other, index, window=1.0, hop=0.5, workers=0)
    assert (index / "corpus.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window": 0.0}, "positive seconds"),
        ({"hop": float("nan")}, "positive seconds"),
        ({"workers": -1}, "workers: must be 0 or more"),
        ({"missing": "error"}, "has no sound"),
    ],
)
def test_what_is_refused_begins_no_index(finished, films, tmp_path, wrong, message):
    own = tmp_path / "films"
    own.mkdir()
    shutil.copy(films / "0000.mp4", own)
    silence(films / "0001.mp4", own / "silent.mp4")
    with pytest.raises(ValueError, match=message):
        api.embed(finished, own, tmp_path / "index", **{"workers": 0, **wrong})
    assert not (tmp_path / "index").exists()


def silence(source, target):
    """A copy without sound."""
    with av.open(str(source)) as film, av.open(str(target), "w") as mute:
        stream = film.streams.video[0]
        copied = mute.add_stream_from_template(stream)
        for packet in film.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                mute.mux(packet)


def test_a_file_finds_itself_first_in_every_way(index, films):
    query = sorted(films.glob("*.mp4"))[3]
    for by in (None, "video-video", "audio-audio"):
        found = api.search(index, query, by=by, count=5)
        assert found.by == (by or "agreement")
        hits = found.hits
        assert hits[0].path == query.name
        assert hits[0].score > 0.9
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    windows = api.search(index, query, count=20, every_window=True).hits
    assert len({hit.path for hit in windows}) < len(windows) == 20


def test_scores_are_exact(index, films, finished):
    query = sorted(films.glob("*.mp4"))[5]
    known = read_index(index)
    mean = api.load(finished, device="cpu").embed(query).mean().vectors["video"][0]
    scores = (known.vectors["audio"].double() @ mean.double()).numpy()
    found = api.search(index, query, by="video-audio", count=3, every_window=True)
    assert (found.neighbours, f"all {len(known)} windows" in found.note) == ("exact", True)
    assert [hit.score for hit in found.hits] == pytest.approx(
        np.sort(scores)[::-1][:3].tolist(), abs=1e-5
    )


def test_bad_files_are_named_and_the_rest_embedded(finished, films, tmp_path):
    own = tmp_path / "films"
    own.mkdir()
    for path in sorted(films.glob("*.mp4"))[:3]:
        shutil.copy(path, own)
    broken = own / "broken.mp4"
    broken.write_bytes((own / "0000.mp4").read_bytes()[:3000])
    report = api.embed(finished, own, tmp_path / "index", workers=0)
    assert (report.files, report.left_out) == (3, 1)
    gone = tmp_path / "manifest.parquet"
    api.scan([str(own)], gone, workers=0)
    (own / "0001.mp4").unlink()
    report = api.embed(finished, gone, tmp_path / "other", workers=0)
    assert report.files == 2
    assert [Path(one.path).name for one in report.failures] == ["0001.mp4"]
    assert "could not be read" in str(report)


def test_what_cannot_be_searched_is_said(index, films, finished, corpus, small, tmp_path):
    with pytest.raises(ValueError, match="is no index"):
        api.search(tmp_path, films / "0000.mp4")
    for count in (0, -1):
        with pytest.raises(ValueError, match="must be at least 1"):
            api.search(index, films / "0000.mp4", count=count)
    settings = [*small, f"data.corpus={corpus}", "seed=7"]
    api.pretrain(api.configure("tiny", settings=settings), tmp_path / "other", quiet=True)
    with pytest.raises(ValueError, match="other weights"):
        api.search(index, films / "0000.mp4", run=tmp_path / "other")
    with pytest.raises(ValueError, match="holds other things"):
        api.embed(finished, films, finished, workers=0)
    assert not (finished / "corpus.parquet").exists()


def test_the_commands_tell_and_give_json(finished, films, tmp_path, capsys):
    folder = tmp_path / "index"
    asked = ["embed", str(finished), str(films), "-o", str(folder), "--workers", "0"]
    assert cli.guarded(cli.parse([*asked, "--window", "1s"])) == 0
    assert "the index is in" in capsys.readouterr().out
    query = ["search", str(folder), "--query", str(films / "0002.mp4"), "-k", "2"]
    assert cli.guarded(cli.parse(query)) == 0
    shown = capsys.readouterr().out
    assert "agreement" in shown
    assert "0002.mp4" in shown
    assert cli.guarded(cli.parse([*query, "--json"])) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["hits"][0]["path"] == "0002.mp4"
    assert read_about(folder).seconds == 1.0


@pytest.mark.parametrize("text", ["{", '{"schema": 1}', "[]"])
def test_a_damaged_index_is_named(index, tmp_path, text):
    shutil.copytree(index, tmp_path / "index")
    (tmp_path / "index" / "index.json").write_text(text)
    with pytest.raises(ValueError, match=r"index\.json: is damaged"):
        api.search(tmp_path / "index", query=index)
