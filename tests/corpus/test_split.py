from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earsight.corpus.assemble import assemble
from earsight.corpus.discover import Found
from earsight.corpus.facts import Unread, fact_table
from earsight.corpus.manifest import Corpus, ScanSettings
from earsight.corpus.split import assign, folds_of, in_folds, split_by_group, usable
from earsight.media.types import AudioInfo, MediaInfo, VideoInfo


def info(video=3.0, audio=3.0, frames=48):
    return MediaInfo(
        duration=max(video, audio),
        video=None
        if not video
        else VideoInfo(
            stream=0,
            codec="h264",
            width=64,
            height=64,
            rotation=0,
            fps=16.0,
            frames=frames,
            start=0.0,
            duration=video,
            pixel_format="yuv420p",
        ),
        audio=None
        if not audio
        else AudioInfo(stream=1, codec="aac", rate=24000, channels=1, start=0.0, duration=audio),
    )


def corpus_of(*outcomes, groups=None, splits=None, copies=(), labels=()):
    files = [Found(f"{n:04}.mp4", "#1", 1, 1) for n in range(len(outcomes))]
    table = assemble(fact_table(files, outcomes), ScanSettings(), None).table

    def put(name, values, kind):
        return table.set_column(table.schema.get_field_index(name), name, pa.array(values, kind))

    if groups:
        table = put("group", groups, pa.large_string())
    if copies:
        table = put("duplicate_of", list(copies), pa.uint64())
    if splits:
        table = table.append_column("split", pa.array(splits, pa.string()))
    for name, texts in dict(labels).items():
        table = table.append_column(f"label:{name}", pa.array(texts, pa.string()))
    return Corpus(table=table, roots={"#1": "/videos"})


names = st.lists(st.text(max_size=3), min_size=1, max_size=60)


