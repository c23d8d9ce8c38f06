"""Copies of archives that lie elsewhere."""

import os
import subprocess
import threading
import uuid
import zlib
from pathlib import Path

import pytest

from earsight.media.members import Member, open_member
from earsight.media.nearby import FOLDER, NearbyError, nearby
from earsight.media.types import MediaError

fsspec = pytest.importorskip("fsspec")

CONTENT = os.urandom(3000)


@pytest.fixture
def archive():
    """An archive in fsspec's memory; its address."""
    place = f"memory://{uuid.uuid4()}/00000.tar"
    with fsspec.open(place, "wb") as file:
        file.write(CONTENT)
    return place


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where copies go."""
    monkeypatch.setenv(FOLDER, str(tmp_path / "copies"))
    return tmp_path / "copies"


def member(place):
    part = CONTENT[100:900]
    return Member(archive=place, name="x.mp4", offset=100, length=800, checksum=zlib.crc32(part))


def gone(place):
    system, inside = fsspec.core.url_to_fs(place)
    system.rm(inside)


def test_an_archive_is_fetched_once_and_then_read_here(archive, folder):
    assert open_member(member(archive)).read() == CONTENT[100:900]
    (copy,) = folder.glob("*.tar")
    assert copy.read_bytes() == CONTENT
    gone(archive)
    assert open_member(member(archive)).read() == CONTENT[100:900]
    assert sorted(path.suffix for path in folder.iterdir()) == [".lock", ".tar"]


def test_without_a_folder_nothing_is_kept(archive, tmp_path, monkeypatch):
    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.chdir(tmp_path)
    assert nearby(archive, fsspec.core.url_to_fs) == ""
    assert open_member(member(archive)).read() == CONTENT[100:900]
    assert not list(tmp_path.iterdir())


def test_an_archive_that_is_gone_is_no_fault_of_the_folder(archive, folder):
    gone(archive)
    with pytest.raises(MediaError, match="does not exist"):
        open_member(member(archive))
    assert not list(folder.glob("*.part"))


class Slow:
    """A file system that lets others in while it reads, and counts its readers."""

    def __init__(self, error=None):
        self.error, self.opened, self.left = error, 0, [CONTENT[:1000], CONTENT[1000:], b""]

    def open(self, inside, mode):
        self.opened += 1
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def read(self, size):
        threading.Event().wait(0.05)
        if self.error is not None and len(self.left) == 2:
            raise self.error
        return self.left.pop(0)


def test_who_comes_meanwhile_waits(folder):
    system, found = Slow(), []

    def read():
        found.append(nearby("slow://x/0.tar", lambda _: (system, "x")))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert system.left == []
    assert (folder / Path(found[0]).name).read_bytes() == CONTENT


def test_a_network_that_fails_leaves_no_half_a_copy(folder):
    system = Slow(TimeoutError("the store is slow"))
    with pytest.raises(TimeoutError, match="the store is slow"):
        nearby("slow://x/0.tar", lambda _: (system, "x"))
    assert not list(folder.glob("*.tar")) + list(folder.glob("*.part"))


def test_a_folder_that_is_a_file_is_told(archive, folder):
    folder.write_text("")
    with pytest.raises(NearbyError, match=r"copies: no copy of memory.*can be kept there"):
        open_member(member(archive))


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A disk of 8 kB, of which hardly any is free."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        (place / "full").write_bytes(bytes(6000))
        monkeypatch.setenv(FOLDER, str(place))
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_one_sentence(archive, small_disk):
    with pytest.raises(NearbyError) as caught:
        open_member(member(archive))
    told = str(caught.value)
    assert told.startswith(f"{small_disk}: no copy of {archive} can be kept there (no space left")
    assert told.endswith("unset it to read clips where they are, and go on with --resume")
    assert not list(small_disk.glob("*.tar")) + list(small_disk.glob("*.part"))
    (small_disk / "full").unlink()
    assert open_member(member(archive)).read() == CONTENT[100:900]
