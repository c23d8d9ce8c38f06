"""What evaluations say beside their figures, and what they refuse."""

import csv
import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest

from earsight import api
from earsight.evaluation import svm as svm_module
from earsight.evaluation.fits import Fitted, unfinished
from earsight.evaluation.probe import STRENGTHS
from earsight.training.run_folder import read_config
from earsight.training.setup import open_data

POOLED = ("evaluation.labels=[shape]", "evaluation.blocks=[pooled]", "evaluation.svm_layer=pooled")
CM_ACC = (
    "video_encoder.name=resnet3d",
    "video_encoder.depth=10",
    "video_encoder.width=4",
    "audio_encoder.name=resnet1d-audio",
    "audio_encoder.depth=10",
    "audio_encoder.width=4",
    "audio_encoder.bands=65",
    "method.dictionary=8",
    "method.pool=24",
    "method.momentum=0.9",
    "optimizer.milestones=[1]",
)


@pytest.fixture
def run(finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("evaluation"))
    return copy


@pytest.fixture
def labelled(media, tmp_path):
    """Scan the rendered clips with more label columns: a function of number and cells of a clip."""

    def make(more, name="more.parquet"):
        with (media / "labels.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        lines = [line | more(number, line) for number, line in enumerate(lines)]
        manifest, labels = tmp_path / name, tmp_path / "labels.csv"
        manifest.parent.mkdir(exist_ok=True)
        with labels.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
        api.scan([str(media)], manifest, labels=labels, workers=0)
        return manifest

    return make


def said(evaluation):
    return "\n".join(evaluation.details["notes"])


def labels_of(evaluation):
    return {row.label for row in evaluation.rows if row.label}


@pytest.mark.parametrize("task", ["probe", "svm"])
def test_what_was_fitted_stands_in_the_details(run, task):
    found = api.evaluate(run, task, settings=POOLED, seeds=2)
    fits = found.details["fits"]
    assert [(fit["modality"], fit["seed"], fit["baseline"]) for fit in fits] == [
        (modality, seed, baseline)
        for seed in (0, 1)
        for modality in ("video", "audio")
        for baseline in (False, True)
    ]
    known = STRENGTHS if task == "probe" else svm_module.STRENGTHS
    for fit in fits:
        assert (fit["task"], fit["label"], fit["block"], fit["fold"]) == (
            task,
            "shape",
            "pooled",
            0,
        )
        assert fit["C"] in known
        assert 0 <= fit["validation"] <= 1
    fitted_by = {"probe": "logistic regression", "svm": "one-vs-all linear SVMs"}[task]
    assert found.details["protocol"]["classifier"].startswith(fitted_by)
    assert found.details["protocol"]["preset"] == ""
    saved = json.loads((run / "evaluation" / f"{found.name}.json").read_text())
    assert saved["details"]["fits"] == fits


def test_fits_of_memory_are_told_too(run):
    fits = api.memory(run, settings=["evaluation.labels=[shape]"]).details["fits"]
    assert [fit["modality"] for fit in fits] == [
        name for name in ("video", "audio", "both") for _ in range(5)
    ]
    assert api.evaluate(run, "knn", settings=POOLED).details["fits"] == []


def test_a_fit_that_has_not_converged_is_told(run, monkeypatch):
    monkeypatch.setattr(svm_module, "_ITERATIONS", 1)
    found = api.evaluate(run, "svm", settings=POOLED)
    assert not all(fit["converged"] for fit in found.details["fits"])
    assert "classifiers have not converged with every C" in said(found)


def test_unfinished_fits_are_counted_and_the_first_is_named():
    whole = Fitted(
        task="svm", modality="audio", label="l", seed=0, C=1.0, validation=1.0, converged=True
    )
    assert unfinished([whole]) == []
    cut = Fitted(**asdict(whole) | {"converged": False, "block": "flat", "fold": 2})
    (text,) = unfinished([whole, cut, cut])
    assert text.startswith("2 of 3 classifiers have not converged")
    assert "the first: svm audio l flat fold 2;" in text


def test_a_label_that_does_not_fit_every_fold_is_left_out_of_all(run, labelled):
    def more(number, line):
        fold = 1 + number % 3
        return {"fold": str(fold), "part": "" if fold == 1 else "ab"[number % 2]}

    manifest = labelled(more)
    asked = {"corpus": manifest, "baseline": False}
    whole = api.evaluate(run, "knn", folds="all", **asked)
    assert "shape" in labels_of(whole)
    assert "part" not in labels_of(whole)
    assert "label part left out: in fold 1, the training split has only 0 %" in said(whole)
    assert "part" in labels_of(api.evaluate(run, "knn", folds=[2, 3], **asked))
    with pytest.raises(ValueError, match=r"^fold 1: no held-out instance has a label 'part'"):
        api.evaluate(run, "knn", folds="all", settings=["evaluation.labels=[part]"], **asked)


def test_classes_that_cannot_be_found_are_counted_and_named(run, labelled):
    def more(number, line):
        held_out = line["split"] != "train"
        return {
            "alone": f"clip {number}",
            "some": "new" if held_out and number % 2 else "old",
            "tags": "a;b" if number % 2 else "c",
        }

    manifest = labelled(more)
    found = api.evaluate(run, "retrieve", corpus=manifest, baseline=False)
    assert "label tags left out: it holds several labels for one clip, which ret" in said(found)
    settings = ["evaluation.labels=[alone, some, tags]"]
    named = api.evaluate(run, "retrieve", corpus=manifest, settings=settings, baseline=False)
    assert labels_of(named) == {"some", "tags"}
    assert "label alone: 12 held-out instances are left out of retrieval" in said(named)
    assert "and 7 more), and with them the label: nothing is left to find" in said(named)
    assert "label some: 6 held-out instances are left out" in said(named)
    assert "no training instance has their class (new)" in said(named)
    assert {row.n for row in named.rows if row.label == "some"} == {6}
    assert {row.n for row in named.rows if row.label == "tags"} == {12}


@pytest.mark.parametrize("task", ["knn", "retrieve"])
def test_seeds_of_what_draws_nothing_are_refused_or_told(run, task):
    with pytest.raises(ValueError, match=f"no effect on {task} without the random initialisation"):
        api.evaluate(run, task, seeds=2, baseline=False)
    found = api.evaluate(run, task, seeds=2, settings=POOLED)
    assert "seeds: the random initialisation alone is drawn anew" in said(found)
    assert "seeds:" not in said(api.evaluate(run, task, settings=POOLED))


def test_a_fold_beside_folds_is_refused(run):
    calls = (
        lambda settings: api.evaluate(run, "knn", folds=[1], settings=settings),
        lambda settings: api.finetune(
            run, modality="video", label="shape", folds="all", settings=settings
        ),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"data\.fold: has no effect beside folds"):
            call(["data.fold=2"])
        with pytest.raises(ValueError, match="has no folds"):
            call([])


def test_the_encoders_of_cm_acc_are_read_block_by_block(corpus, small, tmp_path):
    own = ("video_encoder", "audio_encoder", "method", "optimizer.milestones")
    plain = [text for text in small if not text.startswith(own)]
    quick = ("train.epochs=1", "train.epoch_samples=8")
    settings = [*plain, *CM_ACC, f"data.corpus={corpus}", *quick]
    run = tmp_path / "run"
    api.pretrain(api.configure("tiny-cm-acc", settings=settings), run, quiet=True)
    shape = ["evaluation.labels=[shape]"]
    probed = api.evaluate(run, "probe", settings=shape, baseline=False)
    blocks = {(row.modality, row.block) for row in probed.rows}
    assert blocks == {
        (name, block) for name in ("video", "audio") for block in ("pooled", "1", "2", "3", "4")
    }
    flat = api.evaluate(run, "svm", settings=[*shape, "evaluation.svm_clips=1"], baseline=False)
    assert {(row.modality, row.block) for row in flat.rows} == {
        ("video", "flat"),
        ("audio", "flat"),
    }
    assert "gives out no blocks" not in said(flat)
    trained = api.finetune(
        run,
        modality="audio",
        label="shape",
        preset="esc-50-probe",
        settings=[*quick, "train.batch=8", "evaluation.clips=1", "optimizer.milestones=[1]"],
        quiet=True,
    )
    assert {row.block for row in trained.rows} == {"1", "2", "3", "4"}
    assert trained.details["protocol"]["preset"] == "esc-50-probe"
    assert "linear layers with batch norm, Adam" in trained.details["protocol"]["classifier"]
    assert np.isfinite([row.value for row in trained.rows]).all()


def test_classes_that_were_not_learned_are_named(corpus, media, small, labelled, tmp_path):
    plain = [text for text in small if not text.startswith(("method", "optimizer"))]
    settings = [*plain, "method.label=shape", f"data.corpus={corpus}", *QUICK]
    run = tmp_path / "run"
    api.pretrain(api.configure("tiny-supervised", settings=settings), run, quiet=True)
    held_out = len(open_data(read_config(run)).held_out)

    def renamed(of):
        return lambda number, line: {"shape": of(line["shape"])}

    some = labelled(renamed(lambda shape: "new" if shape == "bar" else shape), "some.parquet")
    found = api.evaluate(run, "classify", corpus=some)
    (n,) = {row.n for row in found.rows}
    assert 0 < n < held_out
    assert (
        f"{held_out - n} held-out instances left out: without a shape that the classifier knows "
        "(it has not learned new)"
    ) in found.details["notes"]

    every = labelled(renamed(lambda shape: f"new {shape}"), "every.parquet")
    with pytest.raises(ValueError, match=r"it has learned bar, .* and they have new bar, .*by knn"):
        api.evaluate(run, "classify", corpus=every)
    assert "shape" in labels_of(api.evaluate(run, "knn", corpus=every, baseline=False))
    tuned = api.finetune(run, corpus=every, settings=QUICK, **TUNE)
    assert tuned.details["protocol"]["classes"]["shape"] > 1

    # Of other names, so that the run has learned from none of them.
    none = tmp_path / "none.parquet"
    shutil.copytree(media, tmp_path / "others" / "more")
    api.scan([str(tmp_path / "others")], none, workers=0)
    with pytest.raises(ValueError, match="has no column 'shape'; it has none"):
        api.evaluate(run, "classify", corpus=none)


def test_a_corpus_that_was_divided_in_another_way_since_is_noticed(labelled, small, tmp_path):
    def swapped(number, line):
        return {"split": {"train": "test", "test": "train"}[line["split"]]}

    manifest = labelled(lambda number, line: {})
    own, plain = tmp_path / "own", [f"data.corpus={manifest}", "train.epochs=1"]
    api.pretrain(api.configure("tiny", settings=[*small, *plain]), own, quiet=True)
    supervised = [*plain, "method.label=shape", "method.modality=audio", "train.batch=8"]
    told = tmp_path / "told"
    api.pretrain(api.configure("tiny-supervised", settings=supervised), told, quiet=True)
    assert "was divided in another way" not in said(api.evaluate(own, "retrieve"))
    labelled(swapped)
    assert "without their labels: " in said(api.evaluate(own, "retrieve"))
    with pytest.raises(ValueError, match="was divided in another way since; scan as before"):
        api.evaluate(told, "classify")


TUNE = {"modality": "video", "label": "shape", "quiet": True}
QUICK = ("train.epochs=1", "train.epoch_samples=8", "train.batch=8", "optimizer.warmup_steps=1")


def tuned(run, manifest):
    return api.finetune(run, corpus=manifest, settings=QUICK, **TUNE)


def test_a_fine_tuning_is_tested_anew_where_other_clips_are_held_out(run, labelled):
    first = tuned(run, labelled(lambda number, line: {}))
    again = tuned(run, labelled(lambda number, line: {"other": "column"}))
    assert again.time == first.time
    before = first.details["data"]
    changed = labelled(lambda number, line: {} if line["split"] == "train" else {"shape": "bar"})
    tested = tuned(run, changed)
    assert tested.details["data"]["learned"] == before["learned"]
    assert tested.details["data"]["tested"] != before["tested"]
    assert tested.seconds != first.seconds
    assert tested.weights == first.weights


def test_a_fine_tuning_of_other_clips_or_classes_is_refused(run, labelled):
    first = tuned(run, labelled(lambda number, line: {}))

    def swapped(number, line):
        return {"shape": {"bar": "tube", "tube": "bar"}.get(line["shape"], line["shape"])}

    with pytest.raises(ValueError, match="has learned from other clips or classes"):
        tuned(run, labelled(swapped))
    with pytest.raises(ValueError, match="delete the folder to train anew, or give the manifest"):
        tuned(run, labelled(swapped, name="elsewhere/more.parquet"))
    other = tuned(run, labelled(swapped, name="swapped.parquet"))
    assert other.weights != first.weights


def test_files_are_not_asked_of_memory(run, labelled):
    manifest = labelled(lambda number, _: {"take": str(number)})
    found = api.memory(run, corpus=manifest)
    assert {"shape", "material"} == labels_of(found)
    assert "label take left out" in said(found)


def test_a_rare_class_leaves_the_other_labels(run, labelled):
    # The fifth of five labelled clips is the one that is set aside.
    trained = iter("aaaab")

    def rare(_, line):
        return {"rare": next(trained, "") if line["path"].startswith("train") else "a"}

    manifest = labelled(rare)
    found = api.evaluate(run, "probe", corpus=manifest, baseline=False)
    assert labels_of(found) == {"shape", "material"}
    assert "label rare left out" in said(found)
    with pytest.raises(ValueError, match=r"label 'rare'.*evaluation\.labels"):
        api.evaluate(
            run, "probe", corpus=manifest, baseline=False, settings=["evaluation.labels=[rare]"]
        )


def test_classifiers_learn_from_the_share_that_the_run_had_and_say_so(corpus, small, tmp_path):
    config = api.configure("tiny", settings=[*small, f"data.corpus={corpus}", "data.share=0.5"])
    api.pretrain(config, tmp_path / "run", quiet=True)
    half = api.evaluate(tmp_path / "run", "knn", baseline=False)
    whole = api.evaluate(tmp_path / "run", "knn", baseline=False, settings=["data.share=1"])
    assert "50 % of the training clips" in said(half)
    assert "of the training clips" not in said(whole)
    facts = [one.details["protocol"]["instances"] for one in (half, whole)]
    assert 2 * facts[0] == facts[1]
