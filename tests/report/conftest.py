"""A made-up run folder and gallery for the tests of the report."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from earsight.evaluation.results import Evaluation, write_evaluation
from earsight.evaluation.rows import Row
from earsight.report.gallery import Gallery, Neighbour, Query

CONFIG = """\
schema: 1
seed: 3
method: {name: avid, negatives: 1024}
video_encoder: {name: r2plus1d, depth: 9}
audio_encoder: {name: conv2d, depth: 9}
head: {hidden: [128], dim: 64}
video: {frames: 8, fps: 16.0, size: 64}
audio: {rate: 24000, duration: 2.0, bands: 129}
train: {batch: 128, epochs: 30}
optimizer: {lr: 0.001, schedule: cosine}
"""


def metric_lines(steps: int = 400, epochs: int = 30) -> list[str]:
    """A run that learns, step by step, and its held-out evaluations."""
    records: list[dict[str, object]] = []
    for step in range(10, steps + 1, 10):
        progress = step / steps
        wave = math.sin(step / 13)
        records.append(
            {
                "step": step,
                "epoch": epochs * progress,
                "time": 0.4 * step,
                "kind": "train",
                "loss": 6.2 * math.exp(-3 * progress) + 1.1 + 0.1 * wave,
                "loss/v→a": 3.1 * math.exp(-3 * progress) + 0.5 + 0.05 * wave,
                "loss/a→v": 3.0 * math.exp(-2.8 * progress) + 0.6 - 0.05 * wave,
                "z_bar": 2.2 + 0.01 * wave,
                "learning_rate": 1e-3 * (1 - progress),
                "clips_per_second": 250 + 8 * wave,
                "wait": 0.04 + 0.01 * wave,
            }
        )
    for epoch in range(0, epochs + 1, 5):
        record: dict[str, object] = {
            "step": max(1, epoch * steps // epochs),
            "epoch": epoch,
            "time": 0.4 * epoch * steps // epochs,
            "kind": "evaluation",
        }
        for shift, direction in enumerate(("video-audio", "audio-video")):
            learned = 1 - math.exp(-epoch / (9 + 2 * shift))
            for k in (1, 5, 10):
                record[f"retrieval/{direction}/R@{k}"] = k / 200 + learned * 0.5 * k**0.25
                record[f"retrieval/{direction}/chance/R@{k}"] = k / 200
            record[f"retrieval/{direction}/median_rank"] = 100.5 - 97 * learned
            record[f"retrieval/{direction}/chance/median_rank"] = 100.5
        record["geometry/video/uniformity"] = -1.0 - epoch / 15
        records.append(record)
    records.sort(key=lambda r: float(str(r["step"])))
    return [json.dumps(record, ensure_ascii=False) for record in records]


def rows() -> tuple[list[Row], list[Row]]:
    """Rows of retrieval and of probes."""
    retrieval = [
        Row(
            task="retrieve",
            modality=direction,
            metric=metric,
            value=value - shift,
            chance=chance,
            baseline=baseline,
            n=200,
        )
        for shift, direction in ((0.0, "video-audio"), (0.02, "audio-video"))
        for metric, value, chance, baseline in (
            ("R@1", 0.465, 0.005, 0.01),
            ("R@5", 0.78, 0.025, 0.035),
            ("R@10", 0.895, 0.05, 0.06),
            ("median_rank", 2.0, 100.5, 92.5),
            ("mean_log_rank", 0.91, 4.32, 4.2),
        )
    ]
    geometry = [
        Row(task="geometry", modality=modality, metric=metric, value=value, baseline=before, n=200)
        for modality, metric, value, before in (
            ("video-audio", "alignment", 0.62, 1.98),
            ("video", "uniformity", -3.1, -0.4),
            ("video", "effective_rank", 41.2, 3.4),
        )
    ]
    probes = [
        Row(
            task=task,
            modality=modality,
            label=label,
            metric="accuracy",
            value=value,
            chance=0.2,
            baseline=baseline,
            n=500,
        )
        for task in ("knn", "probe")
        for modality, label, value, baseline in (
            ("video", "shape", 0.91, 0.44),
            ("audio", "shape", 0.31, 0.25),
            ("video", "material", 0.38, 0.29),
            ("audio", "material", 0.96, 0.61),
        )
    ]
    return retrieval + geometry, probes


def fill_run(run: Path) -> Path:
    """A complete run folder."""
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(CONFIG, encoding="utf-8")
    (run / "log.txt").write_text("2026-01-01 earsight 0.1.0\nstep 10 loss 6.1\n", encoding="utf-8")
    (run / "metrics.jsonl").write_text("\n".join(metric_lines()) + "\n", encoding="utf-8")
    retrieval, probes = rows()
    for name, protocol, numbers in (
        ("retrieve", "Cosine similarity on 200 held-out clips, both directions.", retrieval),
        ("probe", "Pooled features, three clips a file, logistic regression.", probes),
    ):
        write_evaluation(
            run,
            Evaluation(
                name=name,
                protocol=protocol,
                seed=3,
                corpus="demo.parquet, test split",
                weights="checkpoints/last.pt, step 400",
                rows=tuple(numbers),
                seconds=3.2,
            ),
        )
    return run


def make_gallery(clips: list[Path], each: int = 2, near: int = 4) -> Gallery:
    """Queries in both directions, each with neighbours taken in turn from the clips."""
    queries = []
    for direction in ("video-audio", "audio-video"):
        for number in range(each):
            own = clips[number % len(clips)]
            at = number % (near + 1)
            order = [clips[(number + 1 + i) % len(clips)] for i in range(near)]
            if at < near:
                order[at] = own
            queries.append(
                Query(
                    path=own,
                    caption=own.stem,
                    direction="video-audio" if direction == "video-audio" else "audio-video",
                    neighbours=tuple(
                        Neighbour(
                            path=path,
                            caption=path.stem,
                            similarity=0.9 - 0.07 * rank,
                            is_true_match=path == own,
                            rank=rank + 1,
                        )
                        for rank, path in enumerate(order)
                    ),
                    true_rank=at + 1,
                )
            )
    return Gallery(queries=tuple(queries), size=200)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A complete run folder with made-up numbers."""
    return fill_run(tmp_path / "run-1")


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Six small files that pass for clips."""
    folder = tmp_path / "clips"
    folder.mkdir()
    paths = [folder / f"clip {i}.mp4" for i in range(6)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]) * (100 + i))
    return paths


@pytest.fixture
def gallery_of() -> Callable[[list[Path]], Gallery]:
    """Makes a gallery of given clips."""
    return make_gallery
