import dataclasses
import errno
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earsight.corpus import manifest
from earsight.corpus.assemble import assemble
from earsight.corpus.discover import Found
from earsight.corpus.facts import FACT_FIELDS, Unread, fact_table, known_facts
from earsight.corpus.manifest import Corpus, ScanSettings, read, write
from earsight.errors import FullDiskError
from earsight.media.types import AudioInfo, Limits, MediaInfo, VideoInfo


def info(duration=3.0, keyframes=(0.0,), audio=True):
    return MediaInfo(
        duration=duration,
        video=VideoInfo(
            stream=0,
            codec="h264",
            width=64,
            height=48,
            rotation=90,
            fps=16.0,
            frames=round(16 * duration),
            start=0.0,
            duration=duration,
            pixel_format="yuv420p",
            keyframes=keyframes,
        ),
        audio=AudioInfo(stream=1, codec="aac", rate=24000, channels=1, start=0, duration=duration)
        if audio
        else None,
        video_streams=1,
        audio_streams=int(audio),
        notes=("one", "two"),
    )


def facts_of(*outcomes):
    files = [Found(f"{n}.mp4", "#1", 10 + n, 1000 + n) for n in range(len(outcomes))]
    return fact_table(files, outcomes)


def corpus_of(*outcomes, **changes):
    scan = ScanSettings(**changes)
    table = assemble(facts_of(*outcomes), scan, None).table
    return Corpus(table=table, roots={"#1": "/videos"}, settings=scan)


def test_written_and_read_again(tmp_path):
    corpus = corpus_of(
        info(),
        Unread(reason="is odd", passing=True),
        info(25, tuple(np.arange(0, 25, 0.8)), audio=False),
        segment=10.0,
        limits=Limits(seconds=3.0),
    )
    write(corpus, tmp_path / "corpus.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.parquet"]
    again = read(tmp_path / "corpus.parquet")
    assert again.table.equals(corpus.table)
    assert again.roots == corpus.roots
    assert again.settings == corpus.settings
    assert len(again) == 5
    assert again.column("status").tolist() == ["ok", "unreadable", *["no-audio"] * 3]
    assert again.column("reason")[1] == "is odd"
    assert again.absolute(2) == "/videos/2.mp4"
    assert again.absolutes() == [f"/videos/{n}.mp4" for n in (0, 1, 2, 2, 2)]
    assert again.column("width").tolist() == [64, 0, 64, 64, 64]
    assert again.column("notes")[0] == "one; two"


def test_select_and_columns():
    corpus = corpus_of(info(), info(audio=False), info())
    chosen = corpus.select(corpus.column("status") == "ok")
    assert chosen.column("path").tolist() == ["0.mp4", "2.mp4"]
    assert chosen.column("key").dtype == np.uint64
    assert chosen.settings == corpus.settings
    with pytest.raises(ValueError, match="no label column 'digit'"):
        corpus.labels("digit")


def test_other_schemas_are_refused_with_the_remedy(tmp_path, monkeypatch):
    path = tmp_path / "corpus.parquet"
    monkeypatch.setattr(manifest, "SCHEMA", 99)
    write(corpus_of(info()), path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"schema 99.*reads schema 1; scan its sources again"):
        read(path)


def test_what_is_no_corpus_is_refused(tmp_path):
    path = tmp_path / "corpus.parquet"
    with pytest.raises(ValueError, match="make one with 'earsight scan"):
        read(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(ValueError, match="no corpus"):
        read(path)
    path.write_text("path,label\n")
    with pytest.raises(ValueError, match="no corpus"):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="no corpus"):
        read(path)
    with pytest.raises(ValueError, match=r"corpus"):
        read(tmp_path)


def test_a_truncated_corpus_is_refused(tmp_path):
    path = tmp_path / "corpus.parquet"
    write(corpus_of(info()), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        read(path)


def test_missing_columns_are_named(tmp_path):
    path = tmp_path / "corpus.parquet"
    corpus = corpus_of(info())
    write(dataclasses.replace(corpus, table=corpus.table.drop_columns(["key", "width"])), path)
    with pytest.raises(ValueError, match="lacks the columns key, width"):
        read(path)


def retold(path, change):
    """A manifest whose metadata are changed: the function is given them, or gives others."""
    table = pq.read_table(write_at(path))
    about = json.loads(table.schema.metadata[b"earsight"])
    changed = change(about)
    text = json.dumps(about if changed is None else changed)
    pq.write_table(table.replace_schema_metadata({b"earsight": text.encode()}), path)


def write_at(path):
    write(corpus_of(info()), path)
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda about: about["settings"].update(depth=3), "ScanSettings has depth"),
        (lambda about: about["settings"].update(segment="long"), "tells segment as 'long'"),
        (lambda about: about["settings"]["limits"].update(bytes=3), "Limits has bytes"),
        (lambda about: about["settings"].update(limits=3), "Limits is no table of names"),
        (lambda about: about["settings"].pop("limits") and None, "does not tell the settings"),
        (lambda about: about.pop("settings") and None, "does not tell the settings"),
        (lambda about: about.pop("roots") and None, "does not tell where its sources lie"),
        (lambda about: about.update(roots={"#1": 3}), "does not tell where its sources lie"),
        (lambda about: about.update(roots={}), "does not tell where the source #1 lies"),
        (lambda about: about.update(part={"number": 5, "of": 2}), "Part cannot be"),
        (lambda about: about.update(part={"number": 0}), "Part cannot be"),
        (lambda about: about.update(prepared={"crt": 3}), "Coding has crt"),
        (lambda about: about.update(cells="many"), "tells cells as 'many'"),
    ],
)
def test_what_a_newer_version_tells_is_refused_with_the_remedy(tmp_path, change, says):
    path = tmp_path / "corpus.parquet"
    retold(path, change)
    with pytest.raises(ValueError, match=rf"corpus\.parquet is damaged.*{says}.*scan its sources"):
        read(path, parts=True)


