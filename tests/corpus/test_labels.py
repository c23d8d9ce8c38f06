from pathlib import Path

import numpy as np
import pytest

from earsight.corpus.labels import labelled_columns, match_files, match_keys, read_labels

DIGITS = Path(__file__).parents[2] / "../shared/data/av-digits/labels.csv"


def written(tmp_path, text, name="labels.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_columns_cells_and_missing_ones(tmp_path):
    text = (
        '\ufefffile,digit,Split,mood\r\na/1.mp4, 7 ,train,\r\n\r\nb\\2.mp4,8,,"sad;calm, or so"\r\n'
    )
    labels = read_labels(written(tmp_path, text))
    assert labels.names == ["a/1.mp4", "b/2.mp4"]
    assert {name: cells.tolist() for name, cells in labels.columns.items()} == {
        "digit": ["7", "8"],
        "split": ["train", None],
        "mood": [None, "sad;calm, or so"],
    }


def test_tabs_and_a_first_column_of_any_name(tmp_path):
    labels = read_labels(written(tmp_path, "clip\tlabel\na b.mp4\tx, y\n", "labels.tsv"))
    assert labels.names == ["a b.mp4"]
    assert labels.columns["label"].tolist() == ["x, y"]
    same = read_labels(written(tmp_path, "clip\tlabel\na b.mp4\tx, y\n", "labels.txt"))
    assert same.names == labels.names


def test_the_column_of_paths_may_stand_anywhere(tmp_path):
    labels = read_labels(written(tmp_path, "label,Filename,key\nx,a.mp4,0000000000000001\n"))
    assert labels.names == ["a.mp4"]
    assert list(labels.columns) == ["label", "key"]


def test_only_the_column_of_paths_is_no_label(tmp_path):
    labels = read_labels(written(tmp_path, "path,key,File,filename\na.mp4,C major,x,y\n"))
    assert {name: texts.tolist() for name, texts in labels.columns.items()} == {
        "key": ["C major"],
        "File": ["x"],
        "filename": ["y"],
    }
    by_file = read_labels(written(tmp_path, "filename,file\nx,a.mp4\n"))
    assert (by_file.names, list(by_file.columns)) == (["a.mp4"], ["filename"])


def test_leading_zeros_stay(tmp_path):
    assert read_labels(written(tmp_path, "path,id\na,007\n")).columns["id"].tolist() == ["007"]


def test_matches_with_and_without_extension(tmp_path):
    labels = read_labels(
        written(
            tmp_path, "path,x\na/1,one\na/2.v1,two\n./a/3.mp4,three\ncafe\u0301,four\ngone,five\n"
        )
    )
    paths = ["a/1.mp4", "a/1.wav", "a/2.v1.mp4", "a/3.mp4", "a/4.mp4", "caf\u00e9.mkv", "b/1.mp4"]
    match = match_files(labels, paths)
    assert match.line.tolist() == [0, 0, 1, 2, -1, 3, -1]
    assert match.unmatched == ["gone"]
    columns = labelled_columns(labels, match.line)
    assert columns["x"].to_pylist() == ["one", "one", "two", "three", None, "four", None]


def test_the_whole_path_comes_before_the_stem(tmp_path):
    labels = read_labels(written(tmp_path, "path,x\na,stem\na.mp4,whole\n"))
    assert match_files(labels, ["a.mp4", "a.wav"]).line.tolist() == [1, 0]


def test_matches_keys(tmp_path):
    labels = read_labels(written(tmp_path, "key,x\n00000000000000FF,one\n0000000000000001,two\n"))
    match = match_keys(labels, np.array([255, 3], np.uint64))
    assert match.line.tolist() == [0, -1]
    assert match.unmatched == ["0000000000000001"]


def test_nothing_matches_is_an_error_that_shows_both(tmp_path):
    labels = read_labels(written(tmp_path, "path,x\nvideos/a.mp4,one\n"))
    with pytest.raises(ValueError, match=r"videos/a.mp4.*'a.mp4'.*relative"):
        match_files(labels, ["a.mp4"])
    keyed = read_labels(written(tmp_path, "key,x\n00000000000000ff,one\n"))
    with pytest.raises(ValueError, match="no key matches"):
        match_keys(keyed, np.array([1], np.uint64))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("train/0001.mp4,3\ntrain/0002.mp4,4\n", "the first line must name the columns"),
        ("path\na.mp4\n", "names no label"),
        ("path,x,x\na.mp4,1,2\n", "two columns are named 'x'"),
        ("path,Split,split\na.mp4,train,val\n", "columns 'Split' and 'split' would both be"),
        ("path,,x\na.mp4,1,2\n", "column 2 has no name"),
        ("path,x\na.mp4,1,2\n", "line 2 has 3 cells and the header 2"),
        ("path,x\na.mp4,1\n./a.mp4,2\n", "lines 2 and 3 both name 'a.mp4'"),
        ("path,x\n,1\n", "line 2 names no file"),
        ('path,x\n"a.mp4,1\n', "line 2"),
        ("path,x\nä,1\n".encode("latin-1"), "UTF-8"),
    ],
)
def test_what_cannot_be_read_says_why(text, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        read_labels(written(tmp_path, text))


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_labels(tmp_path / "labels.csv")


def test_a_header_without_labels(tmp_path):
    with pytest.raises(ValueError, match="no labels"):
        match_files(read_labels(written(tmp_path, "path,x\n")), ["a.mp4"])


@pytest.mark.skipif(not DIGITS.is_file(), reason="the shared data are not here")
def test_the_labels_of_av_digits():
    labels = read_labels(DIGITS)
    assert len(labels.names) == 2500
    assert set(labels.columns) == {"split", "digit", "speaker", "recording", "image"}
    assert sorted(set(labels.columns["digit"])) == list("0123456789")
