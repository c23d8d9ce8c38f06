"""Runs side by side: cells, differences of protocol, and what is published beside them."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from earsight import api, cli
from earsight.evaluation.compare import compare
from earsight.evaluation.compare_tables import format_comparison
from earsight.evaluation.comparison import Comparison, Line
from earsight.evaluation.results import Evaluation, write_evaluation
from earsight.evaluation.rows import Row
from earsight.evaluation.texts import classifier_text
from earsight.presets import protocols
from earsight.training.run_folder import create_run

ESC = {
    "task": "svm",
    "data": "esc-50",
    "folds": [1, 2, 3, 4, 5],
    "clips": 10,
    "frames": 8,
    "size": 224,
    "seeds": [0],
    "instances": 1600,
    "classes": {"label": 50},
    "preset": "esc-50-svm",
    "classifier": "one-vs-all linear SVMs, C chosen on a tenth, fitted on 10 clips of each",
}
SVM = Row(
    task="svm",
    modality="audio",
    label="label",
    metric="Sample@1",
    value=0.812,
    chance=0.02,
    n=2000,
)
PROBE = replace(SVM, task="probe", metric="accuracy", modality="video", label="digit", n=500)


def make_run(folder: Path, name: str, *settings: str, preset: str = "tiny") -> Path:
    config = api.configure(preset, settings=['data.corpus="av-digits.parquet"', *settings])
    create_run(folder / name, config)
    return folder / name


def evaluated(run: Path, *rows: Row, protocol: dict | None = None, **fields) -> Path:
    details = {} if protocol is None else {"protocol": protocol}
    made = Evaluation(
        name=fields.pop("name", rows[0].task),
        protocol="As it was done.",
        seed=0,
        corpus=fields.pop("corpus", "corpus.parquet"),
        weights=f"{run.name}, 45 epochs",
        rows=rows,
        details=details | fields,
    )
    return write_evaluation(run, made)


def spread(row: Row, **values: float) -> list[Row]:
    """A row with what belongs to it: its deviation and interval."""
    more = [
        replace(row, metric=f"{row.metric}_{what}", value=value, chance=None)
        for what, value in values.items()
    ]
    return [row, *more]


def line_of(comparison: Comparison, **wanted) -> Line:
    (found,) = (
        line
        for line in comparison.lines
        if all(getattr(line.key, name) == value for name, value in wanted.items())
    )
    return found


@pytest.fixture
def pair(tmp_path):
    """Two runs without evaluations."""
    return make_run(tmp_path, "first"), make_run(tmp_path, "second", "train.epochs=7")


def test_a_column_for_each_run(pair):
    first, second = pair
    evaluated(first, PROBE, replace(PROBE, block="2", value=0.5))
    evaluated(second, replace(PROBE, value=0.75))
    found = compare(pair)
    assert found.runs == ("first", "second")
    values = {line.key.block: {r: c.value for r, c in line.cells.items()} for line in found.lines}
    assert values == {None: {"first": 0.812, "second": 0.75}, "2": {"first": 0.5}}
    text = format_comparison(found).splitlines()
    (row,) = (line.split() for line in text if line.split()[3:4] == ["2"])
    assert row[5:] == ["50.0", "%", "–", "2.0", "%"]


def test_settings_that_differ_stand_above(pair):
    evaluated(pair[0], PROBE)
    found = compare(pair)
    assert [(s.path, s.values) for s in found.settings] == [
        ("train.epochs", (api.configure("tiny").train.epochs, 7))
    ]
    assert "no evaluation in second" in found.notes


def test_settings_of_other_methods_and_of_three_runs(tmp_path):
    runs = [
        make_run(tmp_path, "avid"),
        make_run(tmp_path, "same", "data.workers=3", "evaluation.clips=9"),
        make_run(tmp_path, "acc", "seed=4", preset="tiny-cm-acc"),
    ]
    evaluated(runs[0], PROBE)
    settings = {s.path: s.values for s in compare(runs).settings}
    assert settings["method.name"][:2] == ("avid", "avid")
    assert settings["method.name"][2] == "cm-acc"
    assert settings["seed"] == (0, 0, 4)
    assert not [path for path in settings if path.startswith(("evaluation", "data.workers"))]
    assert "same settings" in format_comparison(compare(runs[:2]))


def test_the_corpus_that_was_learned_from_is_a_setting_that_matters(tmp_path):
    runs = [make_run(tmp_path, "a"), make_run(tmp_path, "b", 'data.corpus="other.parquet"')]
    evaluated(runs[0], PROBE)
    (setting,) = compare(runs).settings
    assert setting.values == ("av-digits.parquet", "other.parquet")


def test_deviation_and_interval_are_of_the_same_cell(pair):
    evaluated(pair[0], *spread(SVM, deviation=0.004, low=0.808, high=0.816), protocol=ESC)
    evaluated(pair[1], *spread(SVM, deviation=0.01), protocol=ESC)
    found = compare(pair)
    (line,) = found.lines
    assert line.cells["first"].deviation == 0.004
    assert (line.cells["first"].low, line.cells["first"].high) == (0.808, 0.816)
    assert line.cells["second"].low is None
    text = format_comparison(found)
    assert "81.2 ± 0.4 % (80.8 to 81.6)" in text
    assert "81.2 ± 1.0 %" in text
    assert "deviation" not in text


def test_the_deviation_of_chance_is_a_figure_of_its_own(pair):
    row = replace(PROBE, task="retrieve", label=None, metric="mean_log_rank", value=2.5)
    evaluated(pair[0], *spread(row, deviation=0.06))
    found = compare(pair)
    assert [line.key.metric for line in found.lines] == ["mean_log_rank", "mean_log_rank_deviation"]
    assert line_of(found, metric="mean_log_rank").cells["first"].deviation is None


def test_a_deviation_of_nothing_is_kept(pair):
    evaluated(pair[0], replace(PROBE, metric="accuracy_low"))
    assert [line.key.metric for line in compare(pair).lines] == ["accuracy_low"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"clips": 3}, "clips averaged 3; first: clips averaged 10"),
        ({"folds": [1]}, "splits 1; first: splits 1 2 3 4 5"),
        ({"seeds": [0, 1]}, "number of seeds 2; first: number of seeds 1"),
        ({"instances": 160}, "training instances 160; first: training instances 1,600"),
        ({"classes": 10}, "classes 10; first: classes 50"),
        ({"classifier": "SVMs"}, f"classifier: SVMs; first: classifier: {ESC['classifier']}"),
        ({"preset": ""}, "protocol: none; first: protocol: esc-50-svm"),
        ({"preset": None}, "protocol: not recorded; first: protocol: esc-50-svm"),
    ],
)
def test_differences_between_runs_are_named(pair, changed, said):
    evaluated(pair[0], SVM, protocol=ESC)
    evaluated(pair[1], SVM, protocol=ESC | changed)
    found = compare(pair)
    (line,) = found.lines
    assert line.cells["first"].differences == ()
    assert line.cells["second"].differences == (said,)
    text = format_comparison(found)
    assert f"[1] {said}" in text
    assert "81.2 % [1]" in text


def test_frames_and_size_matter_for_pictures_alone(pair):
    rows = [PROBE, replace(PROBE, modality="audio")]
    plain = ESC | {"data": ""}
    evaluated(pair[0], *rows, protocol=plain)
    evaluated(pair[1], *rows, protocol=plain | {"frames": 16})
    found = compare(pair)
    video, audio = (line_of(found, modality=name).cells["second"] for name in ("video", "audio"))
    assert video.differences == ("input 16x224; first: input 8x224",)
    assert audio.differences == ()


def test_corpus_chance_and_samples_are_compared_for_old_evaluations_too(pair):
    evaluated(pair[0], PROBE)
    evaluated(pair[1], replace(PROBE, n=400, chance=0.1), corpus="other.parquet")
    (line,) = compare(pair).lines
    assert line.cells["second"].differences == (
        "corpus other.parquet; first: corpus corpus.parquet",
        "samples tested 400; first: samples tested 500",
        "chance 0.1; first: chance 0.02",
    )


def test_old_evaluations_are_held_against_nothing_published(pair):
    evaluated(pair[0], SVM)
    evaluated(pair[1], SVM, protocol=ESC | {"data": ""})
    found = compare(pair)
    assert not any(line.published for line in found.lines)
    (note,) = found.notes
    assert "first/svm" in note
    assert "second" not in note
    (line,) = found.lines
    assert "protocol recorded; first: protocol not recorded" in line.cells["second"].differences
    assert "published figures" not in format_comparison(found)


def test_published_figures_of_the_same_protocol_and_data(pair):
    evaluated(pair[0], SVM, protocol=ESC)
    (line,) = compare(pair).lines
    figures = [beside.figure for beside in line.published]
    assert {figure.data for figure in figures} == {"esc-50"}
    assert {figure.protocol for figure in figures} == {"svm", "unstated"}
    own = [f.value for f in figures if f.source == "own" and f.pretraining == "audioset"]
    assert own == [89.2, 89.1]


@pytest.mark.parametrize(
    ("row", "protocol"),
    [
        (replace(SVM, label="take"), ESC),
        (replace(SVM, metric="R@1"), ESC),
        (replace(SVM, task="knn", metric="accuracy"), ESC),
        (replace(SVM, modality="video"), ESC),
        (SVM, ESC | {"data": "esc-10"}),
    ],
)
def test_other_things_are_held_against_nothing(pair, row, protocol):
    evaluated(pair[0], row, protocol=protocol)
    assert not any(line.published for line in compare(pair).lines)


def differences(run: Path, row: Row, protocol: dict, **wanted) -> dict[str, str]:
    """From the first published figure with those fields."""
    evaluated(run, row, protocol=protocol)
    (line,) = (one for one in compare([run]).lines if one.key.block == row.block)
    found = next(
        beside
        for beside in line.published
        if all(getattr(beside.figure, name) == value for name, value in wanted.items())
    )
    return dict(found.differences[run.name])


def test_the_same_protocol_differs_in_what_was_learned_from(tmp_path):
    run = make_run(tmp_path, "run", preset="avid-audioset")
    own = {"paper": "avid-cma", "source": "own", "pretraining": "audioset"}
    assert differences(run, SVM, ESC, **own) == {
        "pre-trained on": "pre-trained on audioset (1.8M), here av-digits"
    }


def test_a_set_of_the_same_name_may_have_other_clips(tmp_path):
    run = make_run(tmp_path, "run", 'data.corpus="audioset.parquet"')
    found = differences(run, SVM, ESC, paper="avid-cma", source="own", pretraining="audioset")
    assert found["pre-trained on"] == "pre-trained on audioset (1.8M), here audioset"


def test_every_difference_from_a_paper_is_named(pair):
    protocol = ESC | {"clips": 3, "folds": [1], "seeds": [0, 1, 2], "instances": 400}
    protocol["classes"] = {"label": 10}
    own = {"paper": "avid-cma", "method": "AVID+CMA", "pretraining": "audioset"}
    run, row = pair[0], replace(SVM, block="pooled")
    sound = api.configure("tiny").audio
    assert differences(run, row, protocol, **own) == {
        "pre-trained on": "pre-trained on audioset (1.8M), here av-digits",
        "clips": "10 clips averaged, here 3",
        "input": f"input 200x257, here {sound.frames}x{sound.bands}",
        "splits": "splits 1 2 3 4 5, here 1",
        "seeds": "no seeds said, here the mean of 3",
        "features": "features of the last layer before pooling, here pooled",
        "classes": "50 classes, here 10",
        "training instances": "1,600 training instances, here 400",
    }


def test_what_is_not_said_or_not_recorded_is_named(pair):
    protocol = {"task": "svm", "data": "esc-50"}
    found = differences(pair[0], SVM, protocol, paper="cm-acc", method="GDT")
    assert found["protocol"] == "protocol not said, here svm"
    assert found["classes"] == "50 classes, here –"
    assert found["training instances"] == "1,600 training instances, here –"
    found = differences(pair[0], SVM, ESC, paper="cm-acc", method="GDT")
    assert found["clips"] == "unsaid clips averaged, here 10"
    assert found["splits"] == "splits not said, here 1 2 3 4 5"


def test_fine_tuning_from_scratch_is_pre_trained_on_nothing(pair):
    row = replace(SVM, task="finetune", modality="video")
    protocol = ESC | {"task": "finetune", "data": "ucf-101", "folds": [1], "instances": 9537}
    protocol |= {"frames": 32, "classes": 101, "classifier": "the whole network, quickly"}
    scratch = {"from": "scratch", "share": 1.0}
    evaluated(pair[0], row, protocol=protocol, name="finetune-scratch", **scratch)
    evaluated(pair[0], replace(row, value=0.9), protocol=protocol, name="finetune-x", share=0.1)
    found = compare(pair[:1])
    line = line_of(found, variant="from scratch")
    (beside,) = (b for b in line.published if b.figure.table == "1" and b.figure.value == 63.3)
    assert dict(beside.differences["first"]) == {
        "clips": "unsaid clips averaged, here 10",
        "classifier": "by the whole network, by a schedule that is not said; here by the whole "
        "network, quickly",
    }
    assert line_of(found, variant="10 % of labels").cells["first"].value == 0.9
    assert "variant" in format_comparison(found)


def test_blocks_and_the_best_of_them(pair):
    protocol = ESC | {"task": "probe"}
    rows = [
        replace(PROBE, modality="audio", label="label", block=block, value=value)
        for block, value in (("pooled", 0.9), ("1", 0.3), ("2", 0.7), ("3", 0.5))
    ]
    evaluated(pair[0], *rows, protocol=protocol)
    found = compare(pair)
    best = line_of(found, block="best")
    assert best.cells["first"].value == 0.7
    assert [b.figure.value for b in best.published] == [75.05, 72.64, 71.77]
    assert [b.figure.value for b in line_of(found, block="2").published] == [73.15, 72.64, 68.65]
    assert not line_of(found, block="pooled").published
    assert "best" in format_comparison(found)


def test_single_clips_are_held_against_single_clips(pair):
    protocol = ESC | {"task": "probe", "data": "kinetics-400", "folds": [], "classes": 400}
    protocol |= {"instances": 235_000, **by_protocol("kinetics-probe-224")}
    row = replace(PROBE, label="label", block="pooled")
    evaluated(pair[0], replace(row, metric="Clip@1"), row, protocol=protocol)
    found = compare(pair)
    values = {m: [b.figure.value for b in line_of(found, metric=m).published] for m in METRICS}
    assert values == {"Clip@1": [33.3, 35.2, 35.1, 37.4], "accuracy": [43.1, 46.6, 44.5, 48.9]}
    beside = line_of(found, metric="Clip@1").published[0]
    assert set(beside.differences["first"]) == {"pre-trained on"}


METRICS = ("Clip@1", "accuracy")
LOGISTIC = "logistic regression, C chosen on a tenth"


def by_protocol(name: str) -> dict[str, str]:
    """What an evaluation records that took the settings of a protocol."""
    settings = protocols.load(name).settings
    return {"preset": name, "classifier": classifier_text("probe", settings, trained=True)}


def test_another_classifier_than_the_papers_is_named_beside_each_figure(pair):
    protocol = ESC | {"task": "probe", "clips": 25, "preset": "", "classifier": LOGISTIC}
    row = replace(PROBE, modality="audio", label="label", block="2")
    evaluated(pair[0], row, protocol=protocol)
    evaluated(pair[1], row, protocol=protocol | by_protocol("esc-50-probe"))
    found = compare(pair)
    beside = line_of(found, block="2").published[0]
    theirs = by_protocol("esc-50-probe")["classifier"]
    assert theirs == (
        "linear layers with batch norm, Adam 0.0001 with weight decay 0, ×0.3 at epochs 8, 12, 15, "
        "18, 20 epochs of 10000 clips in batches of 32"
    )
    assert beside.differences["first"]["classifier"] == f"by {theirs}; here by {LOGISTIC}"
    assert "classifier" not in beside.differences["second"]
    lines = format_comparison(found).splitlines()
    (line,) = (one for one in lines if one.startswith("Cross-AVID [1]") and " 2 " in one)
    assert "73.2 %" in line or "73.15 %" in line
    assert f"[1] first: by {theirs}; here by {LOGISTIC}" in lines
    assert f"[1] classifier: {theirs}; first: classifier: {LOGISTIC}" in "\n".join(lines)


def test_the_same_schedule_on_clips_of_other_settings_is_named(pair):
    protocol = ESC | {"task": "probe", "clips": 25, **by_protocol("esc-50-probe"), "preset": ""}
    evaluated(
        pair[0], replace(PROBE, modality="audio", label="label", block="2"), protocol=protocol
    )
    beside = line_of(compare(pair), block="2").published[0]
    said = "clips by the settings of esc-50-probe; here by the run's own"
    assert beside.differences["first"]["classifier"] == said


def test_clips_that_were_changed_from_a_protocol_are_named(pair):
    protocol = ESC | {"task": "probe", "clips": 25, **by_protocol("esc-50-probe"), "changed": []}
    row = replace(PROBE, modality="audio", label="label", block="2")
    evaluated(pair[0], row, protocol=protocol)
    evaluated(pair[1], row, protocol=protocol | {"changed": ["audio.jitter=0.5"]})
    line = line_of(compare(pair), block="2")
    differences = line.published[0].differences
    assert "classifier" not in differences["first"]
    said = "clips by the settings of esc-50-probe; here audio.jitter=0.5"
    assert differences["second"]["classifier"] == said
    assert line.cells["second"].differences == (
        "protocol: esc-50-probe, audio.jitter=0.5; first: protocol: esc-50-probe",
    )


def test_a_classifier_that_was_not_recorded_is_named(pair):
    old = {name: x for name, x in ESC.items() if name not in ("preset", "classifier")}
    evaluated(pair[0], SVM, protocol=old)
    figures = line_of(compare(pair), task="svm").published
    own = next(one for one in figures if one.figure.source == "own")
    assert "here by a classifier that is not recorded" in own.differences["first"]["classifier"]


@pytest.mark.parametrize("name", protocols.names())
def test_every_protocol_says_by_what_it_classifies(name):
    known = protocols.load(name)
    trained = known.task != "svm"
    text = classifier_text(known.task, known.settings, trained=trained)
    assert ("Adam 0.0001" in text) == trained
    assert text.startswith({"svm": "one-vs-all", "finetune": "whole"}.get(known.task, "linear"))


def test_a_probe_of_an_unnamed_block_stands_beside_the_best(pair):
    protocol = ESC | {"task": "probe", "data": "kinetics-400", "folds": [], "classes": 400}
    protocol |= {"instances": 235_000, "frames": 8, "size": 224, "clips": 10}
    row = replace(PROBE, label="label", metric="Sample@1", value=0.4)
    evaluated(pair[0], *(replace(row, block=n) for n in "1234"), protocol=protocol)
    best = line_of(compare(pair), block="best").published
    (own,) = (b for b in best if b.figure.value == 48.9)
    assert own.differences["first"]["features"] == "block not said, here the best of all"
    assert "input" not in own.differences["first"]


def test_the_table_names_method_table_and_set(pair):
    evaluated(pair[0], SVM, protocol=ESC | {"clips": 3, "classes": 10})
    text = format_comparison(compare(pair))
    lines = text.splitlines()
    (ours,) = (line for line in lines if line.startswith("first ") and "this run" in line)
    assert "81.2 %" in ours
    (theirs,) = (line for line in lines if line.startswith("AVID+CMA") and "audioset" in line)
    assert "audioset, 1.8M ≠" in theirs
    assert "avid-cma table 4" in theirs
    assert "10 ≠" in theirs
    assert "1 2 3 4 5 ≠" not in theirs
    (xdc,) = (line for line in lines if line.startswith("XDC") and "85.8" in line)
    assert "quoted" in xdc
    (plain,) = (line for line in lines if line.startswith("ConvRBM") and "avid-cma" in line)
    assert plain.startswith("ConvRBM [1,2]")
    assert "[1] the paper does not say by which protocol" in lines
    assert "[2] learned from the evaluation data alone" in lines
    assert "first against all of these: 50 classes, here 10" in lines


def test_two_evaluations_of_a_kind_are_two_lines(pair):
    for run in pair:
        evaluated(run, SVM, protocol=ESC, name="svm-a")
        evaluated(run, replace(SVM, value=0.5), protocol=ESC, name="svm-b")
    found = compare(pair)
    assert [line.key.variant for line in found.lines] == ["", "svm-b"]
    assert all(set(line.cells) == {"first", "second"} for line in found.lines)


def test_runs_of_one_name_are_told_apart(tmp_path):
    runs = [make_run(tmp_path / place, "run") for place in ("a", "b")]
    evaluated(runs[0], PROBE)
    assert compare(runs).runs == tuple(map(str, runs))


def test_mistakes_are_named(pair, tmp_path):
    with pytest.raises(ValueError, match="earsight evaluate"):
        compare(pair)
    with pytest.raises(ValueError, match="at least one run"):
        compare([])
    with pytest.raises(ValueError, match="stands twice"):
        compare([pair[0], pair[0] / ".." / "first"])
    evaluated(pair[0], PROBE)
    with pytest.raises(ValueError, match="is no run folder"):
        compare([pair[0], tmp_path])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: "{", "not valid JSON"),
        (lambda tree: json.dumps(tree | {"schema": 9}), "schema 9"),
        (lambda tree: with_protocol(tree, clips="ten"), r"details\.protocol\.clips: "),
        (lambda tree: with_protocol(tree, folds=3), r"details\.protocol\.folds: "),
    ],
)
def test_a_damaged_evaluation_is_named(pair, change, message):
    path = evaluated(pair[1], SVM, protocol=ESC)
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(ValueError, match=message) as caught:
        compare(pair)
    assert str(path) in str(caught.value)


def with_protocol(tree: dict, **changes) -> str:
    tree["details"]["protocol"] |= changes
    return json.dumps(tree)


def test_the_command_prints_tables_and_json(pair, capsys):
    evaluated(pair[0], SVM, protocol=ESC)
    with pytest.raises(SystemExit) as left:
        cli.main(["compare", *map(str, pair)])
    assert left.value.code == 0
    assert "avid-cma table 4" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["compare", *map(str, pair), "--json"])
    tree = json.loads(capsys.readouterr().out)
    assert tree == json.loads(json.dumps(asdict(compare(pair))))
    (line,) = tree["lines"]
    assert line["key"]["data"] == "esc-50"
    assert line["published"][0]["figure"]["paper"] == "avid-cma"
    assert "first" in line["published"][0]["differences"]


def test_the_command_names_a_mistake(pair, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["compare", str(pair[0])])
    assert left.value.code == cli.USAGE
    assert "no run has an evaluation" in capsys.readouterr().err


def test_the_mean_over_folds_stands_before_the_folds_it_is_of(pair):
    row = replace(PROBE, task="finetune", label="label", modality="audio", block=None)
    for name, folds, value in (("a", [1], 0.5), ("b", [2], 0.7), ("repeated", [1, 2], 0.6)):
        protocol = ESC | {"task": "finetune", "folds": folds}
        evaluated(pair[0], replace(row, value=value), protocol=protocol, name=f"finetune-{name}")
    lines = {line.key.variant: line.cells["first"].value for line in compare(pair[:1]).lines}
    assert lines == {"": 0.6, "finetune-a": 0.5, "finetune-b": 0.7}
