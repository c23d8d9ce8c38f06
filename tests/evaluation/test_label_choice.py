"""Which label columns are classified by."""

import numpy as np
import pytest

from earsight.evaluation.labels import choose_labels, unlabelled
from earsight.evaluation.probe import hold_out_tenth

TRAIN = {
    "digit": np.array([0, 1, 2, 0, 1, -1]),
    "take": np.array([0, 1, 2, 3, 4, 5]),
    "room": np.array([0, 0, 0, 0, 0, -1]),
    "tags": np.ones((6, 3), np.uint8),
}
HELD_OUT = {
    "digit": np.array([1, 2, -1]),
    "take": np.array([6, 7, 0]),
    "room": np.array([0, 0, 0]),
    "tags": np.ones((3, 3), np.uint8),
}


def test_columns_that_no_classifier_can_be_scored_by_are_left_out_and_named() -> None:
    choice = choose_labels(TRAIN, HELD_OUT, ())
    assert list(choice.train) == list(choice.held_out) == ["digit"]
    assert set(choice.left_out) == {"take", "room", "tags"}
    assert "33 %" in choice.left_out["take"]
    assert "label room left out: fewer than two" in str(choice)


def test_a_column_asked_for_by_name_is_kept() -> None:
    choice = choose_labels(TRAIN, HELD_OUT, ("take",))
    assert list(choice.train) == ["take"]
    assert not choice.left_out
    assert str(choice) == ""


def test_a_column_with_no_held_out_label_is_left_out() -> None:
    held_out = {**HELD_OUT, "digit": np.array([-1, -1, -1])}
    assert "0 %" in choose_labels(TRAIN, held_out, ()).left_out["digit"]


def test_an_unknown_column_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no column 'digt'; it has digit, take, room, tags"):
        choose_labels(TRAIN, HELD_OUT, ("digt",))


def test_instances_without_a_label_are_counted() -> None:
    sides = {
        "training": {"a": np.array([0, 1, 1]), "b": np.array([0, -1, 1])},
        "held-out": {"a": np.array([0, 1]), "b": np.array([-1, -1])},
    }
    assert unlabelled(sides, " of fold 2") == [
        "label b: 1 of 3 training and 2 of 2 held-out instances of fold 2 have none and are left "
        "out"
    ]
    several = {"training": {"tags": np.array([[0, 0], [1, 1]], np.uint8)}}
    assert unlabelled(several) == [
        "label tags: 1 of 2 training instances have none and are left out"
    ]


def test_columns_of_official_splits_are_no_classes() -> None:
    names = ("fold", "split1", "split12", "splits", "digit")
    codes = dict.fromkeys(names, np.array([0, 1, 0, 1]))
    choice = choose_labels(codes, codes, ())
    assert list(choice.train) == ["splits", "digit"]
    assert "label fold left out: it tells official splits" in str(choice)
    assert list(choose_labels(codes, codes, ("fold",)).train) == ["fold"]


@pytest.mark.parametrize(
    ("codes", "groups", "kept"),
    [
        ([0] * 14 + [1], None, False),
        ([0] * 13 + [1, 1], None, True),
        ([0] * 14 + [1, 1], [*range(14), "b", "b"], False),
        ([0, 1, 2, 3], ["a", "b", "c", "d"], True),
        ([0, 1], None, False),
        ([0, 1, 1], ["a", "a", "a"], False),
    ],
)
def test_a_column_that_leaves_one_class_to_learn_is_left_out(codes, groups, kept) -> None:
    train = {"rare": np.array(codes)}
    names = None if groups is None else np.array(groups, dtype=object).astype(str)
    choice = choose_labels(train, train, (), names)
    assert (list(choice.train) == ["rare"]) == kept
    if len(np.unique(train["rare"])) < 2 or (names is not None and len(np.unique(names)) < 2):
        return
    for seed in range(20):
        held = hold_out_tenth(train["rare"], seed=seed, groups=names)
        assert (len(np.unique(train["rare"][~held])) >= 2) == kept
