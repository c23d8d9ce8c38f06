"""Parts of an index that are damaged, and files that cannot be reached for a while."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from earsight import api
from earsight.search import make
from earsight.search.index import read_index
from earsight.search.parts import part_path, passing, read_failures, read_part
from earsight.search.tables import format_hits


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(make, "_BLOCK", 2)


@pytest.fixture
def films(media, tmp_path):
    """Four films, and their manifest."""
    folder = tmp_path / "films"
    folder.mkdir()
    for path in sorted((media / "test").glob("*.mp4"))[:4]:
        shutil.copy(path, folder)
    api.scan([str(folder)], tmp_path / "corpus.parquet", workers=0)
    return folder


@pytest.fixture
def embed(finished, films):
    """Embed the films into an index beside them."""
    home = films.parent

    def run(**options):
        given = {"workers": 0, "device": "cpu", **options}
        return api.embed(finished, home / "corpus.parquet", home / "index", **given)

    return run


def cut(part):
    part.write_bytes(part.read_bytes()[:-100])


def flip(part):
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 16
    part.write_bytes(content)


def garble(part):
    """What says which files could not be read."""
    table = pq.read_table(part).replace_schema_metadata({b"failures": b"[["})
    pq.write_table(table, part)


@pytest.mark.parametrize("damage", [cut, flip, garble])
def test_a_damaged_part_is_named_with_a_remedy_that_works(embed, films, damage):
    index, query = films.parent / "index", films / "0000.mp4"
    embed()
    before = read_index(index)
    part = part_path(index, 1)
    damage(part)
    message = r"parts/000001\.parquet: is damaged; delete it and give the same `earsight embed`"
    with pytest.raises(ValueError, match=message):
        api.search(index, query)
    with pytest.raises(ValueError, match=message):
        api.serve(index, ready=print)
    with pytest.raises(ValueError, match=message):
        embed()
    part.unlink()
    assert embed().reused == 1
    assert read_index(index).key.tolist() == before.key.tolist()


def test_a_part_that_the_system_refuses_is_not_called_damaged(tmp_path):
    part = tmp_path / "000000.parquet"
    part.symlink_to(part)
    with pytest.raises(ValueError, match=r"000000\.parquet: cannot be read: too many levels"):
        read_part(part)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_comes_back_is_embedded(embed, films, workers):
    away = films.parent / "0001.mp4"
    (films / "0001.mp4").rename(away)
    report = embed(workers=workers)
    assert (report.files, report.passing) == (3, 1)
    assert "does not exist" in report.failures[0].reason
    assert "\0" not in report.failures[0].reason
    assert "1 of them may pass: the same `earsight embed` tries them again" in str(report)
    assert embed().files == 3
    away.rename(films / "0001.mp4")
    report = embed()
    assert (report.files, report.passing, report.failures, report.reused) == (4, 0, (), 1)
    assert embed().reused == 2


def test_a_bad_file_is_not_tried_again(embed, films):
    bad = films / "0001.mp4"
    bad.write_bytes(bytes(bad.stat().st_size))
    assert (embed().passing, embed().reused) == (0, 2)


def test_files_that_are_out_of_reach_make_no_part(embed, films):
    index, away = films.parent / "index", films.parent / "unmounted"
    films.rename(away)
    films.mkdir()
    shutil.copy(away / "0000.mp4", films)
    with pytest.raises(ValueError, match=r"of 1 of 2 blocks no file can be read now, such as .*it"):
        embed()
    with pytest.raises(ValueError, match="of 1 of 1 blocks"):
        embed(shard="1/2")
    assert [path.name for path in (index / "parts").iterdir()] == ["000000.parquet"]
    with pytest.raises(ValueError, match="is not finished: 1 of 2 parts"):
        read_index(index)
    shutil.rmtree(films)
    away.rename(films)
    assert embed().files == 4


def test_what_was_read_is_not_lost_when_more_is_out_of_reach(embed, films):
    first, second = films / "0000.mp4", films / "0001.mp4"
    second.rename(films.parent / "0001.mp4")
    embed()
    part = part_path(films.parent / "index", 0)
    before = part.read_bytes()
    first.rename(films.parent / "0000.mp4")
    assert embed().files == 3
    assert part.read_bytes() == before
    (films.parent / "0001.mp4").rename(second)
    assert embed().files == 3
    assert part.read_bytes() == before


def test_parts_of_earlier_versions_are_read_and_tried_again(embed, films):
    index = films.parent / "index"
    (films / "0001.mp4").rename(films.parent / "0001.mp4")
    embed()
    for number in range(2):
        path = part_path(index, number)
        table = pq.read_table(path)
        failures = json.loads(table.schema.metadata[b"failures"])
        for one in failures:
            del one["passing"]
        former = {b"failures": json.dumps(failures).encode()}
        pq.write_table(table.replace_schema_metadata(former), path)
    unread = read_failures(part_path(index, 0))
    assert passing(unread) == {one.key for one in unread}
    assert len(read_index(index).failures) == 1
    (films.parent / "0001.mp4").rename(films / "0001.mp4")
    report = embed()
    assert (report.files, report.reused) == (4, 1)
    table, unread = read_part(part_path(index, 0), ["path"])
    assert (set(table.column("path").to_pylist()), unread) == (
        {"0000.mp4", "0001.mp4"},
        (),
    )


def test_names_of_files_are_shown_without_control_characters(finished, films):
    wild = films / "a\x1b[31m\nb.mp4"
    (films / "0000.mp4").rename(wild)
    (films / "c\x1b.mp4").write_bytes(b"")
    index = films.parent / "wild"
    report = api.embed(finished, films, index, workers=0)
    found = api.search(index, wild)
    text = format_hits(found.by, found.hits) + str(report)
    assert "\x1b" not in text
    assert r"a\x1b[31m\nb.mp4" in text
    assert r"c\x1b.mp4: is empty" in text
    assert Path(found.hits[0].path).name == wild.name
