"""Evaluation of negatives end to end: of runs of momentum methods, as figures and as a page."""

import json
import re
import shutil

import pytest
import torch

from earsight import api
from earsight.cli import main
from earsight.evaluation.results import read_evaluation
from earsight.training.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from earsight.training.checkpoint import steps_saved as steps_of

OWN = ("head.fcl=true", "method.dictionary=8", "method.momentum=0.9", "optimizer.milestones=[1]")
METHODS = {"cm-acc": ("method.pool=24",), "xmoco": ("method.normalise=false",), "smoco": ()}


@pytest.fixture(scope="module")
def runs(corpus, small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("negatives")
    plain = [text for text in small if not text.startswith(("optimizer.", "method."))]
    for name, own in METHODS.items():
        more = [f"data.corpus={corpus}", f"method.name={name}", *OWN, *own]
        api.pretrain(api.configure("tiny", settings=[*plain, *more]), folder / name, quiet=True)
    return folder


def by_name(evaluation):
    return {(r.task, r.modality, r.label, r.metric): r for r in evaluation.rows}


def test_of_a_run_that_chooses_everything_is_measured(runs):
    run = runs / "cm-acc"
    evaluation = api.negatives(run)
    rows, details = by_name(evaluation), evaluation.details
    assert steps_of(run) == [4, 8]
    assert evaluation.weights == "cm-acc, step 8"
    unique = details["unique"]
    assert {one["step"] for one in unique} == {4, 8}
    assert {one["label"] for one in unique} == {"shape", "material", "shape × material"}
    assert {one["size"] for one in unique} == {8}
    assert {(one["query"], one["key"]) for one in unique} == {
        ("video", "audio"),
        ("audio", "video"),
    }
    assert all(1 <= one["value"] <= min(8, one["categories"]) for one in unique)
    for rule in ("random-pool", "ohem", "feature", "cm-acc"):
        (kept,) = (
            one["value"]
            for one in unique
            if (one["step"], one["label"], one["rule"], one["key"]) == (8, "shape", rule, "audio")
        )
        assert rows["unique", "video-audio", "shape", f"{rule}@8"].value == kept
    assert rows["gradient_norm", "audio-video", None, "chosen_mean"].value > 0
    assert rows["gradient_norm", "audio-video", None, "random_q95"].n == 160
    spread = [rows["pseudo_posterior", "video-audio", None, f"q{q}"].value for q in ("05", "95")]
    assert 0 <= spread[0] <= spread[1]
    accuracy = rows["pretext", "video-audio", None, "accuracy"]
    assert (accuracy.chance, accuracy.n) == (1 / 9, 32)
    kinds = [one for one in details["pretext"] if one["label"] == "shape"]
    assert sum(one["n"] for one in kinds if one["key"] == "audio") == 32
    mean = sum(one["n"] * one["accuracy"] for one in kinds if one["key"] == "audio") / 32
    assert mean == pytest.approx(accuracy.value)
    notes = "\n".join(details["notes"])
    assert "M = 16, 32 left out" in notes
    assert "nothing over steps" not in notes
    saved = read_evaluation(run / "evaluation" / "negatives.json")
    assert saved.rows == evaluation.rows
    assert saved.details == json.loads(json.dumps(details))


def test_as_many_are_looked_at_whatever_the_dictionary_holds(runs, tmp_path):
    found = {}
    for keys in (8, 4):
        run = tmp_path / str(keys)
        shutil.copytree(runs / "cm-acc", run, ignore=shutil.ignore_patterns("evaluation"))
        config = (run / "config.yaml").read_text()
        assert "dictionary: 8" in config
        (run / "config.yaml").write_text(config.replace("dictionary: 8", f"dictionary: {keys}"))
        found[keys] = api.negatives(run).details["unique"]
    assert found[4] == found[8]


def test_it_says_the_same_again(runs):
    first, second = (api.negatives(runs / "xmoco") for _ in range(2))
    assert first.rows == second.rows
    assert "unnormalised vectors at temperature 1" in first.protocol


def test_within_modalities_there_is_no_pretext_accuracy(runs):
    evaluation = api.negatives(runs / "smoco")
    assert {row.modality for row in evaluation.rows} == {"video-video", "audio-audio"}
    assert "pretext" not in {row.task for row in evaluation.rows}
    assert any("no pretext accuracy" in note for note in evaluation.details["notes"])
    assert "picture → picture" in (runs / "smoco" / api.NEGATIVES_PAGE).read_text()


def test_the_page_plays_and_asks_nothing(runs):
    api.negatives(runs / "cm-acc")
    page = (runs / "cm-acc" / api.NEGATIVES_PAGE).read_text()
    assert page.count("<video") == 2 * 2 * 8
    assert page.count("chosen by gradient, highest norms</h4>") == 2
    assert re.search(r"gradient norm \d", page)
    assert page.count("<svg") == 3 * 2
    assert "Pretext accuracy by material (chance 11.1 %)" in page
    assert "http" not in re.sub(r"data:[^\"]*", "", page).replace("http-equiv", "")


def command(capsys, *arguments):
    """Exit code, and what was printed."""
    with pytest.raises(SystemExit) as left:
        main(["evaluate", "negatives", *map(str, arguments)])
    printed = capsys.readouterr()
    return left.value.code, printed.out + printed.err


def test_the_command_prints_tables(runs, capsys):
    code, text = command(capsys, runs / "cm-acc")
    assert code == 0
    assert "Unique categories among M, step 8" in text
    assert re.search(r"M +categories +random +OHEM +feature +gradient", text)
    assert "Unique categories among 8, over steps" in text
    assert "clips to play:" in text
    code, text = command(capsys, runs / "cm-acc", "--no-baseline")
    assert code == 2
    assert "has no effect on negatives; leave it out" in text


def test_without_labels_and_earlier_steps_the_rest_is_measured(runs, media, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs / "cm-acc", run)
    checkpoint_path(run, 4).unlink()
    lines = [line.split(",") for line in (media / "labels.csv").read_text().splitlines()]
    at = [lines[0].index("path"), lines[0].index("split")]
    split = tmp_path / "split.csv"
    split.write_text("".join(f"{line[at[0]]},{line[at[1]]}\n" for line in lines))
    manifest = tmp_path / "plain.parquet"
    api.scan([str(media)], manifest, labels=split, workers=0)
    evaluation = api.negatives(run, corpus=manifest)
    assert {row.task for row in evaluation.rows} == {
        "gradient_norm",
        "pseudo_posterior",
        "pretext",
    }
    notes = "\n".join(evaluation.details["notes"])
    assert "no labels, so no unique categories and no accuracy per category" in notes
    assert "nothing over steps" in notes
    assert "<svg" not in (run / api.NEGATIVES_PAGE).read_text()


def test_what_it_cannot_do_without_is_told(runs, finished, corpus, media, tmp_path):
    with pytest.raises(ValueError, match=r"has no dictionary of negatives \(its method is avid\)"):
        api.negatives(finished)
    without = tmp_path / "without"
    shutil.copytree(runs / "xmoco", without)
    shutil.rmtree(without / "checkpoints")
    with pytest.raises(ValueError, match="has no checkpoint, in which its key encoders would be"):
        api.negatives(without)
    manifest = tmp_path / "few.parquet"
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((media / "train").glob("*"))[:20]:
        shutil.copy(path, few / path.name)
    api.scan([str(few)], manifest, workers=0)
    with pytest.raises(ValueError, match="training clips are too few for a batch of 8"):
        api.negatives(runs / "xmoco", corpus=manifest)
    with pytest.raises(ValueError, match=r"evaluation\.negatives: must be at least 24"):
        api.negatives(runs / "xmoco", settings=["evaluation.negatives=8"])
    with pytest.raises(ValueError, match="the corpus has no column 'none'"):
        api.negatives(runs / "xmoco", settings=["evaluation.labels=[none]"])


def test_encoders_that_diverged_are_named(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs / "cm-acc", run)
    path = checkpoint_path(run, 8)
    state = load_checkpoint(path)
    name = next(n for n in state["model"] if n.endswith("fcl.weight"))
    state["model"][name] = torch.full_like(state["model"][name], torch.nan)
    save_checkpoint(path, {n: x for n, x in state.items() if n != "schema"})
    with pytest.raises(ValueError, match="diverged"):
        api.negatives(run)
