"""Indexes made in parts join to the folder that one call makes, to the byte."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

from earsight import api, cli
from earsight.corpus.marks import marks
from earsight.corpus.part import Part
from earsight.corpus.shards.prepare import prepare
from earsight.errors import FullDiskError
from earsight.media.types import Coding
from earsight.search import make
from earsight.search.index import read_index

OPTIONS = {"window": 1.0, "hop": 0.5, "workers": 0, "device": "cpu"}


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "_BLOCK", 3)
        yield


@pytest.fixture(scope="module")
def films(media, tmp_path_factory):
    """Twelve films, of which one turns out to be damaged, and a copy."""
    folder = tmp_path_factory.mktemp("films")
    for path in sorted((media / "test").glob("*.mp4")):
        shutil.copy(path, folder)
    shutil.copy(folder / "0000.mp4", folder / "copy.mp4")
    return folder


@pytest.fixture(scope="module")
def manifest(films, tmp_path_factory):
    place = tmp_path_factory.mktemp("manifest") / "corpus.parquet"
    api.scan([str(films)], place, workers=0)
    bad = films / "0004.mp4"
    bad.write_bytes(bytes(bad.stat().st_size))
    return place


@pytest.fixture(scope="module")
def whole(finished, manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "index"
    return folder, api.embed(finished, manifest, folder, **OPTIONS)


@pytest.fixture(scope="module")
def parts(finished, manifest, tmp_path_factory):
    home = tmp_path_factory.mktemp("parts")
    reports = [
        api.embed(finished, manifest, home / str(n), shard=f"{n}/3", **OPTIONS) for n in range(3)
    ]
    return [home / str(n) for n in range(3)], reports


def test_parts_in_folders_of_their_own(parts, whole, tmp_path):
    places, reports = parts
    report = api.merge(places[::-1], tmp_path / "index")
    folder, expected = whole
    assert files(tmp_path / "index") == files(folder)
    assert (report.windows, report.files, report.embeddings, report.parts, report.left_out) == (
        expected.windows,
        expected.files,
        expected.embeddings,
        expected.parts,
        expected.left_out,
    )
    assert report.failures == expected.failures
    assert [Path(one.path).name for one in report.failures] == ["0004.mp4"]
    assert "could not be read: " in str(report)
    assert sum(one.windows for one in reports) == expected.windows
    assert sum(one.parts for one in reports) == expected.parts == 4
    assert "part 1/3 is in" in str(reports[1])
    assert len(read_index(tmp_path / "index")) == expected.windows


def test_parts_in_one_folder(finished, manifest, whole, tmp_path):
    folder = tmp_path / "index"
    for number in (1, 0):
        api.embed(finished, manifest, folder, shard=f"{number}/2", **OPTIONS)
    assert [one.part for one in marks(folder)] == [Part(number=n, of=2) for n in range(2)]
    api.merge([folder], folder)
    assert files(folder) == files(whole[0])


def test_more_parts_than_blocks_and_a_call_again(finished, manifest, whole, tmp_path):
    folder = tmp_path / "index"
    reports = [
        api.embed(finished, manifest, folder, shard=f"{n}/5", **OPTIONS) for n in (0, 1, 2, 3, 4, 3)
    ]
    assert [one.parts for one in reports] == [1, 1, 1, 1, 0, 1]
    assert [one.reused for one in reports] == [0, 0, 0, 0, 0, 1]
    api.merge([folder], tmp_path / "merged")
    assert files(tmp_path / "merged") == files(whole[0])


def test_missing_parts_and_blocks_are_named(parts, tmp_path):
    places = parts[0]
    with pytest.raises(ValueError, match=r"1 of 3 part is missing: 2/3; run `earsight embed`"):
        api.merge(places[:2], tmp_path / "index")
    broken = shutil.copytree(places[1], tmp_path / "1")
    (broken / "parts" / "000001.parquet").unlink()
    with pytest.raises(ValueError, match=r"block 1 is missing; .*--shard 1/3 again"):
        api.merge([places[0], broken, places[2]], tmp_path / "index")
    (broken / "parts" / "000001.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"000001\.parquet: is damaged; remove it"):
        api.merge([places[0], broken, places[2]], tmp_path / "index")
    with pytest.raises(ValueError, match=r"hold different embeddings .*block 1"):
        api.merge([*places, broken], tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_parts_of_other_windows_are_refused(finished, manifest, parts, tmp_path):
    other = tmp_path / "other"
    api.embed(finished, manifest, other, shard="1/3", **{**OPTIONS, "hop": 1.0})
    with pytest.raises(ValueError, match="is of another hop than"):
        api.merge([parts[0][0], other, parts[0][2]], tmp_path / "index")


def test_a_folder_of_films_is_not_scanned_by_every_job(finished, films, tmp_path):
    with pytest.raises(ValueError, match=r"each of 2 jobs would scan it; scan it once"):
        api.embed(finished, films, tmp_path / "index", shard="0/2", **OPTIONS)


def test_a_full_disk_leaves_nothing_half_written(finished, manifest, whole, tmp_path, monkeypatch):
    folder, real, seen = tmp_path / "index", os.fsync, []

    def full(handle):
        seen.append(handle)
        if len(seen) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(FullDiskError, match=r"parts/00000\d\.parquet: could not be written"):
            api.embed(finished, manifest, folder, shard="0/1", **OPTIONS)
    assert not list(folder.rglob(".*"))
    assert marks(folder) == []
    api.embed(finished, manifest, folder, shard="0/1", **OPTIONS)
    api.merge([folder], folder)
    assert files(folder) == files(whole[0])


def test_shards_in_an_object_store_are_embedded_in_parts(finished, corpus, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    coding = Coding(preset="ultrafast", crf=18, short_side=96, rate=8000)
    prepare(corpus, tmp_path / "s", coding=coding, shard_seconds=12.0, workers=0)
    place = f"memory://{uuid.uuid4()}/shards"
    for path in (tmp_path / "s").iterdir():
        with fsspec.open(f"{place}/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    api.embed(finished, place, tmp_path / "whole", **OPTIONS)
    for number in range(2):
        api.embed(finished, place, tmp_path / str(number), shard=f"{number}/2", **OPTIONS)
    api.merge([tmp_path / "0", tmp_path / "1"], tmp_path / "index")
    assert files(tmp_path / "index") == files(tmp_path / "whole")


def test_the_commands(finished, manifest, tmp_path, capsys):
    folder = str(tmp_path / "index")
    embed = ["embed", str(finished), str(manifest), "-o", folder, "--shard", "0/1"]
    assert cli.guarded(cli.parse([*embed, "--workers", "0", "--window", "1s"])) == 0
    assert "join all parts by `earsight merge`" in capsys.readouterr().out
    assert cli.guarded(cli.parse(["merge", folder, "-o", folder])) == 0
    assert f"the index is in {folder}" in capsys.readouterr().out


SCRIPT = """
import sys
from pathlib import Path
from earsight import api

