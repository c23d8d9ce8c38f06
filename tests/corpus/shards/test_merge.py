"""Shards made in parts join to the folder that one call makes, to the byte."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from earsight import api, cli
from earsight.corpus import manifest as manifests
from earsight.corpus.manifest import read
from earsight.corpus.marks import marks
from earsight.corpus.part import Part
from earsight.corpus.shards.merge import merge_shards
from earsight.corpus.shards.prepare import prepare
from earsight.errors import FullDiskError
from earsight.media.types import Coding

QUICK = Coding(preset="ultrafast", crf=18, short_side=96, rate=16000)
SECONDS = 12.0
"""Those of the shards that the tests share."""


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def part(manifest, folder, number, of, **options):
    options = {"coding": QUICK, "shard_seconds": SECONDS, "workers": 0, **options}
    return prepare(manifest, folder, shard=Part(number=number, of=of), **options)


@pytest.fixture(scope="module")
def parts(manifest, tmp_path_factory):
    """Three parts in a folder each; nothing may be changed in them."""
    home = tmp_path_factory.mktemp("parts")
    reports = [part(manifest, home / str(number), number, 3) for number in range(3)]
    return [home / str(number) for number in range(3)], reports


def test_parts_in_folders_of_their_own(parts, shards, tmp_path):
    places, reports = parts
    report = api.merge(places[::-1], tmp_path / "s")
    assert files(tmp_path / "s") == files(shards.folder)
    assert replace(report, output="", seconds=0) == replace(shards.report, output="", seconds=0)
    assert sum(one.shards for one in reports) == shards.report.shards
    assert sum(one.clips for one in reports) == shards.report.clips
    assert sum(one.bytes for one in reports) == shards.report.bytes
    assert all(one.part == f"{number}/3" for number, one in enumerate(reports))
    assert "it is part 1/3; join all parts" in str(reports[1])
    archive = next((tmp_path / "s").glob("*.tar"))
    assert archive.stat().st_nlink == 2  # the same bytes, not a copy
    # Given again, it finds all that is there.
    api.merge(places, tmp_path / "s")
    assert files(tmp_path / "s") == files(shards.folder)


def test_parts_in_one_folder(manifest, shards, tmp_path):
    for number in (2, 0, 1):
        part(manifest, tmp_path / "s", number, 3)
        if number != 1:
            with pytest.raises(ValueError, match="no such corpus"):
                read(tmp_path / "s")
    assert [one.part for one in marks(tmp_path / "s")] == [Part(number=n, of=3) for n in range(3)]
    api.merge([tmp_path / "s"], tmp_path / "s")
    assert files(tmp_path / "s") == files(shards.folder)


def test_an_undivided_call_finishes_what_parts_began(manifest, shards, tmp_path):
    part(manifest, tmp_path / "s", 0, 2)
    report = prepare(manifest, tmp_path / "s", coding=QUICK, shard_seconds=SECONDS, workers=0)
    assert 0 < report.reused < report.shards
    assert files(tmp_path / "s") == files(shards.folder)


def test_more_parts_than_archives(manifest, shards, tmp_path):
    of = shards.report.shards + 2
    reports = [part(manifest, tmp_path / "s", number, of) for number in range(of)]
    assert [one.shards for one in reports] == [1] * shards.report.shards + [0, 0]
    merge_shards([tmp_path / "s"], tmp_path / "s")
    assert files(tmp_path / "s") == files(shards.folder)


def test_another_disk_gets_copies(parts, shards, tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    api.merge(parts[0], tmp_path / "s")
    assert files(tmp_path / "s") == files(shards.folder)
    assert next((tmp_path / "s").glob("*.tar")).stat().st_nlink == 1


def test_missing_parts_are_named(parts, tmp_path):
    with pytest.raises(ValueError, match=r"1 of 3 part is missing: 1/3; run `earsight prepare`"):
        api.merge([parts[0][0], parts[0][2]], tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("damage", ["gone", "short", "unfinished"])
def test_an_archive_that_is_not_whole_is_made_again(parts, manifest, shards, tmp_path, damage):
    places = [shutil.copytree(place, tmp_path / place.name) for place in parts[0]]
    if damage == "gone":
        (places[1] / "00001.tar").unlink()
    elif damage == "short":
        os.truncate(places[1] / "00001.tar", 1000)
    else:
        (places[1] / "00001.json").unlink()
    with pytest.raises(ValueError, match=r"00001\.tar is missing or not whole.*--shard 1/3 again"):
        api.merge(places, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    part(manifest, places[1], 1, 3)
    api.merge(places, tmp_path / "s")
    assert files(tmp_path / "s") == files(shards.folder)


def test_the_same_archive_twice_is_there_once_unless_it_differs(parts, manifest, shards, tmp_path):
    again = shutil.copytree(parts[0][1], tmp_path / "again")
    api.merge([*parts[0], again], tmp_path / "s")
    assert files(tmp_path / "s") == files(shards.folder)
    told = json.loads((again / "00001.json").read_text())
    first = next(iter(told["placed"].values()))
    first["checksum"] += 1
    (again / "00001.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"hold different 00001\.tar: of its \d+ clips 1 differ"):
        api.merge([*parts[0], again], tmp_path / "other")


def test_parts_of_other_settings_or_of_another_corpus_are_refused(parts, manifest, tmp_path):
    part(manifest, tmp_path / "p", 1, 3, coding=replace(QUICK, fps=8))
    with pytest.raises(ValueError, match=r"was made with another coding than"):
        api.merge([parts[0][0], tmp_path / "p", parts[0][2]], tmp_path / "s")
    other = tmp_path / "other.parquet"
    corpus = read(manifest)
    manifests.write(corpus.select(corpus.column("path") != corpus.column("path")[0]), other)
    with pytest.raises(ValueError, match="of another corpus than"):
        api.merge(parts[0], tmp_path / "s", corpus=other)
    with pytest.raises(ValueError, match="no such corpus"):
        api.merge(parts[0], tmp_path / "s", corpus=tmp_path / "gone.parquet")


def test_clips_that_could_not_be_made_are_named_in_the_end(films, tmp_path):
    moved = shutil.copytree(films, tmp_path / "films")
    place = tmp_path / "c.parquet"
    api.scan([str(moved)], place, labels=moved / "labels.csv", workers=0)
    bad = sorted(moved.glob("train/0*.mp4"))[1]
    bad.write_bytes(bytes(bad.stat().st_size))
    whole = prepare(place, tmp_path / "whole", coding=QUICK, shard_seconds=SECONDS, workers=0)
    for number in range(2):
        part(place, tmp_path / "s", number, 2)
    report = api.merge([tmp_path / "s"], tmp_path / "s")
    assert report.failed == whole.failed
    assert [one.path for one in report.failed] == [f"train/{bad.name}"]
    assert "1 clips could not be prepared" in str(report)
    assert files(tmp_path / "s") == files(tmp_path / "whole")


SCRIPT = """
import sys
from pathlib import Path
from earsight.corpus.part import Part
from earsight.corpus.shards.prepare import prepare
from earsight.media.types import Coding

