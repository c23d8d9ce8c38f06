"""Kinetics and its part with sound."""

import pytest

from earsight.corpus.layouts import LayoutOptions, read_layout
from earsight.corpus.layouts.kinetics import SOUND_CLASSES

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"
TRAIN = HEADER + (
    "abseiling,-7kbO0v4hag,107,117,train,0\n"
    "playing drums,aaaaaaaaaaa,0,10,train,0\n"
    "playing drums,bbbbbbbbbbb,5,15,train,0\n"
    '"petting animal, not cat",ccccccccccc,1,11,train,0\n'
)
VAL = HEADER.replace(",is_cc", "") + "singing,ddddddddddd,20,30,validate\n"


@pytest.fixture
def lists(text):
    text("train.csv", TRAIN)
    text("annotations/validate.csv", "\ufeff" + VAL.replace("\n", "\r\n"))


def test_splits_and_labels_of_a_partial_download(lists, media, scanned, told):
    media(
        "train/abseiling/-7kbO0v4hag_000107_000117.mp4",
        "train/playing_drums/aaaaaaaaaaa_000000_000010.mkv",
        "anywhere/bbbbbbbbbbb_000005_000015.mp4",
        "val/singing/ddddddddddd_000020_000030.mp4",
        "val/singing/eeeeeeeeeee_000020_000030.mp4",
    )
    report, corpus = scanned("kinetics-400")
    assert told(corpus, "label") == {
        "anywhere/bbbbbbbbbbb_000005_000015.mp4": ("train", "playing drums"),
        "train/abseiling/-7kbO0v4hag_000107_000117.mp4": ("train", "abseiling"),
        "train/playing_drums/aaaaaaaaaaa_000000_000010.mkv": ("train", "playing drums"),
        "val/singing/ddddddddddd_000020_000030.mp4": ("val", "singing"),
    }
    assert report.statuses == {"ok": 4}
    assert (report.listed, report.absent.count) == (5, 1)
    absent = "train/petting animal, not cat/ccccccccccc_000001_000011.mp4"
    assert report.absent.first == [absent]
    assert report.unlisted.first == ["val/singing/eeeeeeeeeee_000020_000030.mp4"]
    assert not report.unmatched
    assert report.unlabelled == 0


def test_a_test_list_may_be_there_and_have_no_labels(lists, text, media, scanned, told):
    text("test.csv", "youtube_id,time_start,time_end,split\nfffffffffff,3,13,test\n")
    media("test/fffffffffff_000003_000013.mp4", "train/aaaaaaaaaaa_000000_000010.mp4")
    _, corpus = scanned("kinetics-700")
    assert told(corpus, "label") == {
        "test/fffffffffff_000003_000013.mp4": ("test", None),
        "train/aaaaaaaaaaa_000000_000010.mp4": ("train", "playing drums"),
    }


def test_videos_in_two_splits_are_told_and_the_same_clip_is_held_out(lists, text, root):
    text(
        "test.csv",
        HEADER + "yoga,-7kbO0v4hag,107,117,test,0\nyoga,aaaaaaaaaaa,50,60,test,0\n",
    )
    listing = read_layout("kinetics-400", root)
    splits = {item.candidates[-1]: item.split for item in listing.items}
    assert splits["-7kbO0v4hag_000107_000117.mp4"] == "test"
    assert splits["aaaaaaaaaaa_000000_000010.mp4"] == "train"
    assert splits["aaaaaaaaaaa_000050_000060.mp4"] == "test"
    assert listing.notes == [
        "videos listed in two splits: 2, such as -7kbO0v4hag: train (abseiling) and test (yoga)",
        "clips listed in two splits, and held out: 1",
    ]


def test_a_line_that_repeats_another_counts_once_unless_it_says_something_else(lists, text, root):
    text("train.csv", TRAIN + "abseiling,-7kbO0v4hag,107,117,train,1\n")
    assert len(read_layout("kinetics-400", root).items) == 5
    text("train.csv", TRAIN + "yoga,-7kbO0v4hag,107,117,train,0\n")
    with pytest.raises(ValueError, match=r"train.csv: line 6: .* is also listed as 'abseiling'"):
        read_layout("kinetics-400", root)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("abseiling,../../etc,107,117,train,0", "'../../etc' is no YouTube id"),
        ("abseiling,-7kbO0v4hag,early,117,train,0", "'early' is no time in seconds"),
        ("abseiling,-7kbO0v4hag,-1,117,train,0", "'-1' is no time"),
        ("abseiling,-7kbO0v4hag,107,117,train", "5 cells and the header 6"),
        ("abseiling,-7kbO0v4hag,107,117,validate,0", "of the split 'validate', in the list of tr"),
        (",-7kbO0v4hag,107,117,train,0", "has no label"),
        ('"abseiling,-7kbO0v4hag,107,117,train,0', "unexpected end of data"),
    ],
)
def test_bad_lines_are_named(line, says, lists, text, root):
    text("train.csv", HEADER + f"\n# a comment\n{line}\n")
    with pytest.raises(ValueError, match=rf"train.csv: line 4: .*{says}"):
        read_layout("kinetics-400", root)


def test_missing_and_wrong_lists(text, root, lists):
    text("train.csv", HEADER + "".join(f"c{n},v{n},0,10,train,0\n" for n in range(401)))
    with pytest.raises(ValueError, match=r"has 400; choose the layout of the release"):
        read_layout("kinetics-400", root)
    assert len(read_layout("kinetics-700", root).items) == 402
    text("train.csv", "a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"line 1: the header has no 'label'"):
        read_layout("kinetics-400", root)
    (root / "train.csv").unlink()
    with pytest.raises(ValueError, match=r"has no train.csv, .*put the official list at .*train"):
        read_layout("kinetics-400", root)
    text("other/train.csv", TRAIN)
    text("another/train.csv", TRAIN)
    with pytest.raises(ValueError, match="are both there"):
        read_layout("kinetics-400", root)


def test_nothing_downloaded_says_where_it_looked(lists, media, root, scanned):
    with pytest.raises(ValueError, match=r"none of the 5 .*train/abseiling/-7kbO0v4hag_000107_0"):
        scanned("kinetics-400")
    media("holiday.mp4")
    with pytest.raises(ValueError, match=rf"{root}: none .*1 other media, such as holiday.mp4"):
        scanned("kinetics-400")


def test_kinetics_sound_has_31_classes_or_those_of_a_file(lists, root, tmp_path):
    assert sum(not line.startswith("#") for line in SOUND_CLASSES.read_text().splitlines()) == 31
    listing = read_layout("kinetics-sound", root)
    assert {item.labels["label"] for item in listing.items} == {"playing drums", "singing"}
    assert len(listing.items) == 3
    assert "no clips of 29 of the classes: blowing nose" in listing.notes[0]
    chosen = tmp_path / "classes.txt"
    chosen.write_text("# mine\nAbseiling\nplaying_drums\n")
    listing = read_layout("kinetics-sound", root, LayoutOptions(classes=chosen))
    assert [item.labels["label"] for item in listing.items][:1] == ["abseiling"]
    assert not listing.notes
    chosen.write_text("swimming\n")
    with pytest.raises(ValueError, match="have none of these classes"):
        read_layout("kinetics-sound", root, LayoutOptions(classes=chosen))
    chosen.write_text("swimming\nSwimming\n")
    with pytest.raises(ValueError, match="line 2: swimming is listed a second time"):
        read_layout("kinetics-sound", root, LayoutOptions(classes=chosen))
