"""The evaluation file: a round trip, replaced whole, and bad files named."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from earsight.evaluation import results
from earsight.evaluation.results import Evaluation, read_evaluation, write_evaluation
from earsight.evaluation.rows import Row
from earsight.version import __version__

ROW = Row(
    task="probe",
    modality="video",
    label="digit",
    metric="accuracy",
    value=0.4,
    chance=0.1,
    baseline=0.2,
    n=500,
)
MADE = Evaluation(
    name="probe",
    protocol="Linear probe on pooled features.",
    seed=3,
    corpus="corpus.parquet, 500 test clips",
    weights="checkpoints/last.pt, step 1000",
    rows=(ROW, replace(ROW, chance=None, baseline=None, label=None, metric="R@1")),
    seconds=1.5,
    details={"C": 0.1, "per_class": {"0": 0.5}},
)


def test_round_trip(tmp_path: Path) -> None:
    path = write_evaluation(tmp_path, MADE)
    assert path == tmp_path / "evaluation" / "probe.json"
    assert read_evaluation(path) == MADE
    tree = json.loads(path.read_text())
    assert tree["schema"] == results.SCHEMA
    assert tree["results"][0] == ROW.as_dict()
    assert tree["versions"]["earsight"] == __version__
    assert {"torch", "numpy", "scikit-learn", "python", "source"} <= set(tree["versions"])
    assert [p.name for p in path.parent.iterdir()] == ["probe.json"]


def test_a_later_one_replaces_it(tmp_path: Path) -> None:
    write_evaluation(tmp_path, MADE)
    later = replace(MADE, seed=4)
    assert read_evaluation(write_evaluation(tmp_path, later)).seed == 4


def test_a_failed_write_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_evaluation(tmp_path, MADE)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_evaluation(tmp_path, replace(MADE, seed=9))
    assert read_evaluation(path).seed == 3
    assert [p.name for p in path.parent.iterdir()] == ["probe.json"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "."])
def test_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="plain word"):
        write_evaluation(tmp_path, replace(MADE, name=name))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("field", ["value", "chance", "baseline"])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, field: str) -> None:
    with pytest.raises(ValueError, match="probe video accuracy is not finite"):
        write_evaluation(tmp_path, replace(MADE, rows=(replace(ROW, **{field: math.nan}),)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "schema None"),
        ('{"schema": 99}', "schema 99"),
        ('{"schema": 1}', "other entries"),
        ('{"schema": 1, "results": [], "surprise": 1}', "other entries"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_evaluation(path)
    assert "bad.json" in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("results", 3, "rows: "),
        ("results", [{"task": "x"}], "rows.0.modality: "),
        ("results", [ROW.as_dict() | {"value": "high"}], "rows.0.value: "),
        ("machine", None, "machine: "),
        ("versions", [], "versions: "),
    ],
)
def test_bad_entries_are_named(tmp_path: Path, entry: str, value: object, message: str) -> None:
    path = write_evaluation(tmp_path, MADE)
    path.write_text(json.dumps(json.loads(path.read_text()) | {entry: value}))
    with pytest.raises(ValueError, match=message):
        read_evaluation(path)
