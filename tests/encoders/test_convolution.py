import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from earsight.encoders.convolution import (
    PointConv,
    SpaceTimeConv,
    SpatialConv,
    StemConv,
    TemporalConv,
    channels_last,
    fold_time,
    initialise,
    unfold_time,
)

LAYERS = [
    SpatialConv(3, 5, 3, (1, 1, 1)),
    SpatialConv(3, 5, 3, (1, 2, 2)),
    PointConv(3, 5, 1),
    PointConv(3, 5, 2),
    TemporalConv(3, 5, 1),
    TemporalConv(3, 5, 2),
    SpaceTimeConv(3, 5, 1),
    SpaceTimeConv(3, 5, 2),
    StemConv(3, 5),
    StemConv(3, 5, frames=7),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer.kernel_size}{layer.stride}")
@pytest.mark.parametrize("last", [True, False])
@given(size=st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)))
@settings(max_examples=10, deadline=None)
def test_equals_three_dimensional_convolution(layer, last, size):
    batch, frames, height, width = size
    layer = layer.double()
    layer.zero_grad()
    source = torch.randn(batch, 3, frames, height, width, dtype=torch.float64)
    plain = source.clone().requires_grad_()
    folded = source.clone().requires_grad_()
    weight = layer.weight.detach().clone().requires_grad_()
    wanted = F.conv3d(plain, weight, stride=layer.stride, padding=layer.padding)
    got = layer(channels_last(folded) if last else folded)
    torch.testing.assert_close(got, wanted)
    upstream = torch.randn_like(wanted)
    wanted.backward(upstream)
    got.backward(upstream)
    torch.testing.assert_close(folded.grad, plain.grad)
    torch.testing.assert_close(layer.weight.grad, weight.grad)


def test_parameters_have_three_dimensional_shapes():
    assert LAYERS[0].weight.shape == (5, 3, 1, 3, 3)
    assert LAYERS[4].weight.shape == (5, 3, 3, 1, 1)
    assert LAYERS[8].weight.shape == (5, 3, 3, 7, 7)
    assert LAYERS[9].weight.shape == (5, 3, 7, 7, 7)
    assert all(layer.bias is None for layer in LAYERS)


def test_folding_channels_last_activations_copies_nothing():
    x = channels_last(torch.randn(2, 8, 3, 4, 5))
    assert fold_time(x).data_ptr() == x.data_ptr()
    assert unfold_time(fold_time(x), 3).data_ptr() == x.data_ptr()
    assert torch.equal(unfold_time(fold_time(x), 3), x)
    assert x.flatten(3).data_ptr() == x.data_ptr()


@pytest.mark.parametrize("shape", [(2, 1, 6, 7), (2, 4, 6, 7)])
def test_channels_last_makes_convolutions_answer_channels_last(shape):
    x = torch.randn(shape)
    conv = nn.Conv2d(shape[1], 8, 3)
    assert torch.equal(channels_last(x), x)
    assert conv(channels_last(x)).is_contiguous(memory_format=torch.channels_last)


def test_channels_last_of_one_channel_takes_any_strides():
    x = torch.randn(3, 1, 7, 5).transpose(2, 3)
    assert torch.equal(channels_last(x), x)


def test_initialise():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64), nn.Conv3d(32, 64, (3, 1, 1)), nn.Conv1d(32, 64, 9)
    )
    nn.init.zeros_(net[1].weight)
    initialise(net)
    assert net[0].weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert net[2].weight.std().item() == pytest.approx((2 / (64 * 3)) ** 0.5, rel=0.02)
    assert net[3].weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert torch.equal(net[1].weight, torch.ones(64))
    assert torch.equal(net[1].bias, torch.zeros(64))


@pytest.mark.parametrize("channels", [2, 3, 4, 6, 7, 8])
def test_gradients_of_narrow_strided_projections_in_float32(channels):
    """Single precision takes other kernels than double, some of which have failed here."""
    layer = PointConv(channels, 2 * channels, 2)
    exact = layer.weight.detach().double().requires_grad_()
    for _ in range(5):
        x = channels_last(torch.randn(8, channels, 4, 16, 16))
        upstream = torch.randn(8, 2 * channels, 2, 8, 8)
        layer.zero_grad()
        exact.grad = None
        layer(x).backward(upstream)
        F.conv3d(x.double(), exact, stride=2).backward(upstream.double())
        torch.testing.assert_close(layer.weight.grad.double(), exact.grad, rtol=1e-3, atol=1e-3)


def leave_behind_nan():
    """Free memory that is full of NaN: kernels that do not write all of a result show."""
    for size in range(4, 20):
        _ = [torch.full((2**size,), torch.nan) for _ in range(4)]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_gradients_in_bfloat16(frames, stride):
    """Kernels of another precision are others still, some of which have failed here."""
    layer = SpaceTimeConv(8, 8, stride)
    exact = layer.weight.detach().bfloat16().double().requires_grad_()
    x = channels_last(torch.randn(2, 8, frames, 6, 6)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    upstream = torch.randn_like(y)
    leave_behind_nan()
    y.backward(upstream)
    F.conv3d(x.double(), exact, stride=stride, padding=1).backward(upstream.double())
    error = (layer.weight.grad.double() - exact.grad).norm() / exact.grad.norm()
    assert error < 0.02
