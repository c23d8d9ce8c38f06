"""Runs beside each other: what differs first, curves laid over, figures with their differences."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from earsight.config import read_yaml
from earsight.evaluation.categories import Category, categories_tree, read_categories
from earsight.evaluation.compare import compare, differing_settings
from earsight.evaluation.results import read_evaluation, write_evaluation
from earsight.report.by_category import category_grids
from earsight.report.curves import COLOURS, draw
from earsight.report.metrics import Panel, Series
from earsight.report.side_by_side import (
    beside,
    figures_beside,
    headlines_beside,
    overlay,
    settings_beside,
)


@pytest.fixture
def runs(run: Path, tmp_path: Path) -> list[Path]:
    """Two runs: the second differs in a setting, its figures, and has no probe."""
    other = tmp_path / "run-2"
    shutil.copytree(run, other)
    text = (run / "config.yaml").read_text().replace("epochs: 30", "epochs: 40")
    (other / "config.yaml").write_text(text)
    (other / "evaluation" / "probe.json").unlink()
    old = read_evaluation(other / "evaluation" / "retrieve.json")
    rows = tuple(replace(row, value=row.value / 2) for row in old.rows)
    write_evaluation(other, replace(old, rows=rows, corpus="another.parquet"))
    return [run, other]


def test_what_differs_comes_first():
    lines = beside([[("Seed", "1"), ("Batch", "8")], [("Seed", "1"), ("Batch", "9"), ("New", "x")]])
    assert [(line.name, line.values, line.differs) for line in lines] == [
        ("Batch", ("8", "9"), True),
        ("New", ("–", "x"), True),
        ("Seed", ("1", "1"), False),
    ]


def test_settings_that_only_one_method_has_are_apart(runs):
    text = (runs[1] / "config.yaml").read_text()
    changed = text.replace("{name: avid, negatives: 1024}", "{name: xmoco}")
    (runs[1] / "config.yaml").write_text(changed)
    assert read_yaml(runs[1] / "config.yaml")["method"] == {"name": "xmoco"}
    both, some = settings_beside(differing_settings(runs))
    assert {"train.epochs": ("30", "40"), "method.name": ("avid", "xmoco")}.items() <= {
        line.name: line.values for line in both
    }.items()
    assert ("method.negatives", ("1024", "–")) in [(line.name, line.values) for line in some]
    assert all("–" in line.values for line in some)


def curve(name, *values, chance=None):
    return Series(name=name, x=np.arange(1.0, len(values) + 1), y=np.array(values), chance=chance)


def panel(title, *series):
    return Panel(title=title, metric="loss", x_label="step", share=False, series=series)


def test_curves_are_laid_over():
    first = [panel("loss", curve("loss", 3.0, 2.0), curve("v→a", 1.0, 1.0))]
    second = [panel("loss", curve("loss", 5.0, 1.0)), panel("z", curve("z", 0.0))]
    made = overlay([("a", first), ("b", second)])
    assert [(p.title, [s.name for s in p.series]) for p in made] == [
        ("loss", ["a", "b"]),
        ("loss, v→a", ["a"]),
        ("z", ["b"]),
    ]
    assert [s.colour for p in made for s in p.series] == [0, 1, 0, 1], "a run keeps its colour"
    assert overlay([("a", first)]) == first


def test_chance_is_drawn_once_where_it_is_the_same():
    def runs(*chances):
        return [
            (str(at), [panel("R", curve("R@1", 0.1, chance=c), curve("R@5", 0.2))])
            for at, c in enumerate(chances)
        ]

    same, other = overlay(runs(0.05, 0.05))[0], overlay(runs(0.05, 0.1))[0]
    assert same.chance == 0.05
    assert [s.chance for s in same.series] == [None, None]
    assert draw(same, 1).chance == "0.05"
    assert other.chance is None
    assert [s.chance for s in other.series] == [0.05, 0.1]


def test_more_runs_than_colours_are_told_apart_by_dashes():
    many = overlay([(str(at), [panel("x", curve("x", at, at))]) for at in range(COLOURS + 1)])
    chart = draw(many[0], 1)
    assert [(entry.colour, entry.round) for entry in chart.legend[::COLOURS]] == [(0, 0), (0, 1)]
    assert "stroke-dasharray" in chart.svg


def test_figures_beside(runs):
    figures = figures_beside(compare(runs))
    by_title = {table.title: table for table in figures.tables}
    pairs = by_title["retrieval"]
    assert pairs.heads == ("of", "metric")
    line = next(line for line in pairs.lines if line.words == ("picture → sound", "R@1"))
    one, two = line.cells
    assert (one.value, one.before, one.best, one.marks) == ("46.5 %", "1.0 %", True, ())
    assert (two.value, two.best) == ("23.2 %", False)
    assert two.marks
    assert line.chance == "0.5 %"
    said = {number: text for text, number in figures.marks.items()}
    assert "another.parquet" in said[two.marks[0]]
    rank = next(line for line in pairs.lines if "median rank" in line.words)
    assert rank.lower
    assert [cell.best for cell in rank.cells] == [False, True], "lower is better"
    probe = by_title["linear probe, accuracy"].lines[0]
    assert probe.cells[1].value == "–"
    assert not probe.cells[1].best
    assert by_title["geometry of the embedding"].folded


def test_headlines_share_the_marks(runs):
    comparison = compare(runs)
    figures = figures_beside(comparison)
    before = dict(figures.marks)
    table = headlines_beside(comparison, figures)
    assert table is not None
    assert [line.words[0] for line in table.lines][:3] == [
        "retrieval, R@1, picture → sound",
        "retrieval, R@1, sound → picture",
        "nearest neighbours of shape, picture",
    ]
    assert figures.marks == before


def category(name, accuracy, **other):
    given = {"task": "probe", "modality": "video", "label": "shape", "block": "pooled", "n": 4}
    return Category(name=name, accuracy=accuracy, **{**given, **other})


def test_categories_are_averaged_over_folds():
    found = [category("a", 0.5, baseline=0.1), category("b", 1.0), category("a", 0.7, n=6)]
    first, second = read_categories(categories_tree(found))
    assert (first.name, first.n, first.baseline) == ("a", 10, 0.1)
    assert first.accuracy == pytest.approx(0.6)
    assert (second.name, second.n, second.baseline) == ("b", 4, None)
    assert read_categories(None) == ()
    with pytest.raises(ValueError, match=r"details.categories.0.task: Field required"):
        read_categories([{"accuracy": 1.0}])


def test_tables_of_categories(run):
    old = read_evaluation(run / "evaluation" / "probe.json")
    found = [
        category("cube", 0.2, baseline=0.1),
        category("ball", 0.9, baseline=0.3),
        category("ball", 0.4, modality="audio"),
    ]
    evaluation = replace(old, details={"categories": categories_tree(found)})
    (grid,) = category_grids([("run", [evaluation])])
    assert grid.title == "linear probe by shape: accuracy of each category"
    assert grid.numbers == (
        *("picture", "picture, random init", "sound", "sound, random init"),
        "n",
    )
    assert grid.lines == (
        ("ball", "90.0 %", "30.0 %", "40.0 %", "–", "4"),
        ("cube", "20.0 %", "10.0 %", "–", "–", "4"),
    )
    (both,) = category_grids([("one", [evaluation]), ("two", [evaluation])])
    assert both.numbers == ("one, picture", "one, sound", "two, picture", "two, sound", "n")
    damaged = replace(old, details={"categories": [{"n": 1}]})
    with pytest.raises(ValueError, match="run, evaluation probe"):
        category_grids([("run", [damaged])])