if __name__ == "__main__":
    run, manifest, home = map(Path, sys.argv[1:])
    options = {"window": 0.5, "device": "cpu"}
    here = api.embed(run, manifest, home / "here", workers=0, **options)
    told = []
    there = api.embed(
        run, manifest, home / "ray", engine="ray", progress=lambda *at: told.append(at), **options
    )
    assert (there.windows, there.failures) == (here.windows, here.failures)
    print(there.parts, there.reused, told)
"""


def test_a_ray_cluster_of_this_machine_alone(finished, media, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    manifest, script = tmp_path / "corpus.parquet", tmp_path / "script.py"
    api.scan([str(media)], manifest, segment=0.5, min_duration=0.2, workers=0)
    script.write_text(SCRIPT)
    with tempfile.TemporaryDirectory(prefix="ray-") as place:  # sockets take short names alone
        environment = {**os.environ, "HOME": str(tmp_path), "RAY_TMPDIR": place}
        environment.pop("RAY_ADDRESS", None)
        done = subprocess.run(
            [sys.executable, str(script), str(finished), str(manifest), str(tmp_path)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3 0 [(1, 3), (2, 3), (3, 3)]\n", done.stdout
    assert files(tmp_path / "ray") == files(tmp_path / "here")


def test_engines_are_asked_for_rightly(finished, manifest, films, tmp_path):
    with pytest.raises(ValueError, match="shard: has no effect with an engine"):
        api.embed(finished, manifest, tmp_path / "i", engine="ray", shard="0/2")
    with pytest.raises(ValueError, match="workers: must be 1 or more"):
        api.embed(finished, manifest, tmp_path / "i", engine="ray", workers=0)
    with pytest.raises(ValueError, match="scan it once, and give that"):
        api.embed(finished, films, tmp_path / "i", engine="ray")
