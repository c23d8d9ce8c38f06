"""Files within archives: named by place, checked, read from here or elsewhere."""

import io
import sys
import uuid
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earsight.media import members
from earsight.media.decode import decode
from earsight.media.members import (
    Member,
    address,
    file_behind,
    open_member,
    parse_member,
    suffix_of,
)
from earsight.media.open import open_media
from earsight.media.types import AudioRequest, ClipRequest, MediaError, VideoRequest

NAMES = st.text(st.characters(blacklist_characters="/\0", codec="utf-8"), min_size=1, max_size=20)


def member(archive, content, offset, *, length=None, checksum=None, name="a.mp4"):
    return Member(
        archive=str(archive),
        name=name,
        offset=offset,
        length=len(content) if length is None else length,
        checksum=zlib.crc32(content) if checksum is None else checksum,
    )


@given(
    st.lists(NAMES, min_size=1, max_size=4),
    NAMES,
    st.integers(0, 2**50),
    st.integers(0, 2**40),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=80)
def test_a_member_is_what_its_text_says(folders, name, offset, length, checksum):
    one = Member(
        archive="/".join(folders) + "/00001.tar",
        name=name,
        offset=offset,
        length=length,
        checksum=checksum,
    )
    assert parse_member(one.text) == one
    assert file_behind(one.text) == one.archive


@pytest.mark.parametrize(
    "path", ["a.mp4", "shards/00001.tar", "take #3+4+deadbeef.mp4", "a.tar/b#1+2", "a.zip/b#1+2+0a"]
)
def test_plain_paths_are_no_members(path):
    assert parse_member(path) is None
    assert file_behind(path) == path


def test_the_kind_is_that_of_the_member():
    assert suffix_of("shards/00001.tar/0a.MP4#512+10+00000000") == ".mp4"
    assert suffix_of("films/a.MKV") == ".mkv"


def test_addresses_keep_their_slashes():
    assert address("s3:/bucket/shards") == "s3://bucket/shards"
    assert address("memory://shards") == "memory://shards"
    for path in ("/home/shards", "shards", "C:/shards"):
        assert address(path) == path


@pytest.fixture
def archive(make, media, tmp_path):
    """A film at byte 700 of an archive, and that film as a file."""
    film = make.write(media / f"{uuid.uuid4()}.mp4", make.Video(), make.Audio(codec="flac"))
    path = tmp_path / "00000.tar"
    path.write_bytes(b"x" * 700 + film.read_bytes() + b"y" * 100)
    return path, film


def request(path):
    return ClipRequest(
        path=str(path),
        video=(VideoRequest(start=0.3, fps=10.0, frames=4, size=(48, 64)),),
        audio=(AudioRequest(start=0.2, duration=0.5, rate=16000),),
    )


def test_a_member_is_decoded_as_the_file_is(archive):
    path, film = archive
    found = decode(request(member(path, film.read_bytes(), 700).text))
    expected = decode(request(film))
    assert (found.video[0] == expected.video[0]).all()
    assert (found.audio[0] == expected.audio[0]).all()


def test_a_changed_byte_is_found(archive):
    path, film = archive
    content = film.read_bytes()
    changed = bytearray(path.read_bytes())
    changed[900] ^= 1
    path.write_bytes(changed)
    with pytest.raises(MediaError, match="checksum"):
        decode(request(member(path, content, 700).text))


def test_what_is_found_right_is_not_checked_again(archive, monkeypatch):
    path, film = archive
    one = member(path, film.read_bytes(), 700)
    open_member(one)
    monkeypatch.setattr(members.zlib, "crc32", lambda _: pytest.fail("checked twice"))
    open_member(one)


def test_few_marks_are_remembered(archive, monkeypatch):
    path, film = archive
    monkeypatch.setattr(members, "_REMEMBERED", 2)
    content = film.read_bytes()
    for length in range(1, 6):
        open_member(member(path, content[:length], 700))
        assert len(members._sound) <= 2


