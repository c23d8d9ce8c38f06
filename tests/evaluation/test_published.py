"""The papers' figures: how many each table has, some of each, and a strict reader."""

from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from earsight.evaluation.published import (
    CLASSES,
    FILE,
    TRAINING,
    Figure,
    read_figures,
    read_published,
)

COUNTS = {
    "avid-cma": {
        **{"1a": 15, "1b": 15, "2": 8, "3": 49, "4": 21, "5": 10, "6": 6},
        "figure 4b": 25,
    },
    "cm-acc": {"1": 21, "2": 6, "3": 18, "4": 54, "5": 15, "6": 17},
}


def values(**wanted) -> list[float]:
    """Values of the figures with those fields, in the file's order."""
    return [
        figure.value
        for figure in read_published()
        if all(getattr(figure, name) == value for name, value in wanted.items())
    ]


@pytest.mark.parametrize("paper", COUNTS)
def test_every_table_is_whole(paper):
    assert Counter(f.table for f in read_published() if f.paper == paper) == COUNTS[paper]


def test_no_figure_stands_twice():
    assert len(set(read_published())) == len(read_published())


def test_every_data_set_is_known():
    assert {f.data for f in read_published()} == set(CLASSES) == set(TRAINING)


@pytest.mark.parametrize(
    ("size", "pretraining", "expected"),
    [
        ("1.8M", "audioset", ([91.5], [64.7], [48.9], [89.1], [96])),
        ("240K", "kinetics-400", ([87.5], [60.8], [44.5], [79.1], [93])),
    ],
)
def test_avid_cma_at_scale(size, pretraining, expected):
    own = {"paper": "avid-cma", "method": "AVID+CMA", "pretraining": pretraining, "size": size}
    found = (
        values(**own, data="ucf-101", input="32x224"),
        values(**own, data="hmdb-51", input="32x224"),
        values(**own, protocol="probe", metric="Video@1"),
        values(**own, data="esc-50", protocol="svm"),
        values(**own, data="dcase-2014"),
    )
    assert found == expected


@pytest.mark.parametrize(
    ("method", "kinetics", "esc"),
    [
        ("Cross-AVID", 39.95, 75.05),
        ("Self-AVID", 32.08, 72.64),
        ("Joint-AVID", 33.04, 71.77),
    ],
)
def test_variants_of_avid(method, kinetics, esc):
    assert values(paper="avid-cma", table="1a", method=method, block="best") == [kinetics]
    assert values(paper="avid-cma", table="1b", method=method, block="best") == [esc]


@pytest.mark.parametrize(
    ("method", "best"),
    [
        ("Base + CMA", 41.11),
        ("Base + Video-Exp.", 40.17),
        ("Base + Audio-Exp.", 39.62),
        ("Base + AV Exp", 40.58),
    ],
)
def test_agreement_against_expansion(method, best):
    assert values(table="figure 4b", method=method, block="best") == [best]


def test_the_best_block_is_the_largest():
    for figure in read_published():
        if figure.block == "best":
            same = {"paper": figure.paper, "table": figure.table, "method": figure.method}
            assert max(values(**same)) == figure.value


def test_memory_has_deviations():
    found = [(f.method, f.modality, f.value, f.deviation) for f in read_published() if f.deviation]
    assert found[:3] == [
        ("Cross-AVID", "video", 29.01, 0.14),
        ("Cross-AVID", "audio", 19.67, 0.09),
        ("Cross-AVID", "both", 34.68, 0.15),
    ]
    assert [value for *_, value, _ in found[3:]] == [34.0, 21.98, 38.91]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("Scratch", [63.3, 29.7, 54.3]),
        ("Supervised", [86.9, 53.1, 78.3]),
        ("SMoCo", [70.7, 35.2, 69.0]),
        ("XMoCo (w/o fcl)", [72.9, 37.5, 70.9]),
        ("XMoCo", [74.1, 38.7, 73.0]),
        ("CM-ACC (w/o fcl)", [75.8, 39.1, 77.3]),
        ("CM-ACC", [77.2, 40.6, 79.2]),
    ],
)
def test_ablation_of_cm_acc(method, expected):
    assert values(paper="cm-acc", table="1", method=method) == expected


def test_tables_that_disagree_are_both_kept():
    ours = {"paper": "cm-acc", "method": "CM-ACC"}
    small, large = {"pretraining": "kinetics-sound"}, {"pretraining": "kinetics-700"}
    assert values(**ours, **small, table="1", data="esc-50") == [79.2]
    assert values(**ours, **small, table="6", data="esc-50") == [77.3]
    assert values(**ours, **large, table="5", data="esc-50") == [80.2]
    assert values(**ours, **large, table="6", data="esc-50") == [79.2]
    full = {"pretraining": "audioset", "size": "1.8M", "data": "hmdb-51"}
    assert values(**ours, **full, table="4", architecture="3D-ResNet18") == [66.8]
    assert values(**ours, **full, table="6") == [67.2]


def test_own_figures_are_told_from_quoted_ones():
    quoted = {f.method for f in read_published() if f.source == "quoted"}
    assert {"XDC", "AVTS", "GDT", "ConvRBM"} <= quoted
    assert not {"Cross-AVID", "AVID+CMA", "CM-ACC", "XMoCo"} & quoted


def broken(folder: Path, change) -> Path:
    path = folder / "figures.csv"
    path.write_text("\n".join(change(FILE.read_text().splitlines()[:3])) + "\n")
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: [t[0] + ",colour", *(line + "," for line in t[1:])], "unknown 'colour'"),
        (lambda t: [t[0].replace("metric", "measure"), *t[1:]], "'measure' and missing 'metric'"),
        (lambda t: [t[0] + ",note", *(line + "," for line in t[1:])], "stands twice"),
        (lambda t: [t[0], t[1] + ",more"], "line 2 has not as many"),
        (lambda t: [t[0], t[1].rsplit(",", 1)[0]], "line 2 has not as many"),
        (lambda t: [*t[:2], t[2].replace("probe", "guess")], "line 3: protocol: "),
        (lambda t: [*t[:2], t[2].replace("26.98", "high")], "line 3: value: "),
        (lambda t: [*t[:2], t[2].replace("26.98", "126.98")], "value: must be per cent"),
        (lambda t: [*t[:2], t[2].replace("Cross-AVID", "")], "method: must not be empty"),
    ],
)
def test_a_bad_file_is_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_figures(broken(tmp_path, change))
    assert "figures.csv" in str(caught.value)


def test_columns_are_the_fields():
    assert FILE.read_text().splitlines()[0].split(",") == [f.name for f in fields(Figure)]
