"""Reading a run folder: complete, in part, and broken."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from earsight.evaluation.results import read_evaluation, write_evaluation
from earsight.report.run import headlines, read_run
from earsight.report.words import say_seconds


def test_a_complete_run(run: Path) -> None:
    facts = read_run(run)
    assert facts.name == "run-1"
    assert facts.notes == ()
    table = dict(facts.facts)
    assert table["Method"] == "avid"
    assert table["Pictures"] == "8 frames at 16 fps, 64 px"
    assert table["Sound"] == "2 s at 24000 Hz, 129 bands"
    assert table["Learning rate"] == "0.001, cosine"
    assert table["Trained"] == "400 steps, 30 epochs"
    assert table["Time"] == "2 min 40 s"
    assert "torch" in dict(facts.software)["Latest evaluation with"]
    assert dict(facts.seconds) == {
        "Training": "2 min 40 s",
        "Evaluation: retrieve": "3.2 s",
        "Evaluation: probe": "3.2 s",
    }
    assert facts.config.startswith("schema: 1")
    assert {e.name for e in facts.evaluations} == {"retrieve", "probe"}


@pytest.mark.parametrize(
    "name", ["config.yaml", "metrics.jsonl", "log.txt", "evaluation/probe.json"]
)
@pytest.mark.parametrize("damage", ["missing", "garbage", "folder"])
def test_damage_is_noted(run: Path, name: str, damage: str) -> None:
    path = run / name
    path.unlink()
    if damage == "garbage":
        path.write_bytes(b"\xff\xfe{[\x00")
    elif damage == "folder":
        path.mkdir()
    facts = read_run(run)
    said = " ".join(facts.notes)
    harmless = {("log.txt", "garbage"), ("evaluation/probe.json", "missing")}
    assert ((name, damage) in harmless) == (Path(name).name not in said and not said)


def test_a_config_without_the_usual_settings(run: Path) -> None:
    (run / "config.yaml").write_text("method: avid\nvideo: 3\n")
    assert [title for title, _ in read_run(run).facts] == ["Trained", "Time"]


def test_an_empty_run(tmp_path: Path) -> None:
    facts = read_run(tmp_path)
    assert (facts.facts, facts.software, facts.evaluations) == ((), (), ())
    assert len(facts.notes) == 4
    with pytest.raises(ValueError, match="no run folder"):
        read_run(tmp_path / "gone")


def test_an_evaluation_of_another_schema(run: Path) -> None:
    path = run / "evaluation" / "probe.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 7}))
    (note,) = read_run(run).notes
    assert "probe.json" in note
    assert "schema 7" in note


def test_long_logs_are_shortened(run: Path) -> None:
    (run / "log.txt").write_text("\n".join(f"line {i}" for i in range(1000)))
    lines = read_run(run).log.splitlines()
    assert lines[0] == "line 0"
    assert lines[-1] == "line 999"
    assert "… 840 lines left out …" in lines
    assert len(lines) == 161


def test_headlines(run: Path) -> None:
    rows = headlines(read_run(run).evaluations)
    assert [(r.task, r.modality, r.label) for r in rows] == [
        ("retrieve", "video-audio", None),
        ("retrieve", "audio-video", None),
        ("probe", "video", "shape"),
        ("probe", "audio", "shape"),
        ("probe", "video", "material"),
        ("probe", "audio", "material"),
    ]
    assert len(headlines(read_run(run).evaluations, most=3)) == 3


def test_a_later_evaluation_overrides(run: Path) -> None:
    old = read_evaluation(run / "evaluation" / "retrieve.json")
    better = tuple(replace(row, value=0.99) for row in old.rows)
    write_evaluation(run, replace(old, name="again", rows=better, time="2999-01-01T00:00:00+00:00"))
    write_evaluation(run, replace(old, name="z-before", time="1999-01-01T00:00:00+00:00"))
    facts = read_run(run)
    assert facts.evaluations[0].name == "z-before"
    assert headlines(facts.evaluations)[0].value == 0.99


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 00 s"),
        (3599.4, "59 min 59 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert say_seconds(seconds) == text
