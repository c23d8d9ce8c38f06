"""The report: one valid file that asks nothing of the network, whatever the run and its names."""

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from earsight.evaluation.results import Evaluation, write_evaluation
from earsight.evaluation.rows import Row
from earsight.report.gallery import Gallery, Neighbour, Query
from earsight.report.write import write_report

Check = Callable[[Path], Any]
HOSTILE = "<script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(2)>&amp;"


def test_a_complete_report(
    check: Check,
    run: Path,
    clips: list[Path],
    tmp_path: Path,
    gallery_of: Callable[[list[Path]], Gallery],
) -> None:
    output = tmp_path / "report.html"
    write_report(run, output, gallery=gallery_of(clips))
    page = check(output)
    text = page.text()
    for part in ("run-1", "avid", "2 min 40 s", "46.5 %", "Its own sound is number 1 of 200."):
        assert part in text
    assert "What this report lacks" not in text
    assert len(page.all("svg")) == 10
    assert len(page.all("table")) == 5
    assert len(page.all("video")) == 2 * 2 * (1 + 4)
    held = [attrs for attrs in page.all("video") if "src" in attrs]
    assert len(held) == 6
    assert len(page.all("video")) - len(held) == len(
        [attrs for attrs in page.all("video") if "data-same-as" in attrs]
    )
    assert text.count("✓ its own") == 4


def test_the_picture_side_is_muted(
    check: Check,
    run: Path,
    clips: list[Path],
    tmp_path: Path,
    gallery_of: Callable[[list[Path]], Gallery],
) -> None:
    output = tmp_path / "report.html"
    write_report(run, output, gallery=gallery_of(clips))
    muted = ["muted" in attrs for attrs in check(output).all("video")]
    by_picture, by_sound = [True] + 4 * [False], [False] + 4 * [True]
    assert muted == 2 * by_picture + 2 * by_sound


def test_values_stand_beside_baseline_and_chance(check: Check, run: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    write_report(run, output)
    text = check(output).text()
    assert "R@1 46.5 % 1.0 % 0.5 % 200" in text
    assert "median rank ↓ 2.0 92.5 100.5 200" in text
    assert "sound material 96.0 % 61.0 % 20.0 % 500" in text
    assert "No gallery was made" in text


def test_the_policy_admits_only_its_own_script(
    read_page: Callable[[str], Any], tmp_path: Path
) -> None:
    output = tmp_path / "report.html"
    write_report(tmp_path, output)
    text = output.read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [
        attrs["content"]
        for attrs in read_page(text).all("meta")
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")


def test_hostile_names_stay_text(check: Check, tmp_path: Path) -> None:
    run = tmp_path / "run <i>&"
    run.mkdir()
    (run / "config.yaml").write_text(f"method: {{name: {HOSTILE!r}}}\n")
    (run / "log.txt").write_text(HOSTILE)
    metrics = '{"step": 1, "epoch": 1, "kind": "%s", "a$^{/R@1": 1, "loss": 2, "%s": 3}\n'
    name = HOSTILE.replace('"', "")
    (run / "metrics.jsonl").write_text(metrics % ("train", name) + metrics % ("evaluation", name))
    row = Row(
        task=HOSTILE, modality=HOSTILE, label=HOSTILE, metric=HOSTILE, value=0.5, baseline=0.1, n=3
    )
    probe = Row(task="probe", modality="video", label=HOSTILE, metric="accuracy", value=0.5, n=3)
    write_evaluation(
        run,
        Evaluation(
            name="x<y>",
            protocol=HOSTILE,
            seed=0,
            corpus=HOSTILE,
            weights=HOSTILE,
            rows=(row, probe),
            machine=HOSTILE,
            versions={HOSTILE: HOSTILE},
        ),
    )
    clip = tmp_path / "<b>\"'&\udce9.mp4"
    clip.write_bytes(b"clip")
    gone = tmp_path / "<u>gone.mp4"
    near = [
        Neighbour(path=p, caption=HOSTILE, similarity=0.5, is_true_match=True, rank=1)
        for p in (clip, gone)
    ]
    query = Query(path=clip, caption=HOSTILE, direction="video-audio", neighbours=tuple(near))
    output = tmp_path / "report.html"
    write_report(run, output, gallery=Gallery(queries=(query,), size=2))
    page = check(output)
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not {tag for tag, _ in page.tags} & {"u", "y", "alert"}
    assert page.text().count("alert(1)") >= 10
    assert "<u>gone.mp4 : there is no such file" in page.text()


@pytest.mark.parametrize(
    "missing", ["config.yaml", "metrics.jsonl", "log.txt", "evaluation", "everything"]
)
def test_missing_parts_are_said(check: Check, run: Path, tmp_path: Path, missing: str) -> None:
    for path in [*(run / "evaluation").iterdir()]:
        if missing in ("evaluation", "everything"):
            path.unlink()
    for name in ("config.yaml", "metrics.jsonl", "log.txt"):
        if missing in (name, "everything"):
            (run / name).unlink()
    output = tmp_path / "report.html"
    write_report(run, output)
    text = check(output).text()
    assert "What this report lacks" in text
    assert missing == "everything" or missing in text


def test_an_interrupted_run(check: Check, run: Path, tmp_path: Path) -> None:
    metrics = run / "metrics.jsonl"
    whole = metrics.read_bytes()
    output = tmp_path / "report.html"
    for size in (1, 150, len(whole) - 3):
        metrics.write_bytes(whole[:size])
        write_report(run, output)
        check(output)


def test_caps_are_told(
    check: Check,
    run: Path,
    clips: list[Path],
    tmp_path: Path,
    gallery_of: Callable[[list[Path]], Gallery],
) -> None:
    output = tmp_path / "report.html"
    write_report(run, output, gallery=gallery_of(clips), item_bytes=102)
    page = check(output)
    assert "Clips left out (3)" in page.text()
    assert "clip 5.mp4" in page.text()
    assert len([attrs for attrs in page.all("video") if "src" in attrs]) == 3


def test_output_is_replaced_whole(tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    output.write_text("old")
    write_report(tmp_path, output)
    assert output.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(OSError, match="gone"):
        write_report(tmp_path, tmp_path / "gone" / "report.html")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def luminance(colour: str) -> float:
    digits = colour if len(colour) == 6 else "".join(2 * c for c in colour)
    linear = []
    for i in (0, 2, 4):
        c = int(digits[i : i + 2], 16) / 255
        linear.append(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_contrast_of_text_and_curves() -> None:
    """WCAG AA: 4.5 to 1 for text and for curves and marks, in light, in dark and on paper."""
    style = Path(__file__).parents[2] / "src/earsight/report/templates/report.css"
    schemes = re.findall(r":root \{(.*?)\}", style.read_text(), re.DOTALL)
    assert len(schemes) == 3
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): #([0-9a-f]+)", scheme))
        text = ("ink", "muted", "accent", "good", *(f"s{i}" for i in range(6)))
        pairs = [(name, behind) for behind in ("page", "card") for name in text]
        for name, behind in [*pairs, ("ink", "warn"), ("ink", "best")]:
            assert contrast(colours[name], colours[behind]) >= 4.5, (name, behind)
