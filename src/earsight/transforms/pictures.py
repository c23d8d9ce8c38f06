"""Characters to pictures: each is moved, turned and resized a little, then all are laid out."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from earsight import random
from earsight.config import PicturesConfig
from earsight.transforms.draws import Index, as_array, check_count, to_device


def grid_of(cells: int) -> tuple[int, int]:
    """Rows and columns of the grid of so many cells that is nearest to a square, the wider way."""
    rows = next(n for n in range(math.isqrt(cells), 0, -1) if cells % n == 0)
    return rows, cells // rows


def lay_out(
    cells: Tensor,
    config: PicturesConfig,
    name: str,
    *,
    seed: int,
    index: Index | None,
    view: int = 0,
) -> Tensor:
    """Pictures of characters, cell after cell along the rows of their grid.

    Args:
        cells: ``(B, cells, S, S)`` uint8, ink bright.
        config: how much each character is changed, by a draw of its own.
        name: of the picture, so that both of a pair are changed by different draws.
        seed: the run's seed.
        index: ``(B,)`` global sample indices; None to change nothing.
        view: number of the view.

    Returns:
        ``(B, 1, rows·S, columns·S)`` float32 from 0 to 1, on the input's device.

    Raises:
        ValueError: the input is not uint8 of that shape, or ``index`` not one per picture.
    """
    if cells.dtype != torch.uint8 or cells.dim() != 4 or cells.shape[1] != config.cells:
        raise ValueError(
            f"{name}: is {cells.dtype} of shape {tuple(cells.shape)}; give the characters of a "
            f"picture as (B, {config.cells}, S, S) uint8"
        )
    ink = cells.float() / 255
    if index is not None and config.changed:
        check_count(index, len(cells))
        draws = _draws(config, name, seed, as_array(index), view, cells.shape[-1])
        ink = _moved(ink, to_device(draws, cells.device, torch.float32))
    rows, columns = grid_of(config.cells)
    side = cells.shape[-1]
    grid = ink.view(-1, rows, columns, side, side).transpose(2, 3)
    return grid.reshape(-1, 1, rows * side, columns * side)


def _draws(
    config: PicturesConfig, name: str, seed: int, index: NDArray[np.int64], view: int, side: int
) -> NDArray[np.float64]:
    """Affine maps ``(B, cells, 2, 3)`` from places in the result to places in the character."""
    cell = np.arange(config.cells)

    def between(low: float, high: float, purpose: str) -> NDArray[np.float64]:
        u = random.uniform(seed, f"{name}/{purpose}", index[:, None], view, cell)
        return np.asarray(low + (high - low) * u)

    # In units of half a cell's side, as torch counts.
    reach = 2 * config.shift / side
    across, down = between(-reach, reach, "shift-x"), between(-reach, reach, "shift-y")
    turn = np.deg2rad(between(-config.turn, config.turn, "turn"))
    size = between(*config.scale, "scale")
    cosine, sine = np.cos(turn) / size, np.sin(turn) / size
    rows = [np.stack([cosine, -sine, across], -1), np.stack([sine, cosine, down], -1)]
    return np.stack(rows, -2)


def _moved(ink: Tensor, maps: Tensor) -> Tensor:
    """Characters ``(B, cells, S, S)`` changed by ``maps (B, cells, 2, 3)``; paper comes in."""
    flat = ink.flatten(0, 1).unsqueeze(1)
    places = F.affine_grid(maps.flatten(0, 1), list(flat.shape), align_corners=False)
    return F.grid_sample(flat, places, align_corners=False).view_as(ink)
