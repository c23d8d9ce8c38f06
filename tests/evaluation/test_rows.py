"""Rows from scores, flat names, and the plain-text table."""

import math

import pytest
import torch

from earsight.evaluation.knn import knn
from earsight.evaluation.retrieval import retrieve
from earsight.evaluation.rows import Row, as_metrics, format_table, format_value, make_rows

EYE, FLIPPED = torch.eye(4), torch.eye(4).flip(0)


def test_rows_stand_beside_chance_and_baseline() -> None:
    rows = make_rows(
        retrieve(EYE, EYE, ks=(1, 2)),
        task="retrieve",
        modality="video-audio",
        baseline=retrieve(EYE, FLIPPED, ks=(1,)),
    )
    assert [row.metric for row in rows] == ["R@1", "R@2", "median_rank", "mean_log_rank"]
    first = rows[0]
    assert (first.value, first.chance, first.baseline, first.n) == (1.0, 0.25, 0.0, 4)
    assert rows[1].baseline is None


def test_flat_names() -> None:
    rows = make_rows(retrieve(EYE, EYE, ks=(1,)), task="retrieve", modality="video-audio")
    labels = torch.arange(4)
    rows += make_rows(knn(EYE, labels, EYE, labels), task="knn", modality="audio", label="speaker")
    rows.append(Row(task="geometry", modality="audio", metric="uniformity", value=-2.0, n=4))
    flat = as_metrics(rows)
    assert flat["retrieval/video-audio/R@1"] == 1.0
    assert flat["retrieval/video-audio/chance/R@1"] == 0.25
    assert flat["knn/audio/speaker/chance/accuracy"] == 0.25
    assert flat["geometry/audio/uniformity"] == -2.0
    assert "geometry/audio/chance/uniformity" not in flat
    assert len(flat) == 2 * 3 + 2 * 1 + 1


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("accuracy", 0.1234, "12.3 %"),
        ("R@5", 1.0, "100.0 %"),
        ("median_rank", 100.5, "100.5"),
        ("mean_log_rank", 4.2999, "4.3"),
        ("uniformity", -3.14159, "-3.14"),
        ("accuracy", None, "–"),
        ("loss", math.inf, "inf"),
    ],
)
def test_values_for_people(metric: str, value: float | None, text: str) -> None:
    assert format_value(metric, value) == text


def test_table_is_aligned() -> None:
    rows = [
        Row(task="probe", modality="video", label="digit", metric="accuracy", value=0.5, n=500),
        Row(
            task="retrieve",
            modality="video-audio",
            metric="R@10",
            value=0.25,
            chance=0.05,
            baseline=0.04,
            n=200,
        ),
    ]
    lines = format_table(rows).splitlines()
    assert lines[0].split() == [
        *("task", "of", "label", "metric", "value", "random", "init", "chance", "n")
    ]
    assert lines[2].split() == ["probe", "video", "digit", "accuracy", "50.0", "%", "–", "–", "500"]
    assert len({len(line) for line in lines}) == 1
    assert format_table([]).splitlines()[0].startswith("task")
