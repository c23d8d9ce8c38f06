"""Evaluations over folds and seeds, of one modality, by the papers' protocols."""

import csv
import json
import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from earsight import api
from earsight.config import ConfigError
from earsight.evaluation import tasks
from earsight.evaluation.results import read_evaluation
from earsight.presets import protocols
from earsight.presets.protocols import load_for

CPU = torch.device("cpu")
QUICK = ("train.epochs=1", "train.epoch_samples=8", "train.batch=8", "optimizer.milestones=[1]")


def tone(path, pitch, seed, seconds=1.5, rate=8000):
    """A sound file: a tone with some noise."""
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(time))
    wave = (0.3 * np.sin(2 * np.pi * pitch * time) + 0.02 * noise).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], layout="mono")
        frame.rate, frame.time_base = rate, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """A corpus of sounds alone: two classes, two folds."""
    folder = tmp_path_factory.mktemp("sounds")
    lines = [("path", "label", "fold")]
    for number in range(16):
        name = f"{number}.wav"
        tone(folder / name, (300, 1500)[number % 2], number)
        lines.append((name, ("low", "high")[number % 2], str(1 + number // 8)))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    manifest = folder / "sounds.parquet"
    api.scan([str(folder)], manifest, labels=folder / "labels.csv", workers=0)
    return manifest


@pytest.fixture
def run(finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("evaluation"))
    return copy


def values(evaluation):
    return {(r.modality, r.label, r.block, r.metric): r.value for r in evaluation.rows}


def test_sounds_alone_are_classified_over_all_folds_from_one_decoding(run, sounds):
    settings = ["evaluation.clips=2", "evaluation.svm_clips=2"]
    asked = {"corpus": sounds, "modality": "audio", "settings": settings}
    whole = api.evaluate(run, "svm", folds="all", **asked)
    assert len(list((run / "evaluation" / "features").iterdir())) == 2  # learned and random
    folds = [api.evaluate(run, "svm", folds=[fold], **asked) for fold in (1, 2)]
    for name in (("audio", "label", "flat", "Sample@1"), ("audio", "label", "flat", "Clip@1")):
        each = [values(fold)[name] for fold in folds]
        assert values(whole)[name] == pytest.approx(np.mean(each))
        spread = values(whole)[*name[:3], f"{name[3]}_deviation"]
        assert spread == pytest.approx(np.std(each, ddof=1))
    assert {row.n for row in whole.rows} == {16}
    for fold, one in zip(whole.details["repeats"], folds, strict=True):
        found = {r.metric: r for r in one.rows}["Sample@1"]
        assert fold["figures"]["svm/audio/label/Sample@1"] == found.value
        assert fold["baselines"]["svm/audio/label/Sample@1"] == found.baseline
    assert whole.details["protocol"]["folds"] == [1, 2]
    assert whole.details["protocol"]["classes"] == {"label": 2}
    assert "Mean over folds 1, 2" in whole.protocol
    for name, found in (("fold1-2", whole), ("fold1", folds[0]), ("fold2", folds[1])):
        saved = read_evaluation(run / "evaluation" / f"svm-audio-sounds-{name}.json")
        assert saved.rows == found.rows


def test_seeds_give_a_mean_and_its_interval(run):
    one = api.evaluate(run, "knn", seeds=1)
    three = api.evaluate(run, "knn", seeds=3)
    name = ("video", "shape", "pooled", "accuracy")
    assert values(three)[name] == values(one)[name]
    assert values(three)[*name[:3], "accuracy_deviation"] == 0
    assert values(three)[*name[:3], "accuracy_low"] == values(one)[name]
    assert three.details["protocol"]["seeds"] == [0, 1, 2]
    before = {r.modality: r.baseline for r in one.rows if r.metric == "accuracy"}
    after = {r.modality: r.baseline for r in three.rows if r.metric == "accuracy"}
    assert before != after  # other random initialisations


def test_a_protocol_names_the_instances_that_were_fitted_on(run):
    few = api.evaluate(run, "knn", settings=["evaluation.probe_samples=5"], baseline=False)
    assert few.details["protocol"]["instances"] == 5


def test_retrieval_by_class_goes_in_four_directions(run):
    found = api.evaluate(run, "retrieve")
    directions = {row.modality for row in found.rows if row.label == "shape"}
    assert directions == {"video-video", "audio-audio", "video-audio", "audio-video"}
    assert {row.metric for row in found.rows if row.label} == {
        *(f"R@{k}" for k in (1, 5, 10, 20)),
        "median_rank",
        "mAP",
    }


def test_memory_is_that_of_the_bank(run):
    found = api.memory(run, seeds=2)
    assert {row.modality for row in found.rows} == {"video", "audio", "both"}
    assert "memory bank" in found.protocol
    assert json.loads((run / "evaluation" / "memory-2seeds.json").read_text())["seed"] == 0
    saved = api.agreement(run)
    own = {(r.modality, r.label, r.metric): r.value for r in saved.rows if r.task == "memory"}
    first = api.memory(run)
    assert {(r.modality, r.label, r.metric): r.value for r in first.rows} == own


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"task": "probe", "modality": "video"}, "no clip can be used .*no-video.*scan a folder"),
        ({"task": "probe"}, "no clip can be used"),
        ({"task": "svm", "modality": "audio", "folds": [3]}, "has no fold 3; it has 1, 2"),
        ({"task": "svm", "modality": "smell"}, "'smell' is none of this run"),
        ({"task": "sing"}, "no evaluation; choose one of"),
    ],
)
def test_what_cannot_be_evaluated_is_said(run, sounds, options, reason):
    with pytest.raises(ValueError, match=reason):
        api.evaluate(run, corpus=sounds, **options)


