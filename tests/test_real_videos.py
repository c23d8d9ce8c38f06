"""From real files of many kinds to an evaluated run."""

import json
from pathlib import Path

import pytest

from earsight import api

REAL = Path(__file__).parents[1] / "../shared/data/real-videos"

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real videos are not here")


def test_training_and_evaluation_run_on_real_files(small, tmp_path):
    manifest, run = tmp_path / "corpus.parquet", tmp_path / "run"
    report = api.scan([str(REAL)], manifest, segment="2s", workers=0)
    assert report.files == 12
    assert report.statuses["ok"] >= 20
    settings = [*small, f"data.corpus={manifest}", "train.epochs=1", "data.holdout=0.3"]
    figures = api.pretrain(api.configure("tiny", settings=settings), run, quiet=True)
    assert 0 <= figures["retrieval/video-audio/R@1"] <= 1
    assert figures == pytest.approx(figures, nan_ok=False)
    rows = api.evaluate(run, "retrieve").rows
    assert {row.modality for row in rows if row.task == "retrieve"} == {
        "video-audio",
        "audio-video",
        "both",
    }
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    failures = [line["failures"] for line in lines if line["kind"] == "train"]
    assert failures
    assert not any(failures), "what a scan calls usable can be read"
