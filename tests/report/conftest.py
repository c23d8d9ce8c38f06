"""A made-up run folder and gallery for the tests of the report."""

import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
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
audio_encoder: {name: conv2d-audio, width: 16}
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
    # What it holds is not read for the report of what lies in a folder.
    (run / "encoders.safetensors").write_bytes(b"weights")
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


VOID = {"meta", "br", "hr", "img", "input", "link", "source", "wbr"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what a test asks for."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.faults: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.starts: list[int] = []
        self.feed(text)
        self.close()
        self.faults += [f"{tag} is never closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.faults.append(f"{tag} has an attribute twice: {names}")
        if tag not in VOID:
            self.open.append(tag)
            self.starts.append(len(self.words))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"unexpected </{tag}> at {self.getpos()}")
            return
        words = "".join(self.words[self.starts.pop() :])
        self.texts.setdefault(tag, []).append(" ".join(words.split()))

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def text_of(self, tag: str) -> list[str]:
        """The words of every element of a tag."""
        return self.texts.get(tag, [])

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def check(path: Path) -> Page:
    """Parse a report and assert what holds of every one."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.faults == []
    for tag, attrs in page.tags:
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset", "data"):
            assert (attrs.get(name) or "#").startswith(("#", "data:")), (tag, name)
        assert not [name for name in attrs if name.startswith("on")], tag
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "base"}
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in page.tags:
        for name in ("data-same-as", "aria-labelledby"):
            assert attrs.get(name) is None or attrs[name] in ids
    assert page.all("html") == [{"lang": "en"}]
    assert all(a.get("aria-label") or a.get("aria-hidden") for a in page.all("svg"))
    assert all(attrs.get("aria-label") for tag in ("video", "audio") for attrs in page.all(tag))
    assert all(attrs.get("tabindex", "0") == "0" for _, attrs in page.tags), (
        "the order is the page's"
    )
    for tag, attrs in page.tags:
        if "scroll" in (attrs.get("class") or "").split():
            # What scrolls can be reached and moved by keys, and says what it is.
            assert (attrs.get("tabindex"), attrs.get("role")) == ("0", "region")
            assert attrs.get("aria-label")
        if tag == "a":
            assert (attrs["href"] or "")[1:] in ids
    assert all(page.text_of("label"))
    assert len(page.text_of("label")) == len(page.all("input"))
    assert len(page.text_of("legend")) == len(page.all("fieldset"))
    assert all(page.text_of("summary"))
    return page


@pytest.fixture(name="check")
def fixture_check() -> Callable[[Path], Page]:
    """Parses a page and asserts what holds of every one."""
    return check


@pytest.fixture
def read_page() -> type[Page]:
    """Parses the text of a page."""
    return Page