def relabelled(sounds, folder, change):
    """The corpus of sounds with other labels: ``change`` maps a line's cells."""
    source = sounds.parent / "labels.csv"
    with source.open(newline="") as file:
        head, *lines = csv.reader(file)
    lines = [
        line for line in (change(dict(zip(head, cells, strict=True))) for cells in lines) if line
    ]
    labels, manifest = folder / "other.csv", folder / "other.parquet"
    with labels.open("w", newline="") as file:
        writer = csv.DictWriter(file, head)
        writer.writeheader()
        writer.writerows(lines)
    report = api.scan([str(sounds.parent)], manifest, labels=labels, workers=0)
    return manifest, report


def test_clips_without_a_label_are_left_out_and_absent_files_told(run, sounds, tmp_path):
    def change(line):
        number = int(line["path"].removesuffix(".wav"))
        if number == 15:
            return line | {"path": "gone.wav"}
        return line | ({"label": ""} if number % 4 == 0 else {})

    manifest, report = relabelled(sounds, tmp_path, change)
    assert report.unmatched == ["gone.wav"]
    asked = {"corpus": manifest, "modality": "audio", "folds": [1], "baseline": False}
    for task in ("knn", "retrieve"):
        found = api.evaluate(run, task, **asked)
        assert {row.n for row in found.rows} == {6}  # of eight, two without a label
        assert (
            "label label: 2 of 7 training and 2 of 8 held-out instances of fold 1 have none and "
            "are left out"
        ) in found.details["notes"]


def test_files_that_are_gone_since_the_scan_are_told(run, sounds, tmp_path):
    media = tmp_path / "media"
    shutil.copytree(sounds.parent, media, ignore=shutil.ignore_patterns("*.parquet"))
    manifest = tmp_path / "gone.parquet"
    api.scan([str(media)], manifest, labels=media / "labels.csv", workers=0)
    asked = {"corpus": manifest, "modality": "audio", "folds": [1], "baseline": False}
    (media / "3.wav").unlink()
    found = api.evaluate(run, "knn", **asked)
    assert {row.n for row in found.rows} == {7}
    (said,) = (note for note in found.details["notes"] if "could not be read" in note)
    assert said.startswith(f"1 instances could not be read and are left out, the first {media}")
    for number in range(8):
        (media / f"{number}.wav").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="no clip could be read for the evaluation; scan the sour"):
        api.evaluate(run, "knn", **asked)
    with pytest.raises(ValueError, match=r"8 of 8 files are gone since the scan, such as .*\.wav"):
        api.evaluate(run, "knn", **asked | {"folds": [2]})


