"""Characters laid out: where each comes to stand, and how little each is changed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from earsight.config import PicturesConfig
from earsight.transforms.pictures import grid_of, lay_out

INDEX = np.arange(6)


@pytest.fixture(scope="module")
def cells():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (6, 4, 32, 32), dtype=torch.uint8, generator=generator)


@given(st.integers(1, 200))
def test_a_grid_holds_its_cells_and_is_nearly_square(cells):
    rows, columns = grid_of(cells)
    assert rows * columns == cells
    assert rows <= columns
    assert not any(cells % n == 0 for n in range(rows + 1, int(cells**0.5) + 1))


@pytest.mark.parametrize(("cells", "grid"), [(1, (1, 1)), (2, (1, 2)), (4, (2, 2)), (8, (2, 4))])
def test_grids_of_the_study(cells, grid):
    assert grid_of(cells) == grid


def test_characters_stand_along_the_rows(cells):
    picture = lay_out(cells, PicturesConfig(cells=4), "video", seed=0, index=None)
    assert picture.shape == (6, 1, 64, 64)
    assert picture.dtype == torch.float32
    for cell in range(4):
        row, column = divmod(cell, 2)
        part = picture[:, 0, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
        assert torch.equal(part, cells[:, cell].float() / 255)


def test_nothing_is_changed_where_nothing_is_set(cells):
    still = PicturesConfig(cells=4, shift=0, turn=0, scale=(1, 1))
    assert not still.changed
    plain = lay_out(cells, still, "video", seed=0, index=None)
    assert torch.equal(lay_out(cells, still, "video", seed=0, index=INDEX), plain)


def test_a_shift_is_within_its_reach():
    dot = torch.zeros(200, 1, 32, 32, dtype=torch.uint8)
    dot[:, :, 15:17, 15:17] = 255
    config = PicturesConfig(cells=1, shift=4, turn=0, scale=(1, 1))
    moved = lay_out(dot, config, "video", seed=0, index=np.arange(200))[:, 0]
    place = torch.arange(32.0) - 15.5
    weight = moved.sum((1, 2))
    away = torch.stack([(moved.sum(1) @ place) / weight, (moved.sum(2) @ place) / weight])
    assert away.abs().max() <= 4 + 1e-4
    assert away.abs().max() > 3.5
    assert away.mean().abs() < 0.5
    assert weight == pytest.approx(torch.full((200,), 4.0), abs=1e-4)


def test_a_turn_and_a_size():
    square = torch.zeros(100, 1, 32, 32, dtype=torch.uint8)
    square[:, :, 8:24, 8:24] = 255
    turned = lay_out(
        square,
        PicturesConfig(cells=1, shift=0, turn=45, scale=(1, 1)),
        "video",
        seed=0,
        index=np.arange(100),
    )
    assert turned.sum((1, 2, 3)) == pytest.approx(torch.full((100,), 256.0), rel=0.02)
    sized = lay_out(
        square,
        PicturesConfig(cells=1, shift=0, turn=0, scale=(0.5, 1.5)),
        "video",
        seed=0,
        index=np.arange(100),
    )
    side = sized.sum((1, 2, 3)).sqrt() / 16
    assert 0.48 < float(side.min()) < 0.6
    assert 1.4 < float(side.max()) < 1.52


def test_draws_depend_on_sample_view_and_picture_alone(cells):
    config = PicturesConfig(cells=4)
    first = lay_out(cells, config, "video", seed=0, index=INDEX)
    part = lay_out(cells[2:4], config, "video", seed=0, index=INDEX[2:4])
    assert torch.equal(first[2:4], part)
    assert not torch.equal(first, lay_out(cells, config, "video", seed=1, index=INDEX))
    assert not torch.equal(first, lay_out(cells, config, "video", seed=0, index=INDEX, view=1))
    assert not torch.equal(first, lay_out(cells, config, "audio", seed=0, index=INDEX))


def test_each_character_has_a_draw_of_its_own(cells):
    same = cells[:1, :1].expand(1, 4, 32, 32)
    picture = lay_out(same, PicturesConfig(cells=4), "video", seed=0, index=INDEX[:1])[0, 0]
    assert not torch.equal(picture[:32, :32], picture[32:, 32:])


@pytest.mark.parametrize(
    "wrong", [torch.zeros(2, 4, 32, 32), torch.zeros(2, 3, 32, 32, dtype=torch.uint8)]
)
def test_other_inputs_are_refused(wrong):
    with pytest.raises(ValueError, match=r"give the characters of a picture as \(B, 4, S, S\)"):
        lay_out(wrong, PicturesConfig(cells=4), "video", seed=0, index=None)