def test_metadata_that_are_no_table_are_refused(tmp_path):
    path = tmp_path / "corpus.parquet"
    retold(path, lambda about: [1, 2])
    with pytest.raises(ValueError, match=r"corpus\.parquet is no corpus, or is damaged"):
        read(path)
    table = pq.read_table(path).replace_schema_metadata({b"earsight": b"{no json"})
    pq.write_table(table, path)
    with pytest.raises(ValueError, match=r"corpus\.parquet is no corpus, or is damaged"):
        read(path)


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("size", ["10"], r"holds text \(string\) where whole numbers \(int64\)"),
        ("start", ["0"], "holds text .* where numbers"),
        ("path", [3], "holds whole numbers .* where text"),
        ("width", [2**40], "int64"),
        ("label:digit", [7], "holds whole numbers"),
    ],
)
def test_columns_of_other_kinds_are_refused(tmp_path, name, values, says):
    path = tmp_path / "corpus.parquet"
    corpus = corpus_of(info())
    kept = [one for one in corpus.table.column_names if one != name]
    table = corpus.table.select(kept).append_column(name, pa.array(values))
    write(dataclasses.replace(corpus, table=table), path)
    with pytest.raises(ValueError, match=rf"corpus\.parquet is damaged.*column {name}.*{says}"):
        read(path)


def test_types_that_another_program_widened_are_narrowed(tmp_path):
    path = tmp_path / "corpus.parquet"
    corpus = corpus_of(info())
    wide = corpus.table
    for name, kind in {"width": pa.int64(), "reason": pa.large_string()}.items():
        at = wide.schema.get_field_index(name)
        wide = wide.set_column(at, name, wide.column(name).cast(kind))
    write(dataclasses.replace(corpus, table=wide), path)
    assert read(path).table.equals(corpus.table)


def test_a_full_disk_leaves_the_earlier_corpus(tmp_path, monkeypatch):
    path = tmp_path / "corpus.parquet"
    write(corpus_of(info()), path)
    before = path.read_bytes()

    def full(table, file, **_):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(FullDiskError, match=r"no space left.*make room"):
        write(corpus_of(info(), info()), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_very_long_names_can_be_written(tmp_path):
    path = tmp_path / ("ü" * 120 + ".parquet")
    write(corpus_of(info()), path)
    assert len(read(path)) == 1


times = st.lists(st.floats(0, 99, width=32), max_size=12).map(sorted)


@given(st.lists(st.tuples(st.floats(1, 99), times), min_size=1, max_size=5), st.floats(1, 30))
@settings(max_examples=60, deadline=None)
def test_facts_come_back_whatever_the_cut(files, segment):
    facts = facts_of(*(info(duration, tuple(keyframes)) for duration, keyframes in files))
    scan = ScanSettings(segment=segment)
    corpus = Corpus(table=assemble(facts, scan, None).table, roots={}, settings=scan)
    assert known_facts(corpus).select(FACT_FIELDS.names).equals(facts)
    start, last = corpus.column("start"), np.float32(np.inf)
    path = corpus.column("path")
    for row, keyframes in enumerate(corpus.table["keyframes"].to_pylist()):
        more = row + 1 < len(corpus) and path[row + 1] == path[row]
        end = np.float32(start[row + 1]) if more else last
        assert all(np.float32(start[row]) <= time < end for time in keyframes)


def test_keyframes_at_the_edges_of_instances():
    """Stored in single precision, yet a keyframe at a start belongs to what starts there."""
    exact = corpus_of(info(7.0, tuple(0.7 * n for n in range(10))), segment=0.7, min_duration=0.5)
    assert [len(times) for times in exact.table["keyframes"].to_pylist()] == [1] * 10
    early = corpus_of(info(), info(3.0, (-0.25, 0.5)))
    assert early.table["keyframes"].to_pylist() == [[0.0], [-0.25, 0.5]]


def test_many_rows_are_chosen_and_counted_by_columns():
    small = corpus_of(*(info() for _ in range(1000)))
    table = pa.concat_tables([small.table] * 300)
    corpus = dataclasses.replace(small, table=table)
    chosen = corpus.select(corpus.column("start") == 0)
    assert len(chosen) == 300_000
    assert corpus.content().both.sum() == pytest.approx(900_000)