def test_sounds_cannot_train_the_encoder_of_pictures(run, sounds):
    with pytest.raises(ValueError, match=r"no clip can be used \(16 no-video\); scan a folder"):
        api.finetune(run, modality="video", label="label", corpus=sounds, quiet=True)
    assert not (run / "evaluation").exists()


def test_encoders_that_give_out_no_blocks_are_told_apart(run, sounds, monkeypatch):
    monkeypatch.setattr(tasks, "has_blocks", lambda module: False)
    asked = {"corpus": sounds, "modality": "audio", "folds": [1], "baseline": False}
    with pytest.raises(ValueError, match=r"audio gives out no blocks .*svm_layer=pooled"):
        api.evaluate(run, "svm", preset="esc-50-svm", **asked)
    pooled = ["evaluation.svm_layer=pooled", "evaluation.clips=1", "evaluation.svm_clips=1"]
    found = api.evaluate(run, "svm", preset="esc-50-svm", settings=pooled, **asked)
    assert {row.block for row in found.rows} == {"pooled"}
    probed = api.evaluate(run, "probe", **asked)
    assert any("only its pooled features can be" in note for note in probed.details["notes"])


def test_one_class_alone_is_said(run, sounds, tmp_path):
    manifest, _ = relabelled(sounds, tmp_path, lambda line: line | {"label": "same"})
    with pytest.raises(ValueError, match="label label left out: fewer than two of its classes"):
        api.evaluate(run, "svm", corpus=manifest, modality="audio", folds=[1])


def test_more_clips_than_a_file_is_long_overlap_or_are_the_same(run, sounds):
    asked = {"corpus": sounds, "modality": "audio", "folds": [1], "baseline": False}
    settings = ["evaluation.clips=30", "evaluation.labels=[label]"]
    found = api.evaluate(run, "knn", settings=settings, **asked)
    assert {row.n for row in found.rows} == {8}
    # Of 1.5 s there are many clips of 1 s.
    assert not any("evaluation.clips" in note for note in found.details["notes"])


