"""What an index is made of, and what is said of files that are left out."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from earsight import api
from earsight.corpus.manifest import MEMBER_FIELDS, read
from earsight.corpus.manifest import write as write_manifest
from earsight.corpus.scan_report import shown
from earsight.corpus.shards.prepare import prepare
from earsight.media.types import Coding
from earsight.search.gather import left_out

OPTIONS = {"workers": 0, "device": "cpu"}


@pytest.fixture
def films(media, tmp_path):
    """Three films, of which one is a copy, and files that are bad in several ways."""
    folder = tmp_path / "films"
    folder.mkdir()
    for path in sorted((media / "test").glob("*.mp4"))[:2]:
        shutil.copy(path, folder)
    shutil.copy(folder / "0000.mp4", folder / "copy.mp4")
    return folder


def spoil(folder):
    (folder / "cut.mp4").write_bytes((folder / "0000.mp4").read_bytes()[:3000])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no film")
    (folder / "gone.mp4").symlink_to("nowhere.mp4")


def test_bad_files_of_a_folder_are_named(finished, films, tmp_path):
    spoil(films)
    report = api.embed(finished, films, tmp_path / "index", **OPTIONS)
    assert (report.files, report.left_out) == (2, 4)
    assert report.kinds == {"unreadable": 3, "copies of others": 1}
    text = str(report)
    assert "4 instances left out: unreadable (3), copies of others (1)" in text
    assert "  cut.mp4: is cut short or damaged" in text
    assert "  empty.mp4: is empty: it has no bytes" in text
    assert "  text.mp4: is not a media file" in text
    assert "1 could not be looked at:" in text
    assert f"  {shown(f'{films}/gone.mp4')}: cannot be read: no such file" in text
    tree = report.as_dict()
    assert ["empty.mp4", "is empty: it has no bytes"] in [list(one) for one in tree["first"]]
    assert len(tree["skipped"]) == 1


def test_many_bad_files_are_counted(finished, films, tmp_path):
    for number in range(12):
        (films / f"empty-{number:02}.mp4").write_bytes(b"")
    text = str(api.embed(finished, films, tmp_path / "index", **OPTIONS))
    assert "13 instances left out: unreadable (12), copies of others (1)" in text
    assert "empty-09.mp4: is empty" in text
    assert "empty-10.mp4" not in text
    assert "  … and 2 more" in text


def test_a_source_of_nothing_says_why(finished, films, tmp_path):
    spoil(films)
    with pytest.raises(ValueError, match=r"this run can embed: it is empty: it has no bytes$"):
        api.embed(finished, films / "empty.mp4", tmp_path / "index", **OPTIONS)
    for name in ("0000.mp4", "0001.mp4", "copy.mp4"):
        (films / name).unlink()
    with pytest.raises(ValueError, match=r"3 instances left out, such as cut\.mp4: it is cut sho"):
        api.embed(finished, films, tmp_path / "index", **OPTIONS)
    assert not (tmp_path / "index").exists()


def test_what_a_run_of_one_modality_lacks_is_said(films, tmp_path):
    api.scan([str(films)], tmp_path / "c.parquet", workers=0)
    corpus = read(tmp_path / "c.parquet")
    table = corpus.table
    at = table.schema.get_field_index("audio_stream")
    none = pa.array([-1] * len(corpus), table.schema.field(at).type)
    mute = replace(corpus, table=table.set_column(at, "audio_stream", none))
    mask, out = left_out(mute, ["audio"])
    assert not mask.any()
    assert out.first[0] == ("0000.mp4", "has no sound")
    mask, out = left_out(mute, ["video", "audio"])
    assert (mask.sum(), out.kinds) == (2, {"copies of others": 1})


def labelled(films, place):
    labels = films.parent / "labels.csv"
    labels.write_text("path,shape\n0000.mp4,round\n0001.mp4,flat\n")
    api.scan([str(films)], place, labels=labels, workers=0)


def test_a_folder_after_its_labelled_manifest_goes_on_and_keeps_the_labels(
    finished, films, tmp_path
):
    labelled(films, tmp_path / "c.parquet")
    api.embed(finished, tmp_path / "c.parquet", tmp_path / "index", **OPTIONS)
    report = api.embed(finished, films, tmp_path / "index", **OPTIONS)
    assert report.reused == report.parts
    assert read(tmp_path / "index" / "corpus.parquet").label_names == ("shape",)


def test_a_folder_after_prepared_shards_is_another_corpus(finished, films, tmp_path):
    labelled(films, tmp_path / "c.parquet")
    coding = Coding(preset="ultrafast", crf=18, short_side=96, rate=8000)
    prepare(tmp_path / "c.parquet", tmp_path / "shards", coding=coding, workers=0)
    api.embed(finished, tmp_path / "shards", tmp_path / "index", **OPTIONS)
    with pytest.raises(ValueError, match="an index with another corpus; choose another folder"):
        api.embed(finished, films, tmp_path / "index", **OPTIONS)


def test_a_former_manifest_that_is_damaged_is_made_again(finished, films, tmp_path):
    api.embed(finished, films, tmp_path / "index", **OPTIONS)
    (tmp_path / "index" / "corpus.parquet").write_bytes(b"PAR1")
    assert api.embed(finished, films, tmp_path / "index", **OPTIONS).reused == 1
    assert len(read(tmp_path / "index" / "corpus.parquet")) == 3


def test_clips_that_were_not_prepared_are_left_out_with_their_reason(finished, films, tmp_path):
    api.scan([str(films)], tmp_path / "c.parquet", min_duration=0.0, workers=0)
    coding = Coding(preset="ultrafast", crf=18, short_side=96, rate=8000)
    prepare(tmp_path / "c.parquet", tmp_path / "shards", coding=coding, workers=0)
    unplace(tmp_path / "shards", "has less than 1 s of picture and sound together")
    report = api.embed(finished, tmp_path / "shards", tmp_path / "index", **OPTIONS)
    assert (report.files, report.left_out, report.failures) == (1, 2, ())
    assert report.kinds == {"not prepared": 1, "copies of others": 1}
    why = "was left out by `earsight prepare`: it has less than 1 s of picture and sound together"
    assert report.first[0].reason == why


def unplace(folder, reason):
    """Make the second clip one that lies nowhere."""
    corpus = read(folder)
    table, out = corpus.table, np.arange(len(corpus)) == 1
    for name, none in (*((name, None) for name in MEMBER_FIELDS.names[:3]), ("reason", reason)):
        at = table.schema.get_field_index(name)
        values = [none if gone else x for gone, x in zip(out, table[name].to_pylist(), strict=True)]
        table = table.set_column(at, name, pa.array(values, table.schema.field(at).type))
    here = dict.fromkeys(corpus.roots, ".")
    write_manifest(replace(corpus, table=table, roots=here), folder / "corpus.parquet")
