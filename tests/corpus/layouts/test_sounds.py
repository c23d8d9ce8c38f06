"""ESC-50, ESC-10, DCASE 2014 and VGGSound."""

from pathlib import Path

import numpy as np
import pytest

from earsight.corpus.layouts import read_layout
from earsight.corpus.split import assign, folds_of, usable

ESC_10 = Path(__file__).parents[3] / "../shared/data/esc-10"

ESC = (
    "filename,fold,target,category,esc10,src_file,take\n"
    "1-100032-A-0.wav,1,0,dog,True,100032,A\n"
    "2-100210-A-36.wav,2,36,vacuum_cleaner,False,100210,A\n"
    "5-1-A-0.wav,5,0,dog,True,1,A\n"
)
VGG = (
    "---g-f_I2yQ,1,people marching,test\n"
    '--0PQM4-hqg,30,"waterfall, burbling; or so",train\n'
    "--0PQM4-hqh,130,playing drums,train\n"
)


def test_esc_50_in_folds(text, media, scanned, told):
    text("meta/esc50.csv", ESC)
    media("audio/1-100032-A-0.wav", "2-100210-A-36.ogg", kind="sound")
    report, corpus = scanned("esc-50")
    assert report.statuses == {"no-video": 2}
    assert told(corpus, "label", "fold") == {
        "2-100210-A-36.ogg": ("train", "vacuum_cleaner", "2"),
        "audio/1-100032-A-0.wav": ("test", "dog", "1"),
    }
    assert report.absent.first == ["audio/5-1-A-0.wav"]
    assert folds_of(corpus) == (1, 2)
    split = assign(corpus, 0.5, 0, usable(corpus, task="audio", keep_duplicates=True).mask, fold=2)
    assert split.held_out.tolist() == [True, False]
    assert split.train.tolist() == [False, True]


def test_esc_10_is_part_of_esc_50_or_folders(text, media, root, scanned, told):
    text("meta/esc50.csv", ESC)
    assert len(read_layout("esc-10", root).items) == 2
    (root / "meta/esc50.csv").unlink()
    media("001 - Dog bark/1-30226-A.wav", "010 - Fire crackling/5-4-A.wav", kind="sound")
    media("other.wav", kind="sound")
    report, corpus = scanned("esc-10")
    assert told(corpus, "label", "fold") == {
        "001 - Dog bark/1-30226-A.wav": ("test", "Dog bark", "1"),
        "010 - Fire crackling/5-4-A.wav": ("train", "Fire crackling", "5"),
    }
    assert report.unlisted.first == ["other.wav"]
    media("001 - Dog bark/6-1-A.wav", kind="sound")
    with pytest.raises(ValueError, match=r"6-1-A.wav: the name does not begin with its fold"):
        read_layout("esc-10", root)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1-1-A-0.wav,6,0,dog,True,1,A", "the fold '6' is none of 1 to 5"),
        ("1-1-A-0.wav,1,0,,True,1,A", "names no file or no category"),
        ("1-1-A-0.wav,1,0,dog", "has 4 cells and the header 7"),
        ("5-1-A-0.wav,1,0,dog,True,1,A", "is listed a second time"),
    ],
)
def test_bad_lines_of_esc_are_named(line, says, text, root):
    text("meta/esc50.csv", ESC + line)
    with pytest.raises(ValueError, match=rf"esc50.csv: line 5: .*{says}"):
        read_layout("esc-50", root)


def test_missing_lists_are_named(root):
    with pytest.raises(ValueError, match=r"has no esc50.csv"):
        read_layout("esc-50", root)
    with pytest.raises(ValueError, match=r"'001 - Dog bark/1-30226-A.ogg', and no esc50.csv"):
        read_layout("esc-10", root)
    with pytest.raises(ValueError, match=r"has no vggsound.csv"):
        read_layout("vggsound", root)


@pytest.mark.skipif(not ESC_10.is_dir(), reason="the shared data are not here")
def test_the_real_esc_10(root, scanned):
    root.rmdir()
    root.symlink_to(ESC_10.resolve())
    report, corpus = scanned("esc-10")
    assert report.statuses == {"no-video": 400}
    label, fold = corpus.labels("label"), corpus.labels("fold")
    assert np.unique(label, return_counts=True)[1].tolist() == [40] * 10
    assert np.unique(fold, return_counts=True)[1].tolist() == [80] * 5
    assert folds_of(corpus) == (1, 2, 3, 4, 5)
    for number in folds_of(corpus):
        split = assign(corpus, 0.1, 0, fold=number)
        assert (split.train.sum(), split.held_out.sum(), split.unused) == (320, 80, 0)
    assert (assign(corpus, 0.1, 0).held_out == assign(corpus, 0.1, 0, fold=1).held_out).all()