@pytest.mark.parametrize("cut", [0, 800])
def test_an_archive_that_is_cut_short_is_told_of(archive, cut):
    path, film = archive
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(MediaError, match="cut short"):
        open_member(member(path, film.read_bytes(), 700))


def test_a_length_beyond_the_archive_takes_no_memory(archive):
    path, film = archive
    with pytest.raises(MediaError, match="cut short"):
        open_member(member(path, film.read_bytes(), 700, length=2**50))


def test_a_missing_archive_is_told_of(tmp_path):
    with pytest.raises(MediaError, match="archive does not exist"):
        open_member(member(tmp_path / "no.tar", b"x", 0))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"#EXTM3U\nfile:///etc/passwd\n", "playlist"), (b"no film at all", "not a media file")],
)
def test_what_is_no_media_is_refused(tmp_path, content, reason):
    path = tmp_path / "00000.tar"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=reason), open_media(member(path, content, 0).text):
        pass


def test_a_member_elsewhere(archive):
    fsspec = pytest.importorskip("fsspec")
    path, film = archive
    place = f"memory://{uuid.uuid4()}/00000.tar"
    with fsspec.open(place, "wb") as file:
        file.write(path.read_bytes())
    content = film.read_bytes()
    assert open_member(member(place, content, 700)).read() == content
    with pytest.raises(MediaError, match="cut short"):
        open_member(member(place, content, 700, length=10**6))
    with pytest.raises(MediaError, match="does not exist"):
        open_member(member(place.replace("00000", "00001"), content, 700))


@pytest.fixture
def server(archive, monkeypatch):
    """A server whose answer, bytes or an error, the test sets."""
    _, film = archive
    answers = {}

    class System:
        def cat_file(self, path, start, end):
            if isinstance(answers["next"], Exception):
                raise answers["next"]
            return answers["next"]

    monkeypatch.setattr(members, "remote", lambda _: (System(), "00000.tar"))
    content = film.read_bytes()
    return answers, content, member(f"http://host/{uuid.uuid4()}/0.tar", content, 700)


def test_errors_of_a_server_are_told_and_pass(server):
    answers, _, one = server

    class ClientResponseError(Exception):
        pass

    answers["next"] = ClientResponseError("503, message='Service Unavailable'\nmore")
    with pytest.raises(
        MediaError, match=r"^cannot be read from its archive: 503, .*le'$"
    ) as caught:
        open_member(one)
    assert caught.value.passing


def test_a_server_that_sends_the_whole_archive_is_refused(server):
    answers, content, one = server
    answers["next"] = content + b"more"
    with pytest.raises(MediaError, match="sends more than the part that was asked for"):
        open_member(one)


def test_what_a_server_sends_is_checked_each_time(server):
    answers, content, one = server
    answers["next"] = content
    assert open_member(one).read() == content
    answers["next"] = b"?" + content[1:]
    with pytest.raises(MediaError, match="checksum"):
        open_member(one)


def test_without_fsspec_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "fsspec"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ValueError, match=r"earsight\[remote\]"):
        members.remote("s3://bucket/shards")


def test_an_unknown_kind_of_address_is_one_sentence():
    pytest.importorskip("fsspec")
    with pytest.raises(ValueError, match="cannot be reached"):
        members.remote("nosuch://bucket/shards")


def test_reading_goes_on_where_the_system_gives_less(monkeypatch):
    class Slow(io.BytesIO):
        def read(self, count=-1):
            return super().read(min(count, 3))

    assert members._all(Slow(b"abcdefgh"), 7) == b"abcdefg"
    assert members._all(Slow(b"abc"), 7) == b"abc"


def test_files_are_opened_as_before(make, media):
    path = make.write(media / "plain.mp4", make.Video())
    with open_media(Path(path)) as container:
        assert container.streams.video
