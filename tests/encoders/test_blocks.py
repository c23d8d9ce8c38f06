"""Blocks pooled to grids, against loops over cells, and from one pass."""

import math

import pytest
import torch
from torch import nn

from earsight.encoders.blocks import GRIDS, encode, has_blocks, pool_block
from earsight.encoders.conv2d_audio import Conv2DAudio
from earsight.encoders.r2plus1d import R2Plus1D


def cells(plane: torch.Tensor, side: int) -> torch.Tensor:
    """Adaptive max pooling of ``(H, W)`` by its definition."""
    height, width = plane.shape
    grid = torch.empty(side, side)
    for i in range(side):
        for j in range(side):
            rows = slice(i * height // side, math.ceil((i + 1) * height / side))
            columns = slice(j * width // side, math.ceil((j + 1) * width / side))
            grid[i, j] = plane[rows, columns].max()
    return grid


@pytest.mark.parametrize("block", [1, 2, 3, 4])
def test_cells_hold_the_largest_value_of_all_frames(block):
    activation = torch.randn(2, 3, 4, 17, 14)
    side = GRIDS[block]
    pooled = pool_block(activation, block).view(2, 3, side, side)
    for sample in range(2):
        for channel in range(3):
            plane = activation[sample, channel].amax(dim=0)
            assert torch.equal(pooled[sample, channel], cells(plane, side))


def test_sizes_at_full_width():
    video = [(64, 16, 56), (128, 8, 28), (256, 4, 14), (512, 2, 7)]
    audio = [(64, 50, 65), (128, 25, 33), (256, 13, 17), (512, 13, 17)]
    for block, ((c, t, side), (k, frames, bands)) in enumerate(zip(video, audio, strict=True), 1):
        wanted = {1: 9216, 2: 8192, 3: 9216, 4: 8192}[block]
        assert pool_block(torch.zeros(1, c, t, side, side), block).shape == (1, wanted)
        assert pool_block(torch.zeros(1, k, frames, bands), block).shape == (1, wanted)


def test_small_activations_keep_their_own_cells():
    activation = torch.randn(2, 3, 7, 5)
    assert torch.equal(pool_block(activation, 1), activation.flatten(1))
    line = torch.randn(2, 3, 20)
    assert torch.equal(pool_block(line, 1), line.flatten(1))
    assert pool_block(line, 4).shape == (2, 3 * 16)


@pytest.mark.parametrize(
    ("encoder", "shape"),
    [(R2Plus1D(width=2), (2, 3, 4, 16, 16)), (Conv2DAudio(width=2), (2, 1, 20, 17))],
)
def test_one_pass_gives_output_and_blocks(encoder, shape):
    encoder.eval()
    calls = []
    encoder.conv1.register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(shape)
    encoded = encode(encoder, x, (1, 2, 3, 4))
    assert len(calls) == 1
    assert torch.equal(encoded.pooled, encoder(x))
    for block, activation in enumerate(encoder.forward_features(x), 1):
        assert torch.equal(encoded.blocks[block], pool_block(activation, block))
    assert encode(encoder, x).blocks == {}


def test_an_encoder_without_blocks_gives_its_output_alone():
    plain = nn.Flatten()
    x = torch.randn(2, 3, 4)
    assert not has_blocks(plain)
    encoded = encode(plain, x, (1, 4))
    assert torch.equal(encoded.pooled, x.flatten(1))
    assert encoded.blocks == {}
