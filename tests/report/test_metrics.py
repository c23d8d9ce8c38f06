"""Sorting metrics.jsonl into panels, whatever state it was left in."""

import json
from pathlib import Path

import numpy as np
import pytest

from earsight.report.metrics import MAX_POINTS, read_metrics


def write(path: Path, *records: object) -> Path:
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def train(step: int, **metrics: object) -> dict[str, object]:
    return {"step": step, "epoch": step / 10, "time": 2.0 * step, "kind": "train", **metrics}


def test_panels_of_a_whole_run(run: Path) -> None:
    metrics = read_metrics(run / "metrics.jsonl")
    assert [p.title for p in metrics.train] == [
        *("loss", "learning rate", "z bar", "clips per second", "wait")
    ]
    loss = metrics.train[0]
    assert [s.name for s in loss.series] == ["loss", "v→a", "a→v"]
    assert loss.series[0].x.tolist() == list(range(10, 401, 10))
    assert [(p.title, p.share) for p in metrics.evaluation] == [
        ("retrieval, picture → sound", True),
        ("retrieval, picture → sound, median rank", False),
        ("retrieval, sound → picture", True),
        ("retrieval, sound → picture, median rank", False),
        ("geometry of the embedding, picture, uniformity", False),
    ]
    recall = metrics.evaluation[0].series
    assert [(s.name, s.chance) for s in recall] == [("R@1", 0.005), ("R@5", 0.025), ("R@10", 0.05)]
    assert recall[0].x.tolist() == [0, 5, 10, 15, 20, 25, 30]
    assert metrics.evaluation[4].series[0].chance is None
    assert (metrics.steps, metrics.epochs, metrics.notes) == (400, 30, ())
    assert metrics.seconds == pytest.approx(160)


def test_torn_and_foreign_lines_are_counted(tmp_path: Path) -> None:
    path = write(
        tmp_path / "metrics.jsonl",
        train(1, loss=2.0),
        "",
        "[1, 2]",
        "\x00\x00\x00",
        train(2, loss=1.0),
        '{"step": 3, "lo',
    )
    metrics = read_metrics(path)
    assert metrics.train[0].series[0].y.tolist() == [2.0, 1.0]
    assert metrics.notes[0] == "metrics.jsonl: 3 of 5 lines not readable and left out."
    assert "no held-out evaluation" in metrics.notes[1]


def test_values_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    path = write(
        tmp_path / "metrics.jsonl",
        train(1, loss=float("nan"), note="text", flag=True, rows=[1]),
        train(2, loss=3.0),
        train(3, loss=float("inf")),
        {"kind": "train", "loss": 9.0},
        {"step": "four", "kind": "train", "loss": 9.0},
        {"step": 5, "kind": "evaluation", "R@1": 0.1},
    )
    metrics = read_metrics(path)
    assert [p.title for p in metrics.train] == ["loss"]
    assert metrics.train[0].series[0].x.tolist() == [2.0]
    assert metrics.evaluation == ()


def test_long_runs_are_averaged(tmp_path: Path) -> None:
    count = 2 * MAX_POINTS + 50
    path = write(tmp_path / "metrics.jsonl", *(train(i, loss=float(i % 7)) for i in range(count)))
    panel = read_metrics(path).train[0]
    assert panel.averaged == 3
    series = panel.series[0]
    assert len(series.x) == -(-count // 3) <= MAX_POINTS
    y = np.arange(count) % 7
    assert series.y[5] == pytest.approx(y[15:18].mean())
    assert series.y[-1] == pytest.approx(y[3 * (len(series.y) - 1) :].mean())
    assert series.x[0] == 1.0


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(content)
    metrics = read_metrics(tmp_path / "metrics.jsonl")
    assert (metrics.train, metrics.evaluation, metrics.steps) == ((), (), 0)
    assert len(metrics.notes) == 2


def test_a_missing_file(tmp_path: Path) -> None:
    assert "cannot be read" in read_metrics(tmp_path / "metrics.jsonl").notes[0]


def test_names_are_those_of_the_rows(tmp_path: Path) -> None:
    record = {
        "step": 1,
        "epoch": 1,
        "kind": "evaluation",
        "probe/video/digit/accuracy": 0.4,
        "probe/video/digit/chance/accuracy": 0.1,
        "retrieval/video-audio/gallery": 200,
    }
    (panel,) = read_metrics(write(tmp_path / "metrics.jsonl", record)).evaluation
    assert panel.title == "linear probe, picture, digit"
    assert (panel.series[0].name, panel.series[0].chance) == ("accuracy", 0.1)
