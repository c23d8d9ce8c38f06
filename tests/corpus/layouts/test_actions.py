"""UCF-101 and HMDB-51, each with three official splits."""

import pytest

from earsight.corpus.layouts import read_layout
from earsight.corpus.split import assign, folds_of

UCF = [f"ApplyEyeMakeup/v_ApplyEyeMakeup_g0{n}_c01.avi" for n in (1, 8, 9)]
HMDB = ["April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "#20_Rhythm clap!_u; x_0.avi", "spare.avi"]


@pytest.fixture
def ucf(text):
    text("lists/classInd.txt", "1 ApplyEyeMakeup\r\n2 Archery\r\n")
    for number in range(3):
        trained = "".join(f"{name} 1\r\n" for at, name in enumerate(UCF) if at != number)
        text(f"lists/trainlist0{number + 1}.txt", trained)
        text(f"lists/testlist0{number + 1}.txt", f"{UCF[number]}\r\n")


@pytest.fixture
def hmdb(text):
    for number in range(3):
        uses = ["2" if at == number else "1" for at in range(2)] + ["0"]
        lines = "".join(f"{name} {use} \n" for name, use in zip(HMDB, uses, strict=True))
        text(f"splits/brush_hair_test_split{number + 1}.txt", lines)


def test_ucf_has_three_splits_the_first_of_which_is_the_split(ucf, media, scanned, told):
    media(f"UCF-101/{UCF[0]}", UCF[1].partition("/")[2])
    media(f"UCF-101/{UCF[2]}", kind="silent")
    report, corpus = scanned("ucf-101")
    assert report.statuses == {"ok": 2, "no-audio": 1}
    assert told(corpus, "label", "split1", "split2", "split3") == {
        f"UCF-101/{UCF[0]}": ("test", "ApplyEyeMakeup", "test", "train", "train"),
        UCF[1].partition("/")[2]: ("train", "ApplyEyeMakeup", "train", "test", "train"),
        f"UCF-101/{UCF[2]}": ("train", "ApplyEyeMakeup", "train", "train", "test"),
    }
    assert folds_of(corpus) == (1, 2, 3)
    held_out = {fold: assign(corpus, 0.5, 0, fold=fold).held_out.tolist() for fold in range(4)}
    assert held_out[0] == held_out[1] == [True, False, False]
    assert held_out[2] == [False, False, True]
    assert held_out[3] == [False, True, False]
    assert assign(corpus, 0.5, 0, fold=2).train.tolist() == [True, True, False]


def test_hmdb_has_odd_names_no_sound_and_videos_that_a_split_does_not_use(
    hmdb, media, scanned, told
):
    media(*(f"brush_hair/{name}" for name in HMDB), kind="silent")
    report, corpus = scanned("hmdb-51")
    assert report.statuses == {"no-audio": 3}
    assert told(corpus, "label", "split1", "split2") == {
        f"brush_hair/{HMDB[0]}": ("test", "brush_hair", "test", "train"),
        f"brush_hair/{HMDB[1]}": ("train", "brush_hair", "train", "test"),
        f"brush_hair/{HMDB[2]}": ("unused", "brush_hair", None, None),
    }
    for fold in (0, 1):
        split = assign(corpus, 0.5, 0, fold=fold)
        assert (split.train.sum(), split.held_out.sum(), split.unused) == (1, 1, 1)


def test_a_class_that_is_absent_does_not_take_the_files_of_another(text, media, scanned):
    text("classInd.txt", "1 A\n2 B\n")
    for number in (1, 2, 3):
        text(f"trainlist0{number}.txt", "B/v_1.avi 2\nA/v_1.avi 1\n")
        text(f"testlist0{number}.txt", "A/v_2.avi\n")
    media("A/v_1.avi", "A/v_2.avi")
    report, corpus = scanned("ucf-101")
    assert corpus.labels("label").tolist() == ["A", "A"]
    assert report.absent.first == ["B/v_1.avi"]


@pytest.mark.parametrize(
    ("name", "line", "says"),
    [
        ("trainlist01.txt", "v_ApplyEyeMakeup_g08_c01.avi 1", "is no path and number"),
        ("trainlist01.txt", "Swim/v.avi 1", "'Swim' is no class of classInd.txt"),
        ("trainlist01.txt", "Archery/v.avi 1", "Archery has number 2 in classInd.txt"),
        ("testlist01.txt", UCF[1], "is listed a second time, here for test and before for train"),
        ("classInd.txt", "ApplyEyeMakeup", "is no number and class"),
    ],
)
def test_bad_lines_of_ucf_are_named(name, line, says, ucf, text, root):
    text(f"lists/{name}", line)
    with pytest.raises(ValueError, match=rf"{name}: line 1: .*{says}"):
        read_layout("ucf-101", root)


def test_bad_lines_of_hmdb_are_named(hmdb, text, root):
    text("splits/brush_hair_test_split2.txt", "a.avi 1\n\nb.avi 3\n")
    with pytest.raises(ValueError, match=r"split2.txt: line 3: does not end with 0, 1 or 2"):
        read_layout("hmdb-51", root)
    text("splits/brush_hair_test_split2.txt", "a.avi 1\na.avi 2\n")
    with pytest.raises(ValueError, match=r"split2.txt: line 2: a.avi is listed a second time"):
        read_layout("hmdb-51", root)


def test_missing_lists_are_named(ucf, hmdb, root):
    (root / "lists/testlist03.txt").unlink()
    with pytest.raises(ValueError, match=r"has no testlist03.txt"):
        read_layout("ucf-101", root)
    (root / "splits/brush_hair_test_split3.txt").unlink()
    with pytest.raises(ValueError, match=r"brush_hair_test_split3.txt: is missing"):
        read_layout("hmdb-51", root)
    (root / "splits/brush_hair_test_split1.txt").unlink()
    with pytest.raises(ValueError, match=r"has no brush_hair_test_split1.txt"):
        read_layout("hmdb-51", root)
