"""What a scan by any layout does: options, rescans, reports, and lists of one's own."""

import json
from pathlib import Path

import pytest

from earsight import api
from earsight.cli import main
from earsight.corpus.layouts import LAYOUTS, Item, LayoutOptions, Listing, read_layout
from earsight.corpus.manifest import read
from earsight.corpus.scan import format_report, scan

VGG = (
    "aaaaaaaaaaa,1,people marching,test\n"
    "bbbbbbbbbbb,30,singing,train\n"
    "ccccccccccc,0,singing,train\n"
)


def exits(command):
    with pytest.raises(SystemExit) as left:
        main(command)
    return left.value.code


@pytest.fixture
def vgg(text, media):
    text("vggsound.csv", VGG)
    media("v/aaaaaaaaaaa_000001.mp4", "v/holiday.mp4")
    media("v/bbbbbbbbbbb_000030.mp4", kind="silent")


def test_a_second_scan_reads_only_what_is_new(vgg, media, scanned, root):
    assert scanned("vggsound")[0].new == 2
    media("v/ccccccccccc_000000.mp4")
    (root / "v/aaaaaaaaaaa_000001.mp4").unlink()
    report, corpus = scanned("vggsound")
    assert (report.new, report.reused, report.gone, report.changed) == (1, 1, 1, 0)
    assert report.absent.first == ["aaaaaaaaaaa_000001.mp4"]
    assert len(corpus) == 2
    with pytest.raises(ValueError, match=r"would lose; give the labels \(or the layout\) again"):
        api.scan([str(root)], Path(report.output), workers=0)


def test_the_report_tells_what_is_absent_and_what_was_left_out(vgg, scanned):
    text = format_report(scanned("vggsound")[0])
    assert "1 of 3 listed recordings are not there:\n  ccccccccccc_000000.mp4" in text
    assert "1 files are not listed, or repeat others, and were left out:\n  v/holiday.mp4" in text
    assert "labels: label\n" in text


def test_the_command(vgg, root, tmp_path, capsys):
    output = tmp_path / "out.parquet"
    command = ["scan", "--layout", "vggsound", "--root", str(root), "-o", str(output), "--json"]
    assert exits([*command, "--workers", "0", "--group-by", "label"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["absent"] == {"count": 1, "first": ["ccccccccccc_000000.mp4"]}
    assert read(output).column("group").tolist() == ["people marching", "singing"]
    for wrong, says in {
        ("--draw", "5"): "draw: has no effect on vggsound, only on audioset",
        ("--labels", "labels.csv"): "vggsound brings labels",
        (str(root),): "either sources",
    }.items():
        assert exits([*command, *wrong]) == 2
        assert says in capsys.readouterr().err


def test_the_help_names_every_layout(capsys):
    assert exits(["scan", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert [name for name in LAYOUTS if name not in text] == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "nothing to scan; give folders, or a layout and its root"),
        ({"layout": "esc-50"}, "root: is missing"),
        ({"root": Path("x")}, "layout: is missing"),
        ({"sources": ["x"], "layout": "esc-50"}, "not both"),
        ({"sources": ["x"], "layout_options": LayoutOptions(draw=1)}, "without a layout"),
    ],
)
def test_sources_or_a_layout(given, says, tmp_path):
    sources = given.pop("sources", [])
    with pytest.raises(ValueError, match=says):
        api.scan(sources, tmp_path / "c.parquet", **given)


def test_options_and_names_that_have_no_effect(root):
    with pytest.raises(ValueError, match="no layout 'kinetics'; there are kinetics-400, "):
        read_layout("kinetics", root)
    with pytest.raises(ValueError, match="classes: has no effect on kinetics-400, only on kinet"):
        read_layout("kinetics-400", root, LayoutOptions(classes=root))
    with pytest.raises(ValueError, match="seed: has no effect unless draw"):
        read_layout("audioset", root, LayoutOptions(seed=0))
    with pytest.raises(ValueError, match="is no folder"):
        read_layout("audioset", root / "none")


def test_a_list_of_ones_own_needs_no_layout(vgg, root, tmp_path):
    item = Item(("holiday.mp4",), "train", {"label": "sea", "place": None})
    listing = Listing(name="mine", items=[item])
    report = scan([f"x={root}"], tmp_path / "c.parquet", listing=listing, workers=0)
    corpus = read(tmp_path / "c.parquet")
    assert corpus.column("path").tolist() == ["x/v/holiday.mp4"]
    assert corpus.labels("place").tolist() == [None]
    assert report.unlisted.count == 2


def test_names_are_compared_as_composed_unicode(root, media, tmp_path):
    media("cafe\u0301.mp4")
    listing = Listing(name="mine", items=[Item(("caf\u00e9.avi",), "train", {"label": "a"})])
    scan([str(root)], tmp_path / "c.parquet", listing=listing, workers=0)
    assert read(tmp_path / "c.parquet").labels("label").tolist() == ["a"]
