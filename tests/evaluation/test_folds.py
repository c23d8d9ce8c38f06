"""Folds that an evaluation goes by."""

import pytest

from earsight import api
from earsight.evaluation.folds import inherited_fold


def divided(corpus, fold):
    return api.configure("tiny", settings=[f"data.corpus={corpus}", f"data.fold={fold}"])


def test_a_fold_that_another_corpus_takes_from_the_run_is_told():
    (note,) = inherited_fold(divided("a.parquet", 2), divided("b.parquet", 2), ())
    assert "fold 2 of" in note
    assert "b.parquet is held out" in note


@pytest.mark.parametrize(
    ("corpus", "fold", "folds"),
    [("a.parquet", 2, ()), ("b.parquet", 1, ()), ("b.parquet", 2, "all"), ("b.parquet", 2, [1])],
    ids=["the run's corpus", "a fold of its own", "all folds", "some folds"],
)
def test_a_fold_that_was_asked_for_is_not(corpus, fold, folds):
    assert not inherited_fold(divided("a.parquet", 2), divided(corpus, fold), folds)


def test_nothing_is_told_where_the_run_had_no_fold():
    assert not inherited_fold(divided("a.parquet", 0), divided("b.parquet", 0), ())