if __name__ == "__main__":
    coding = Coding(preset="ultrafast", crf=18, short_side=96, rate=16000)
    part = Part(number=int(sys.argv[3]), of=2)
    options = {"coding": coding, "shard_seconds": 12.0, "workers": 0}
    prepare(sys.argv[1], Path(sys.argv[2]), shard=part, **options)
"""


def test_jobs_that_share_a_folder_and_one_that_is_killed(manifest, shards, tmp_path):
    script, folder = tmp_path / "script.py", tmp_path / "s"
    script.write_text(SCRIPT)
    jobs = [
        subprocess.Popen([sys.executable, str(script), str(manifest), str(folder), str(number)])
        for number in range(2)
    ]
    until = time.monotonic() + 60
    while not list(folder.glob(".*.tmp")) and not (folder / "00000.json").exists():
        assert time.monotonic() < until
        time.sleep(0.002)
    jobs[0].send_signal(signal.SIGKILL)
    assert [job.wait(60) for job in jobs] == [-signal.SIGKILL, 0]
    with pytest.raises(ValueError, match=r"1 of 2 part is missing: 0/2"):
        api.merge([folder], folder)
    part(manifest, folder, 0, 2)
    api.merge([folder], folder)  # takes away what the killed job has left, too
    assert files(folder) == files(shards.folder)


@pytest.fixture
def tiny_disk(tmp_path):
    """A disk of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def refuse_after(monkeypatch, count):
    """Have the disk be full at one of the next files."""
    real, seen = os.fsync, []

    def full(handle):
        seen.append(handle)
        if len(seen) > count:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)