def test_dcase_by_folders(media, scanned, told):
    media("scenes-Development/bus01.wav", "scenes-Development/busystreet05.wav", kind="sound")
    media("scenes-eval/bus01.wav", "readme/bus02.wav", kind="sound")
    report, corpus = scanned("dcase-2014")
    assert told(corpus, "label") == {
        "scenes-Development/bus01.wav": ("train", "bus"),
        "scenes-Development/busystreet05.wav": ("train", "busystreet"),
        "scenes-eval/bus01.wav": ("test", "bus"),
    }
    assert report.unlisted.first == ["readme/bus02.wav"]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("development/bus01.wav", "evaluation/bus01.wav"),
        ("Train/audio/bus01.wav", "Test/audio/bus01.wav"),
        ("scenes/dev/bus01.wav", "scenes/eval/bus01.wav"),
        ("scenes_stereo/bus01.wav", "scenes_stereo_testset/bus01.wav"),
        ("development/bus01.wav", "unseen/bus01.wav"),
        ("devtest/bus01.wav", "eval/bus01.wav"),
    ],
)
def test_dcase_folders_may_be_called_otherwise(train, test, media, root):
    media(train, test, kind="sound")
    items = read_layout("dcase-2014", root).items
    assert {item.candidates[0]: item.split for item in items} == {train: "train", test: "test"}


@pytest.mark.parametrize(
    ("paths", "has"),
    [
        ([], "none"),
        (["dev/bus01.wav"], "dev"),
        (["dev/audio/bus01.wav"], "dev"),
        (["devtest/bus01.wav"], "devtest"),
        (["one/bus01.wav", "two/bus01.wav"], "one, two"),
        (["dev/bus01.wav", "train/bus01.wav", "eval/bus01.wav"], "dev, eval, train"),
        (["dev/bus01.wav", "one/bus01.wav", "two/bus01.wav"], "dev, one, two"),
    ],
)
def test_dcase_folders_that_cannot_be_told_apart(paths, has, media, root):
    media(*paths, kind="sound")
    looked_for = "whose name holds dev or train, and .* whose name holds eval or test, such as"
    with pytest.raises(ValueError, match=rf"{looked_for} .*; it has {has} \("):
        read_layout("dcase-2014", root)


def test_a_recording_of_dcase_that_names_no_scene(media, root):
    media("dev/bus01.wav", "eval/beach01.wav", kind="sound")
    with pytest.raises(ValueError, match=r"beach01.wav: 'beach' is no scene"):
        read_layout("dcase-2014", root)


def test_vggsound(text, media, scanned, told):
    text("vggsound.csv", VGG)
    media("video/---g-f_I2yQ_000001.mp4", "--0PQM4-hqg_000030.mp4")
    report, corpus = scanned("vggsound")
    assert told(corpus, "label") == {
        "--0PQM4-hqg_000030.mp4": ("train", "waterfall, burbling, or so"),
        "video/---g-f_I2yQ_000001.mp4": ("test", "people marching"),
    }
    assert report.absent.first == ["--0PQM4-hqh_000130.mp4"]


def test_bad_lines_of_vggsound_are_named(text, root):
    for line, says in {
        "--0PQM4-hqg,30,playing drums,train": "is listed a second time",
        "--0PQM4-hqi,30,playing drums,tran": "the split 'tran' is neither train nor test",
        "--0PQM4-hqi,30,,train": "has no label",
        "--0PQM4-hqi,30,playing drums": "has 3 cells, not 4",
    }.items():
        text("vggsound.csv", VGG + line)
        with pytest.raises(ValueError, match=rf"vggsound.csv: line 4: .*{says}"):
            read_layout("vggsound", root)
    text("vggsound.csv", VGG + "--0PQM4-hqg,90,playing drums,test\n")
    assert "videos listed in two splits: 1" in read_layout("vggsound", root).notes[0]
