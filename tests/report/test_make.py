"""Reports of trained runs: of one, of several, under way, without media, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from earsight import api, cli
from earsight.evaluation.results import read_evaluation, write_evaluation
from earsight.training.origin import Origin, write_origin


@pytest.fixture(scope="module")
def evaluated(finished, tmp_path_factory):
    """A finished run with evaluations; tests make copies of it."""
    run = tmp_path_factory.mktemp("evaluated") / "first"
    shutil.copytree(finished, run)
    for task in ("retrieve", "probe"):
        api.evaluate(run, task, settings=["evaluation.blocks=[pooled]"])
    api.agreement(run, settings=["evaluation.positives=4"])
    return run


@pytest.fixture
def run(evaluated, tmp_path):
    copy = tmp_path / "first"
    shutil.copytree(evaluated, copy)
    return copy


def test_a_report_of_one_run(run, check):
    written = api.report([run])
    assert written.path == str(run / "report.html")
    assert written.notes == {}
    assert written.clips > 0
    page = check(run / "report.html")
    text = page.text()
    for part in (
        *("Clips trained on 32", "Clips held out 12", "Evaluation: probe", "Trained with earsight"),
        "linear probe by shape: accuracy of each category",
        *("Picture embeddings by shape", "Sound embeddings by material"),
        *("Agreement in the memory", "reference", "agree in both", "picture → sound"),
    ):
        assert part in text, part
    assert "What this report lacks" not in text
    boxes = page.all("input")
    assert boxes
    assert all(box["type"] == "checkbox" and "checked" in box for box in boxes)
    held = [a for tag in ("video", "audio") for a in page.all(tag) if "src" in a]
    assert len(held) == written.clips
    assert all(a["src"].startswith("data:video/mp4;base64,") for a in held)


def test_a_corpus_that_is_none_leaves_the_report_as_it_was(run, tmp_path):
    (run / "report.html").write_text("a good one")
    with pytest.raises(ValueError, match=r"none\.parquet"):
        api.report([run], corpus=tmp_path / "none.parquet")
    assert (run / "report.html").read_text() == "a good one"


def test_features_that_were_kept_are_not_decoded_again(run):
    told = []
    api.report([run], progress=lambda done, of: told.append(of))
    assert told == [], "the evaluation of retrieval has kept them"


def test_without_media_names_remain(run, check):
    with_media = api.report([run])
    small = api.report([run], run.parent / "small.html", media=False)
    page = check(Path(small.path))
    assert not page.all("video")
    assert not page.all("audio")
    assert "base64" not in Path(small.path).read_text()
    assert "Clips were left out of this page, as was asked for" in page.text()
    assert "Its own sound is number" in page.text()
    assert small.clips == 0
    assert small.bytes < with_media.bytes


def test_several_runs_of_different_methods(run, corpus, small, tmp_path, check):
    """One of them has not been evaluated, which is said."""
    second = tmp_path / "second"
    settings = [*small, f"data.corpus={corpus}", "method.dictionary=8", "train.epochs=1"]
    settings = [s for s in settings if not s.startswith("method.negatives")]
    api.pretrain(api.configure("tiny-cm-acc", settings=settings), second, quiet=True)
    page = tmp_path / "both.html"
    written = api.report([run, second], page)
    assert written.runs == ("first", "second")
    assert list(written.notes) == ["second"]
    text = check(page).text()
    for part in (
        "setting first second",
        "method.name avid cm-acc",
        "Settings that only some methods have",
        "Losses of different methods (avid, cm-acc) measure different things",
        "retrieval, R@1, picture → sound",
        "second : There is no evaluation yet",
    ):
        assert part in text, part
    maps = [title for title in text.split("embeddings by ")[1:] if title.startswith("shape")]
    assert maps, "of several runs, one label is shown"
    assert "embeddings by material" not in text


def test_a_run_under_way_has_a_report(run, check):
    (run / "encoders.safetensors").unlink()
    written = api.report([run])
    said = " ".join(written.notes["first"])
    assert "has not finished: it has come to epoch 2 of 2" in said
    assert "No map and no gallery of nearest clips" in said
    assert "What this report lacks" in check(run / "report.html").text()
    assert "<figcaption><strong>loss</strong>" in (run / "report.html").read_text()


def test_settings_of_a_corpus_that_is_gone_are_not_those_used(run, check):
    text = (run / "config.yaml").read_text()
    old = next(line for line in text.splitlines() if "corpus:" in line)
    (run / "config.yaml").write_text(text.replace(old, old.split(":")[0] + ": gone.parquet"))
    shutil.rmtree(run / "evaluation" / "features")
    with_old = api.report([run])
    # The weights know their settings, too: it is those that are used.
    assert with_old.clips > 0
    check(run / "report.html")


def test_evaluations_of_before_clips_were_kept(run, check):
    path = run / "evaluation" / "agreement.json"
    old = read_evaluation(path)
    details = {n: x for n, x in old.details.items() if n != "examples"}
    write_evaluation(run, replace(old, details=details))
    written = api.report([run])
    assert "keeps no clips to show; `earsight evaluate agreement`" in written.notes["first"][0]
    write_evaluation(run, replace(old, details={**details, "examples": [{"title": 3}]}))
    written = api.report([run])
    assert "cannot be shown whole" in written.notes["first"][0]
    assert "details.examples.0" in written.notes["first"][0]
    check(run / "report.html")


def test_a_damaged_evaluation_takes_nothing_else_away(run, tmp_path, check):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    (other / "evaluation" / "probe.json").write_text("{")
    page = tmp_path / "both.html"
    written = api.report([run, other], page)
    assert "Figures are not put side by side" in written.notes["first"][0]
    assert "probe.json is left out" in " ".join(written.notes["other"])
    assert "Map of the embedding" in check(page).text()


def test_terms_of_imported_weights_and_of_media(run, media, check):
    write_origin(
        run,
        Origin(
            layout="avid",
            file="AVID.pth.tar",
            sha256="0" * 64,
            licence="their own terms",
            criterion="AVID",
            epoch=3,
            read={},
            assumed={},
            given=(),
            statistics="",
            keys={},
        ),
    )
    licence = media / "LICENSE"
    licence.write_text("Free for\n  research.")
    try:
        api.report([run])
    finally:
        licence.unlink()
    text = check(run / "report.html").text()
    assert "Terms of use" in text
    assert "Weights their own terms" in text
    assert "imported from AVID.pth.tar, epoch 3" in text
    assert "Free for research." in text


class TestBadInput:
    def test_a_folder_that_is_no_run(self, tmp_path):
        with pytest.raises(ValueError, match="is no run folder"):
            api.report([tmp_path])

    def test_a_run_twice(self, run):
        with pytest.raises(ValueError, match="stands twice"):
            api.report([run, run / ".." / run.name], run.parent / "a.html")

    def test_no_run(self):
        with pytest.raises(ValueError, match="at least one run folder"):
            api.report([])

    def test_several_runs_without_a_place(self, run, finished):
        with pytest.raises(ValueError, match="of several runs belongs to none"):
            api.report([run, finished])

    @pytest.mark.parametrize(
        ("name", "fault"),
        [
            ("", "is a folder"),
            ("page.txt", "ends with .html"),
            ("gone/page.html", "no such folder"),
        ],
    )
    def test_no_place_for_a_page(self, run, tmp_path, name, fault):
        with pytest.raises(ValueError, match=fault):
            api.report([run], tmp_path / name)

    def test_a_label_that_there_is_not(self, run):
        with pytest.raises(ValueError, match="no column 'colour'; it has"):
            api.report([run], labels=["colour"])
        assert not (run / "report.html").exists()


def test_the_command(run, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["report", str(run), "--no-media", "--labels", "material", "--json"])
    assert left.value.code == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["runs"], tree["clips"], tree["notes"]) == (["first"], 0, {})
    text = (run / "report.html").read_text()
    assert "embeddings by material" in text
    assert "embeddings by shape" not in text
