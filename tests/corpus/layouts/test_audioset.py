"""AudioSet, its draws and its ontology."""

import json

import pytest

from earsight.corpus.layouts import LayoutOptions, read_layout

COMMENTS = "# Segments csv created Sun Mar  5 10:54:31 2017\n# num_ytids=2\n# YTID, start, end, l\n"
UNBALANCED = COMMENTS + (
    '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n'
    '--aE2O5G5WE, 0.000, 10.000, "/m/03fwl"\n'
    '-0049e-Ui48, 12.500, 22.500, "/m/09x0r"\n'
)
CLASSES = (
    "index,mid,display_name\n"
    '0,/m/09x0r,"Speech"\n'
    '1,/t/dd00088,"Gush; spurt"\n'
    '2,/m/03fwl,"Goat, bleating"\n'
)


@pytest.fixture
def lists(text):
    text("unbalanced_train_segments.csv", UNBALANCED)
    text("eval_segments.csv", COMMENTS + 'zzzzzzzzzzz, 0.000, 10.000, "/m/03fwl"\n')
    text("class_labels_indices.csv", CLASSES)


def test_names_of_either_kind_and_several_labels(lists, media, scanned, told):
    media("train/--PJHxphWEs_30.mp4", "--aE2O5G5WE.webm", "x/-0049e-Ui48_12500.mp4")
    media("eval/zzzzzzzzzzz_0.000.wav", kind="sound")
    report, corpus = scanned("audioset")
    assert told(corpus, "label") == {
        "--aE2O5G5WE.webm": ("train", "Goat, bleating"),
        "eval/zzzzzzzzzzz_0.000.wav": ("test", "Goat, bleating"),
        "train/--PJHxphWEs_30.mp4": ("train", "Speech;Gush, spurt"),
        "x/-0049e-Ui48_12500.mp4": ("train", "Speech"),
    }
    assert report.absent.count == 0


def test_one_file_of_several_is_taken(lists, media, scanned, told):
    media("a/--PJHxphWEs_30.wav", kind="sound")
    media("b/--PJHxphWEs_30.mkv", "c/--PJHxphWEs.mp4")
    report, corpus = scanned("audioset")
    assert list(told(corpus)) == ["b/--PJHxphWEs_30.mkv"]
    assert report.unlisted.first == ["a/--PJHxphWEs_30.wav", "c/--PJHxphWEs.mp4"]
    assert report.absent.first == ["--aE2O5G5WE_0.mp4", "-0049e-Ui48_12.5.mp4", "zzzzzzzzzzz_0.mp4"]


def test_draws_depend_on_the_seed_alone_and_lie_within_larger_ones(text, root, lists):
    lines = [f'video{n:06}, 0.000, 10.000, "/m/09x0r"\n' for n in range(200)]
    text("unbalanced_train_segments.csv", COMMENTS + "".join(lines))

    def drawn(count, seed=None):
        items = read_layout("audioset", root, LayoutOptions(draw=count, seed=seed)).items
        assert [item.split for item in items].count("test") == 1
        return {item.candidates[-1] for item in items if item.split == "train"}

    small, large = drawn(20), drawn(100)
    assert (len(small), len(large)) == (20, 100)
    assert small < large
    assert drawn(20, seed=1) != small
    text("unbalanced_train_segments.csv", COMMENTS + "".join(reversed(lines)))
    assert drawn(20, seed=0) == small
    with pytest.raises(ValueError, match="201 training segments cannot be drawn from the 200"):
        drawn(201)


def test_ancestors_come_from_the_ontology(text, root, lists):
    with pytest.raises(ValueError, match=r"has no ontology.json"):
        read_layout("audioset", root, LayoutOptions(ancestors=True))
    nodes = [
        {"id": "/m/0dgw9r", "name": "Human sounds", "child_ids": ["/m/09l8g"]},
        {"id": "/m/09l8g", "name": "Human voice", "child_ids": ["/m/09x0r"]},
        {"id": "/m/09x0r", "name": "Speech", "child_ids": []},
    ]
    text("ontology.json", json.dumps(nodes))
    items = read_layout("audioset", root, LayoutOptions(ancestors=True)).items
    assert items[0].labels["label"] == "Speech;Gush, spurt;Human voice;Human sounds"
    assert items[1].labels["label"] == "Goat, bleating"
    text("ontology.json", "[1]")
    with pytest.raises(ValueError, match="is not AudioSet's ontology"):
        read_layout("audioset", root, LayoutOptions(ancestors=True))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--PJHxphWEs, 30.000, 40.000, /m/09x0r,/t/dd00088", "has 5 cells, not 4"),
        ('xPJHxphWEsx, soon, 40.000, "/m/09x0r"', "'soon' is no time"),
        ('xPJHxphWEsx, 30.000, 40.000, "/m/none"', "label '/m/none' is not in class_labels_"),
        ('--aE2O5G5WE, 30.000, 40.000, "/m/09x0r"', "is listed a second time, here for test and"),
    ],
)
def test_bad_lines_are_named(line, says, lists, text, root):
    text("eval_segments.csv", COMMENTS + line)
    with pytest.raises(ValueError, match=rf"eval_segments.csv: line 4: .*{says}"):
        read_layout("audioset", root)


@pytest.mark.parametrize(
    "name", ["unbalanced_train_segments.csv", "eval_segments.csv", "class_labels_indices.csv"]
)
def test_missing_lists_are_named(name, lists, root):
    (root / name).unlink()
    with pytest.raises(ValueError, match=name):
        read_layout("audioset", root)