def test_a_full_disk_is_one_sentence(tiny_disk, manifest, shards, tmp_path, capsys):
    command = ["prepare", str(manifest), "-o", str(tiny_disk / "s"), "--shard", "0/1"]
    code = cli.guarded(cli.parse([*command, "--workers", "0"]))
    said = capsys.readouterr().err
    assert code == 1
    assert said.count("\n") == 1
    assert "no space left on device" in said
    assert "give the same command again" in said
    left = [path.name for path in (tiny_disk / "s").iterdir()]
    assert not [name for name in left if name.endswith(".tmp")]
    with pytest.raises(FullDiskError, match=r"0000\d\.tar: could not be written"):
        part(manifest, tiny_disk / "t", 0, 1)
    left = [path.name for path in (tiny_disk / "t").iterdir()]
    assert not [name for name in left if name.endswith(".tmp")]
    assert "part-0-of-1.json" not in left
    # With room, the same command ends as if nothing had happened.
    shutil.copytree(tiny_disk / "t", tmp_path / "t")
    part(manifest, tmp_path / "t", 0, 1)
    api.merge([tmp_path / "t"], tmp_path / "t")
    assert files(tmp_path / "t") == files(shards.folder)


@pytest.mark.parametrize("count", [0, 2, 8])
def test_wherever_the_disk_fills_nothing_half_written_is_taken(
    manifest, shards, tmp_path, monkeypatch, count
):
    folder = tmp_path / "s"
    with monkeypatch.context() as patch:
        refuse_after(patch, count)
        with pytest.raises(FullDiskError, match=r"make room on the disk"):
            part(manifest, folder, 0, 1)
    assert not list(folder.glob(".*"))
    assert not marks(folder)
    whole = files(shards.folder)
    assert all(whole[name] == content for name, content in files(folder).items())
    part(manifest, folder, 0, 1)
    api.merge([folder], folder)
    assert files(folder) == whole


def test_a_merge_onto_a_full_disk(parts, shards, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "other")))
        refuse_after(patch, 4)
        with pytest.raises(FullDiskError, match="make room"):
            api.merge(parts[0], tmp_path / "s")
    assert not (tmp_path / "s" / "corpus.parquet").exists()
    api.merge(parts[0], tmp_path / "s")
    assert files(tmp_path / "s") == files(shards.folder)


def test_the_manifest_may_lie_in_an_object_store(manifest, shards, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    place = f"memory://{uuid.uuid4()}/corpus.parquet"
    with fsspec.open(place, "wb") as file:
        file.write(manifest.read_bytes())
    for number in range(2):
        part(place, tmp_path / "s", number, 2)
    merge_shards([tmp_path / "s"], tmp_path / "s")
    assert files(tmp_path / "s") == files(shards.folder)


def test_the_commands(manifest, tmp_path, capsys):
    command = ["prepare", str(manifest), "-o", str(tmp_path / "s"), "--preset", "tiny"]
    quick = ["--fps", "5", "--short-side", "64", "--workers", "0"]
    assert cli.guarded(cli.parse([*command, *quick, "--shard", "0/1"])) == 0
    assert "it is part 0/1; join all parts" in capsys.readouterr().out
    assert cli.guarded(cli.parse(["merge", str(tmp_path / "s"), "-o", str(tmp_path / "m")])) == 0
    assert f"give --corpus {tmp_path / 'm'} to train" in capsys.readouterr().out
    assert read(tmp_path / "m").prepared.rate == 8000
    assert cli.guarded(cli.parse([*command, "--engine", "ray", "--shard", "0/1"])) == 2
    assert "shard: has no effect with an engine" in capsys.readouterr().err
    assert cli.guarded(cli.parse(["merge", str(tmp_path), "-o", str(tmp_path / "n")])) == 2
    assert "holds neither shards nor an index" in capsys.readouterr().err


RAY = Path(__file__).with_name("ray_cluster.py")


@pytest.fixture
def short_place():
    """A folder whose name is short enough for those of sockets."""
    with tempfile.TemporaryDirectory(prefix="ray-") as place:
        yield place


def test_ray_does_the_parts_of_a_node_that_dies_again(manifest, tmp_path, short_place):
    pytest.importorskip("ray", reason="Ray is not installed")
    if sys.platform != "linux":
        pytest.skip("a cluster of several nodes on one machine takes Linux")
    whole = tmp_path / "whole"
    prepare(manifest, whole, coding=QUICK, shard_seconds=1.5, workers=0)
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "RAY_TMPDIR": short_place,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listens to this machine alone
    }
    command = [sys.executable, str(RAY), str(manifest), str(tmp_path / "s")]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "killed after" in done.stderr
    assert files(tmp_path / "s") == files(whole)


def test_without_ray_its_extra_is_named(manifest, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'earsight\[ray\]'"):
        api.prepare(manifest, tmp_path / "s", engine="ray")
    with pytest.raises(ValueError, match="workers: must be 1 or more"):
        api.prepare(manifest, tmp_path / "s", engine="ray", workers=0)
    assert not (tmp_path / "s").exists()