@given(names, st.floats(0, 1), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_groups_stay_whole_and_order_does_not_matter(groups, holdout, seed):
    array = np.array(groups, dtype=object)
    out = split_by_group(array, holdout, seed)
    assert not set(array[out]) & set(array[~out])
    order = np.random.default_rng(seed).permutation(len(array))
    np.testing.assert_array_equal(split_by_group(array[order], holdout, seed), out[order])
    if len(set(groups)) > 1 and 0 < holdout < 1:
        assert out.any()
        assert not out.all()
    if holdout == 0:
        assert not out.any()
    if holdout == 1:
        assert out.all()


def test_the_share_is_about_right_and_seeds_differ():
    groups = np.array([f"group {n // 3}" for n in range(30_000)], dtype=object)
    first, second = (split_by_group(groups, 0.1, seed) for seed in (0, 1))
    # 10,000 groups: within four standard deviations of a tenth.
    assert abs(first.mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 10_000)
    assert abs((first & second).mean() - 0.01) < 0.005


def test_a_group_stays_where_it_is_when_others_come():
    few = np.array([f"g{n}" for n in range(100)], dtype=object)
    many = np.array([f"g{n}" for n in range(500)], dtype=object)
    np.testing.assert_array_equal(split_by_group(few, 0.3, 7), split_by_group(many, 0.3, 7)[:100])


def test_no_rows():
    assert split_by_group(np.array([], dtype=object), 0.5, 0).shape == (0,)


def test_usable_by_task():
    corpus = corpus_of(
        info(),
        info(audio=0),
        info(video=0),
        info(video=0.04, frames=1),
        info(audio=0.5),
        Unread(reason="is broken", passing=False),
        info(video=0.5, frames=8, audio=0),
    )
    both = usable(corpus)
    assert both.mask.tolist() == [True] + [False] * 6
    assert both.left_out == {
        "no-audio": 2,
        "no-video": 1,
        "still": 1,
        "too-short": 1,
        "unreadable": 1,
    }
    silent = usable(corpus, audio_missing="silence")
    assert np.flatnonzero(silent.mask).tolist() == [0, 1]
    assert silent.left_out == {"no-video": 1, "still": 1, "too-short": 2, "unreadable": 1}
    sound = usable(corpus, task="audio")
    assert np.flatnonzero(sound.mask).tolist() == [0, 2, 3]
    pictures = usable(corpus, task="video")
    assert np.flatnonzero(pictures.mask).tolist() == [0, 1, 4]
    for chosen in (both, silent, sound, pictures):
        assert chosen.mask.sum() + sum(chosen.left_out.values()) == len(corpus)


def test_missing_sound_can_be_an_error_that_names_the_first():
    corpus = corpus_of(info(), *(info(audio=0) for _ in range(7)))
    with pytest.raises(ValueError, match=r"^7 instances have no sound: 0001.mp4, .*0005.mp4, …;"):
        usable(corpus, audio_missing="error")
    assert usable(corpus.select(np.arange(8) == 0), audio_missing="error").mask.all()
    with pytest.raises(ValueError, match=r"^7 instances have no sound"):
        usable(corpus, audio_missing="error", task="audio")
    assert usable(corpus, audio_missing="error", task="video").mask.all()


def test_copies_are_left_out_unless_asked_for():
    corpus = corpus_of(info(), info(), info(audio=0), copies=[None, 1, 1])
    assert usable(corpus).left_out == {"duplicate": 1, "no-audio": 1}
    assert usable(corpus, keep_duplicates=True).mask.tolist() == [True, True, False]


def test_without_splits_groups_are_drawn_among_what_is_used():
    corpus = corpus_of(*[info()] * 40, groups=[f"g{n % 20}" for n in range(40)])
    mask = np.arange(40) % 20 < 2
    split = assign(corpus, 0.5, 0, mask)
    np.testing.assert_array_equal(split.train | split.held_out, mask)
    assert not (split.train & split.held_out).any()
    assert split.train.sum() == split.held_out.sum() == 2  # one group of two each
    assert split.unused == 0
    everything = assign(corpus, 0.5, 0)
    np.testing.assert_array_equal(everything.train[20:], everything.train[:20])


def test_the_labels_splits_come_first():
    corpus = corpus_of(*[info()] * 5, splits=["train", "Val", "test", "train", "validation"])
    split = assign(corpus, 0.5, 0)
    assert split.train.tolist() == [True, False, False, True, False]
    assert split.held_out.tolist() == [False, True, False, False, True]
    assert split.unused == 1
    assert split.source == "the labels: val/validation"
    tested = assign(replace(corpus, table=corpus.table.slice(2, 2)), 0.5, 0)
    assert tested.held_out.tolist() == [True, False]


def test_what_no_line_puts_in_a_split_trains_unless_its_group_is_held_out():
    corpus = corpus_of(
        *[info()] * 4, splits=["train", "test", None, None], groups=["a", "b", "b", "c"]
    )
    split = assign(corpus, 0.5, 0)
    assert split.train.tolist() == [True, False, False, True]
    assert split.unused == 1


def test_with_only_a_training_split_groups_are_drawn_from_it():
    corpus = corpus_of(*[info()] * 20, splits=["train"] * 20)
    split = assign(corpus, 0.2, 0)
    assert 0 < split.held_out.sum() < 20
    assert (split.train ^ split.held_out).all()


def test_splits_that_cannot_be_used():
    with pytest.raises(ValueError, match=r"named 'train'; the labels name fold1, fold2"):
        assign(corpus_of(info(), info(), splits=["fold1", "fold2"]), 0.5, 0)
    with pytest.raises(ValueError, match="nothing is left to train on"):
        assign(corpus_of(info(), info(), splits=["test", "test"]), 0.5, 0)


def test_a_fold_is_held_out_and_the_others_train():
    labels = {"fold": ["1", "2", "02", "10", None]}
    corpus = corpus_of(*[info()] * 5, labels=labels, splits=["train"] * 5)
    assert folds_of(corpus) == (1, 2, 10)
    split = assign(corpus, 0.5, 0, np.arange(5) != 2, fold=2)
    assert split.train.tolist() == [True, False, False, True, False]
    assert split.held_out.tolist() == [False, True, False, False, False]
    assert (split.unused, split.source) == (1, "fold 2 of 3")


def test_numbered_splits_say_what_trains_and_what_is_held_out():
    labels = {
        "split2": ["Train", "test", None, "train", "val"],
        "split1": ["train", "train", "test", None, None],
        "split": ["x"] * 5,
    }
    corpus = corpus_of(*[info()] * 5, labels=labels)
    assert folds_of(corpus) == (1, 2)
    split = assign(corpus, 0.5, 0, fold=2)
    assert split.train.tolist() == [True, False, False, True, False]
    assert split.held_out.tolist() == [False, True, False, False, True]
    assert (split.unused, split.source) == (1, "official split 2 of 2")


def test_what_any_official_split_uses():
    splits = {"split1": ["train", "test", None, None], "split2": [None, "train", "test", None]}
    corpus = corpus_of(*[info()] * 4, labels=splits)
    assert in_folds(corpus).tolist() == [True, True, True, False]
    assert in_folds(corpus, np.arange(4) > 0).tolist() == [False, True, True, False]
    assert not in_folds(corpus_of(info())).any()


def test_folds_that_are_not_there():
    plain = corpus_of(info(), info(), labels={"mood": ["a", "b"]})
    assert folds_of(plain) == ()
    with pytest.raises(ValueError, match=r"no official split 1; .*'fold' .*columns are: mood"):
        assign(plain, 0.5, 0, fold=1)
    from_0 = corpus_of(info(), info(), labels={"fold": ["0", "1"]})
    with pytest.raises(ValueError, match=r"no official split 1; that takes .* numbers from 1"):
        assign(from_0, 0.5, 0, fold=1)
    folds = corpus_of(info(), info(), labels={"fold": ["1", "2"]})
    with pytest.raises(ValueError, match="no official split 3; it has 1, 2"):
        assign(folds, 0.5, 0, fold=3)
    with pytest.raises(ValueError, match="fold 1 of 2: no clip that can be used is held out"):
        assign(folds, 0.5, 0, np.array([False, True]), fold=1)
    with pytest.raises(ValueError, match="is left to train on"):
        assign(folds, 0.5, 0, np.array([True, False]), fold=1)
