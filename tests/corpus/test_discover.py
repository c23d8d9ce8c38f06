import json
import os
import subprocess
import sys
import textwrap
import unicodedata
from pathlib import Path

import pytest

from earsight.corpus.discover import absolute_path, discover, parse_source


def make(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def paths(found):
    return [file.path for file in found.files]


def test_finds_media_recursively_in_order(tmp_path):
    for name in ("b/2.MP4", "b/1.mkv", "a.wav", "b/c/d/3.webm", "notes.txt", "noextension"):
        make(tmp_path / name)
    found = discover([str(tmp_path)])
    assert paths(found) == ["a.wav", "b/1.mkv", "b/2.MP4", "b/c/d/3.webm"]
    assert found.roots == {"#1": str(tmp_path)}
    assert found.skipped == []
    file = found.files[0]
    info = (tmp_path / "a.wav").stat()
    assert (file.size, file.mtime_ns) == (1, info.st_mtime_ns)
    assert absolute_path(file.path, file.root, found.roots["#1"]) == str(tmp_path / "a.wav")


def test_files_of_other_kinds_are_counted_once(tmp_path):
    for name in ("a.mp4", "b.TXT", "c/d.txt", "c/e.tar.gz", "README", ".hidden"):
        make(tmp_path / name)
    found = discover([str(tmp_path), f"{tmp_path}/"])
    assert paths(found) == ["a.mp4"]
    assert list(found.other.items()) == [(".txt", 2), ("", 1), (".gz", 1)]
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(ValueError, match=r"no media files found in .* \(4 files of other kinds\)"):
        discover([str(tmp_path)])


def test_kinds_can_be_printed_whatever_their_bytes(tmp_path):
    try:
        os.close(os.open(os.fsencode(tmp_path) + b"/x.\xff", os.O_CREAT))
    except OSError:
        pytest.skip("this file system has no such names")
    make(tmp_path / "a.mp4")
    assert discover([str(tmp_path)]).other == {".\\udcff": 1}


def test_rarer_names_of_known_containers_are_media(tmp_path):
    names = ["a.divx", "b.m2v", "c.m4b", "d.mpeg4", "e.ogm"]
    for name in names:
        make(tmp_path / name)
    assert paths(discover([str(tmp_path)])) == names


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    for name in (".hidden/a.mp4", "._a.mp4", "a.mp4"):
        make(tmp_path / name)
    assert paths(discover([str(tmp_path)])) == ["a.mp4"]


def test_named_sources_prefix_their_paths(tmp_path):
    make(tmp_path / "x/a.mp4")
    make(tmp_path / "y/a.mp4")
    found = discover([f"one={tmp_path}/x", f"two={tmp_path}/y"])
    assert paths(found) == ["one/a.mp4", "two/a.mp4"]
    assert found.roots == {"one": str(tmp_path / "x"), "two": str(tmp_path / "y")}
    at = found.files[1]
    assert absolute_path(at.path, at.root, found.roots[at.root]) == str(tmp_path / "y/a.mp4")


def test_a_folder_whose_path_has_an_equals_sign(tmp_path):
    make(tmp_path / "lr=0.1/a.mp4")
    assert paths(discover([str(tmp_path / "lr=0.1")])) == ["a.mp4"]


def test_equal_paths_from_two_sources_name_both(tmp_path):
    one, two = make(tmp_path / "x/a.mp4"), make(tmp_path / "y/a.mp4")
    with pytest.raises(ValueError, match="name the sources") as error:
        discover([str(tmp_path / "x"), str(tmp_path / "y")])
    assert str(one) in str(error.value)
    assert str(two) in str(error.value)


def test_names_that_differ_in_composition_only(tmp_path):
    name = "caf\u00e9.mp4"
    make(tmp_path / name)
    make(tmp_path / unicodedata.normalize("NFD", name))
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system does not tell the two names apart")
    with pytest.raises(ValueError, match="rename one"):
        discover([str(tmp_path)])


def test_the_same_source_twice_is_one(tmp_path):
    make(tmp_path / "a.mp4")
    found = discover([str(tmp_path), f"{tmp_path}/", str(tmp_path / "a.mp4")])
    assert paths(found) == ["a.mp4"]
    assert found.roots == {"#1": str(tmp_path)}


def test_two_folders_of_one_name(tmp_path):
    make(tmp_path / "x/a.mp4")
    make(tmp_path / "y/b.mp4")
    with pytest.raises(ValueError, match="each its own name"):
        discover([f"one={tmp_path}/x", f"one={tmp_path}/y"])


def test_unnamed_sources_side_by_side(tmp_path):
    make(tmp_path / "x/a.mp4")
    make(tmp_path / "y/b.mp4")
    found = discover([str(tmp_path / "x"), str(tmp_path / "y")])
    assert [absolute_path(f.path, f.root, found.roots[f.root]) for f in found.files] == [
        str(tmp_path / "x/a.mp4"),
        str(tmp_path / "y/b.mp4"),
    ]


def test_a_source_that_is_a_file_has_any_extension(tmp_path):
    file = make(tmp_path / "clip.bin")
    found = discover([str(file)])
    assert paths(found) == ["clip.bin"]
    assert paths(discover([f"name={file}"])) == ["name/clip.bin"]


def test_link_loops_end_and_a_links_files_keep_their_own_path(tmp_path):
    make(tmp_path / "z/a.mp4")
    (tmp_path / "z/up").symlink_to(tmp_path)
    (tmp_path / "a_link").symlink_to(tmp_path / "z")
    (tmp_path / "self.mp4").symlink_to(tmp_path / "self.mp4")
    found = discover([str(tmp_path)])
    assert paths(found) == ["z/a.mp4"]
    assert [(os.path.relpath(s.path, tmp_path), s.reason) for s in found.skipped] == [
        ("a_link", "leads to a folder that is scanned already"),
        ("self.mp4", found.skipped[1].reason),
        ("z/up", "leads to a folder that is scanned already"),
    ]
    assert "cannot be read" in found.skipped[1].reason


def test_linked_folders_and_files_from_elsewhere_are_followed(tmp_path):
    make(tmp_path / "far/deep/a.mp4")
    make(tmp_path / "far/b.mp4")
    (tmp_path / "here").mkdir()
    (tmp_path / "here/link").symlink_to(tmp_path / "far")
    (tmp_path / "here/c.mp4").symlink_to(tmp_path / "far/b.mp4")
    found = discover([str(tmp_path / "here")])
    assert paths(found) == ["c.mp4", "link/b.mp4", "link/deep/a.mp4"]


def test_broken_links_pipes_and_odd_names_are_named(tmp_path):
    make(tmp_path / "a.mp4")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe.mp4")
    odd = os.fsencode(tmp_path) + b"/\xff\xfe.mp4"
    try:
        os.close(os.open(odd, os.O_CREAT))
    except OSError:
        odd = b""
    found = discover([str(tmp_path)])
    assert paths(found) == ["a.mp4"]
    reasons = {Path(skip.path).name: skip.reason for skip in found.skipped}
    assert "no such file" in reasons["gone.mp4"]
    assert "regular" in reasons["pipe.mp4"]
    assert not odd or any("Unicode" in reason for reason in reasons.values())
    for skip in found.skipped:
        skip.path.encode()


def test_unicode_and_very_long_names(tmp_path):
    names = ["日本語/видео 🎬.mp4", "l" * 251 + ".mp4", "a\\b;c'\"\n.mp4"]
    for name in names:
        make(tmp_path / name)
    assert sorted(paths(discover([str(tmp_path)]))) == sorted(names)


def test_paths_longer_than_the_system_opens_are_named(tmp_path):
    make(tmp_path / "a.mp4")
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    found = discover([str(tmp_path)])
    assert paths(found) == ["a.mp4"]
    assert "too long" in found.skipped[0].reason


def test_nothing_found_says_so(tmp_path):
    make(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match=r"no media files found in .*such as \.mp4"):
        discover([str(tmp_path)])


@pytest.mark.parametrize(
    ("source", "says"),
    [("nowhere", "no such file"), ("name=nowhere", "no such file"), ("../x=.", "cannot name")],
)
def test_sources_that_cannot_be(source, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=says):
        parse_source(source)


def test_folders_that_are_closed_are_named(tmp_path):
    """As another user where the tests run as root, who may read everything."""
    make(tmp_path / "open/a.mp4")
    make(tmp_path / "open/closed/b.mp4")
    (tmp_path / "open/closed").chmod(0)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == tmp_path.owner() and folder.stat().st_mode & 0o077 == 0:
            folder.chmod(0o711)
    (tmp_path / "open").chmod(0o755)
    code = textwrap.dedent(
        """
        import json, os, sys
        from earsight.corpus.discover import discover
        if os.geteuid() == 0:
            os.setuid(65534)
        found = discover([sys.argv[1]])
        print(json.dumps([[f.path for f in found.files], found.skipped]))
        """
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "open")],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        (tmp_path / "open/closed").chmod(0o755)
    files, skipped = json.loads(done.stdout)
    assert files == ["a.mp4"]
    assert skipped == [[str(tmp_path / "open/closed"), "cannot be read: permission denied"]]