def test_clips_that_are_the_same_are_told(run, tmp_path):
    media = tmp_path / "media"
    media.mkdir()
    for number in range(8):
        tone(media / f"{number}.wav", (300, 1500)[number % 2], number, seconds=1.0 + number // 7)
    lines = [(f"{n}.wav", ("low", "high")[n % 2], ("train", "test")[n // 4]) for n in range(8)]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *lines])
    manifest = tmp_path / "short.parquet"
    api.scan([str(media)], manifest, labels=tmp_path / "labels.csv", workers=0)
    said = (
        "evaluation.clips=3: 3 of 4 held-out instances are no longer than one clip, so that all of "
        "their clips are the same"
    )
    asked = {"corpus": manifest, "modality": "audio", "settings": ["evaluation.clips=3"]}
    assert said in api.evaluate(run, "knn", **asked).details["notes"]
    asked["settings"] = ["train.epochs=1", "train.batch=4", "evaluation.clips=3"]
    tuned = api.finetune(run, label="label", quiet=True, **asked)
    assert said in tuned.details["notes"]


def test_folds_of_a_corpus_without_any_are_refused(run):
    with pytest.raises(ValueError, match="has no folds"):
        api.evaluate(run, "knn", folds="all")


def test_finetuning_over_folds_trains_each_and_averages(run, sounds):
    asked = {"modality": "audio", "label": "label", "corpus": sounds, "quiet": True}
    settings = ["train.epochs=1", "train.epoch_samples=8", "train.batch=4"]
    found = api.finetune(run, folds="all", settings=settings, **asked)
    folders = sorted(p.name for p in (run / "evaluation" / "finetune").iterdir())
    assert folders == [
        "audio-label-100pc-seed0-fold1-sounds",
        "audio-label-100pc-seed0-fold2-sounds",
    ]
    each = [read_evaluation(run / "evaluation" / f"finetune-{name}.json").rows for name in folders]
    mean = np.mean([row.value for rows in each for row in rows if row.metric == "Sample@1"])
    assert values(found)["audio", "label", None, "Sample@1"] == pytest.approx(mean)


def test_a_trained_probe_changes_no_weight_of_the_encoder(run):
    small = ["video.frames=4", "video.size=32", "video.flip=0.0", "evaluation.clips=1"]
    found = api.finetune(
        run,
        modality="video",
        label="shape",
        preset="kinetics-probe",
        settings=[*QUICK, *small],
        quiet=True,
    )
    assert {(row.task, row.block) for row in found.rows} == {("probe", str(n)) for n in range(1, 5)}
    assert found.details["protocol"]["changed"] == ["video.flip=0.0"]
    probed = api.load_run(run / found.weights, CPU).encoder.model
    learned = api.load_run(run, CPU).encoder.model
    before, after = learned.video_encoder.state_dict(), probed.backbones["video"].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    fresh = [layer[1].weight for layer in probed.video_head.layers]
    assert len({tuple(weight.shape) for weight in fresh}) > 1


@pytest.mark.parametrize("name", protocols.names())
def test_every_protocol_is_of_a_task_and_says_where_it_is_from(name):
    found = protocols.load(name)
    assert found.task in ("finetune", "probe", "svm")
    assert "table" in found.about or "published" in found.about
    assert bool(found.blocks) == (found.task == "probe")


def test_a_protocol_of_another_task_is_refused(run):
    with pytest.raises(ConfigError, match="is of `evaluate finetune`; those of svm are: dcase"):
        api.evaluate(run, "svm", preset="ucf-101-8")
    with pytest.raises(ConfigError, match="did you mean 'ucf-101-8'"):
        load_for(("finetune",), "ucf-101-9")


def with_folds(media, folder):
    """The rendered corpus with its labels, in two folds."""
    with (media / "labels.csv").open(newline="") as file:
        head, *lines = csv.reader(file)
    lines = [[*cells, str(1 + number % 2)] for number, cells in enumerate(lines)]
    manifest, labels = folder / "folded.parquet", folder / "labels.csv"
    with labels.open("w", newline="") as file:
        csv.writer(file).writerows([[*head, "fold"], *lines])
    api.scan([str(media)], manifest, labels=labels, workers=0)
    return manifest


@pytest.fixture(scope="module")
def folded(media, tmp_path_factory):
    return with_folds(media, tmp_path_factory.mktemp("folded"))


def trained(preset, corpus, small, folder, *settings):
    plain = [s for s in small if not s.startswith(("method", "optimizer"))]
    given = [*plain, *QUICK, f"data.corpus={corpus}", "data.fold=1", *settings]
    api.pretrain(api.configure(preset, settings=given), folder, quiet=True)
    return folder


def test_labels_of_held_out_clips_must_not_have_been_learned(folded, small, tmp_path):
    run = trained(
        "tiny-supervised",
        folded,
        small,
        tmp_path / "run",
        "method.label=shape",
        "optimizer.milestones=[]",
    )
    for task in ("classify", "knn"):
        with pytest.raises(ValueError, match="instances that are held out, and their labels"):
            api.evaluate(run, task, folds="all")
        assert api.evaluate(run, task, folds=[1, 1]).details["protocol"]["folds"] == [1]
    shards = tmp_path / "shards"
    api.prepare(folded, shards, preset="tiny", workers=0)
    with pytest.raises(ValueError, match="instances that are held out, and their labels"):
        api.evaluate(run, "classify", corpus=shards, folds="all")
    assert api.evaluate(run, "classify", corpus=shards).details["protocol"]["folds"] == [1]
    tuned = {"modality": "video", "label": "shape", "quiet": True}
    with pytest.raises(ValueError, match=r"data.fold=1.* keep these"):
        api.finetune(run, folds=[2], settings=["train.epochs=1"], **tuned)
    assert not (run / "evaluation" / "finetune").exists()


def test_clips_that_were_learned_from_without_labels_are_told(folded, small, tmp_path):
    run = trained("tiny", folded, small, tmp_path / "run", "method.negatives=8")
    found = api.evaluate(run, "knn", folds="all", baseline=False)
    assert any("without their labels" in note for note in found.details["notes"])
    own = api.evaluate(run, "knn", baseline=False)
    assert not any("without their labels" in note for note in own.details["notes"])


@pytest.mark.parametrize("cache", ["none", "disk"])
def test_splits_that_leave_clips_unused_are_measured_together(run, media, tmp_path, cache):
    with (media / "labels.csv").open(newline="") as file:
        head, *lines = csv.reader(file)
    of = (("train", "test"), ("test", "train"), ("", "train"), ("train", ""))
    lines = [[*cells, *of[number % 4]] for number, cells in enumerate(lines)]
    manifest, labels = tmp_path / "split.parquet", tmp_path / "labels.csv"
    with labels.open("w", newline="") as file:
        csv.writer(file).writerows([[*head, "split1", "split2"], *lines])
    api.scan([str(media)], manifest, labels=labels, workers=0)
    asked = {"corpus": manifest, "baseline": False}
    settings = [f"data.cache={cache}", "evaluation.labels=[shape]"]
    whole = api.evaluate(run, "knn", folds="all", settings=settings, **asked)
    name = ("video", "shape", "pooled", "accuracy")
    each = [
        values(api.evaluate(run, "knn", folds=[fold], settings=settings, **asked))[name]
        for fold in (1, 2)
    ]
    assert values(whole)[name] == pytest.approx(np.mean(each))
    caches = list(manifest.with_name("split.parquet.cache").glob("*"))
    assert len(caches) == (cache == "disk")  # one for all folds


def test_seeds_and_protocols_that_would_have_no_effect_are_refused(run):
    for call in (
        lambda: api.evaluate(run, "knn", seeds=0),
        lambda: api.memory(run, seeds=0),
        lambda: api.finetune(run, modality="video", label="shape", seeds=0),
    ):
        with pytest.raises(ValueError, match="seeds: must be 1 or more, not 0"):
            call()
    with pytest.raises(ValueError, match="no effect on classify"):
        api.evaluate(run, "classify", seeds=2)
    with pytest.raises(ConfigError, match="trains linear layers on augmented clips"):
        api.evaluate(run, "probe", preset="kinetics-probe")


def test_a_finished_training_of_other_length_is_not_taken_for_the_one_asked_for(run):
    tuned = {"modality": "video", "label": "shape", "preset": "ucf-101-8", "quiet": True}
    small = [*QUICK, "video.frames=4", "video.size=32", "evaluation.clips=1"]
    first = api.finetune(run, settings=small, **tuned)
    assert api.finetune(run, settings=small, **tuned).time == first.time
    with pytest.raises(ConfigError, match="has finished 1, now 2"):
        api.finetune(run, settings=[*small, "train.epochs=2"], **tuned)


def test_a_run_of_shuffled_pairs_can_be_finetuned(corpus, small, tmp_path):
    settings = [*small, *QUICK, f"data.corpus={corpus}", "data.pairs=shuffled"]
    run = tmp_path / "run"
    api.pretrain(api.configure("tiny", settings=settings), run, quiet=True)
    found = api.finetune(
        run, modality="audio", label="shape", settings=["train.epochs=1"], quiet=True
    )
    assert found.rows
