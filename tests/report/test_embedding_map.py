"""Embeddings on a plane: near stays near, the caption says how well, labels only colour."""

from dataclasses import replace

import numpy as np
import pytest

from earsight.evaluation.load import HeldOut, embed_held_out
from earsight.report.embedding_map import (
    CLASSES,
    HEIGHT,
    WIDTH,
    _classes,
    fitted,
    flatten,
    kept,
    make_maps,
)


@pytest.fixture(scope="module")
def held_out(finished) -> HeldOut:
    return embed_held_out(finished)


def groups(size=30, dim=16):
    """Three groups far from each other."""
    random = np.random.default_rng(0)
    centre = np.repeat(3 * np.eye(3, dim), size, axis=0)
    return centre + 0.1 * random.normal(size=centre.shape)


def test_groups_stay_together():
    x = groups()
    plane = flatten(x)
    assert plane.place.shape == (90, 2)
    label = np.repeat(np.arange(3), 30)
    distance = np.linalg.norm(plane.place[:, None] - plane.place[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (label[distance.argmin(axis=1)] == label).all()
    assert "t-SNE, perplexity 29.7; the axes have no meaning" in plane.how
    share = kept(x, plane.place, 10)
    assert f"{100 * share:.0f} % are among its 10 nearest here; at random 11 %." in plane.how
    assert share > 0.3


def test_few_clips_are_shown_by_principal_components():
    x = np.random.default_rng(0).normal(size=(6, 8))
    x[:, 2:] *= 1e-3
    assert "largest variance, 100 % of it" in flatten(x).how
    with pytest.raises(ValueError, match="three held-out clips"):
        flatten(x[:2])


def test_kept_neighbours_by_hand():
    line = np.array([[0.0], [1.0], [2.5], [4.5]])
    assert kept(line, line, 1) == 1.0
    assert kept(line, line[::-1].copy(), 3) == 1.0
    # Nearest on the line: 1, 0, 1, 2; on the other: 2, 3, 0, 1.
    assert kept(line, np.array([[0.0], [5.0], [1.0], [6.5]]), 1) == 0.0


def test_maps_fill_their_frame():
    place, height = fitted(np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 10.0]]))
    assert (place[:, 1].min(), place[:, 1].max(), height) == (12, HEIGHT - 12, HEIGHT)
    assert place[1, 0] - place[0, 0] == pytest.approx((HEIGHT - 24) / 10), "one scale for both"
    place, height = fitted(np.array([[0.0, 0.0], [10.0, 4.0]]))
    assert (place[:, 0].min(), place[:, 0].max()) == (12, WIDTH - 12)
    assert height == round(0.4 * (WIDTH - 24) + 24), "a flat map takes no more room than it needs"
    assert np.isfinite(fitted(np.zeros((3, 2)))[0]).all()


def test_many_categories_and_none():
    codes = np.array([*range(20), *range(5), -1, -1])
    place = np.zeros((len(codes), 2))
    names = [f"{at}.mp4" for at in range(len(codes))]
    words = {code: f"word {code}" for code in range(20)}
    found = list(_classes(place, codes, words, names))
    assert len(found) == CLASSES + 1
    assert [one.look for one in found] == list(range(CLASSES + 1))
    assert {one.name for one in found[:5]} == {f"word {code}" for code in range(5)}
    assert (found[-2].name, len(found[-2].points)) == ("9 others", 9)
    assert (found[-1].name, len(found[-1].points)) == ("without the label", 2)
    assert found[0].points[0].name == "0.mp4, word 0"
    assert sum(len(one.points) for one in found) == len(codes)


def places(drawn):
    return sorted((p.x, p.y) for one in drawn.classes for p in one.points)


def test_maps_of_a_run(held_out):
    maps = make_maps(held_out)
    assert [one.title for one in maps] == [
        "Picture embeddings by shape",
        "Sound embeddings by shape",
        "Picture embeddings by material",
        "Sound embeddings by material",
    ]
    for one in maps:
        assert sum(len(c.points) for c in one.classes) == len(held_out.features.row) == 12
    (first, _) = make_maps(held_out, ["material"])
    assert first.label == "material"
    places = [
        sorted((p.x, p.y) for one in drawn.classes for p in one.points)
        for drawn in (maps[0], first)
    ]
    assert places[0] == places[1], "labels colour a map, and move nothing"
    with pytest.raises(ValueError, match="no column 'colour'; it has"):
        make_maps(held_out, ["colour"])


def test_a_map_without_labels(held_out):
    bare = replace(
        held_out,
        labels=replace(held_out.labels, train={}, held_out={}),
        instances=replace(held_out.instances, labels={}, vocabulary={}),
    )
    first, second = make_maps(bare)
    assert (first.title, second.title) == ("Picture embeddings", "Sound embeddings")
    assert [one.name for one in first.classes] == ["clips"]
