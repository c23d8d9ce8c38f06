"""The small encoder of pictures: shapes, gradients, any number of cells, both registries."""

import pytest
import torch

from earsight.config import AUDIO_ENCODERS, VIDEO_ENCODERS, ConfigError, parse
from earsight.encoders.conv2d_picture import Conv2DPicture, Conv2DPictureConfig
from earsight.presets import load


@pytest.mark.parametrize("size", [(32, 32), (32, 64), (64, 64), (64, 128)])
def test_forward_and_backward(size):
    torch.manual_seed(0)
    net = Conv2DPicture(width=4, dim=32)
    features = net(torch.randn(3, 1, *size))
    assert features.shape == (3, net.dim) == (3, 32)
    features.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_both_pictures_of_a_pair_can_have_it():
    for registry in (VIDEO_ENCODERS, AUDIO_ENCODERS):
        assert isinstance(registry.build(Conv2DPictureConfig(width=2)), Conv2DPicture)


def test_sizes_below_one_are_refused():
    tree = load("study-omniglot")
    tree["video_encoder"] = {"name": "conv2d-picture", "width": 0, "dim": 0}
    with pytest.raises(ConfigError) as error:
        parse(tree)
    for name in ("width", "dim"):
        assert f"video_encoder.{name}: must be at least 1" in str(error.value)


def test_the_linear_layer_knows_where_something_stands():
    torch.manual_seed(0)
    net = Conv2DPicture(width=4).eval()
    picture = torch.zeros(1, 1, 64, 128)
    picture[..., :32, :32] = torch.rand(32, 32)
    assert not torch.allclose(net(picture), net(picture.roll(64, dims=3)), atol=1e-3)
