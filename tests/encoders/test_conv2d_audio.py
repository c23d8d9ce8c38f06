import pytest
import torch
from torch.nn import functional as F

from earsight.config import AUDIO_ENCODERS
from earsight.encoders.conv2d_audio import Conv2DAudio, Conv2DAudioConfig

BLOCKS = [(64, 50, 65), (128, 25, 33), (256, 13, 17), (512, 13, 17)]


@pytest.mark.parametrize(
    ("strides", "size", "stem"),
    [((1, 2, 2, 1), (100, 129), (64, 50, 65)), ((2, 2, 2, 1), (200, 257), (64, 100, 129))],
)
def test_full_size_forward_and_backward(strides, size, stem):
    torch.manual_seed(0)
    net = Conv2DAudio(strides=strides)
    seen = []
    net.block1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1:]))
    features = net.forward_features(torch.randn(2, 1, *size))
    assert seen == [stem]
    assert [tuple(block.shape[1:]) for block in features] == BLOCKS
    pooled = features[-1].amax(dim=(2, 3))
    assert pooled.shape == (2, net.dim) == (2, 512)
    pooled.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_equals_plain_network():
    torch.manual_seed(0)
    net = Conv2DAudio(width=3, strides=(2, 1, 2, 1)).double().eval()
    for buffer in net.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    state = net.state_dict()

    def layer(x, conv, norm, stride):
        weight = state[f"{conv}.weight"]
        y = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, variance = (state[f"{norm}.running_{part}"] for part in ("mean", "var"))
        return F.batch_norm(
            y, mean, variance, state[f"{norm}.weight"], state[f"{norm}.bias"]
        ).relu()

    x = torch.randn(2, 1, 21, 30, dtype=torch.float64)
    y = layer(x, "conv1.0", "conv1.1", 2)
    for block, stride in zip(("block1", "block2", "block3", "block4"), (2, 1, 2, 1), strict=True):
        y = layer(y, f"{block}.conv1", f"{block}.bn1", stride)
        y = layer(y, f"{block}.conv2", f"{block}.bn2", 1)
    torch.testing.assert_close(net(x), y.flatten(2).max(dim=2).values)


def test_runs_channels_last():
    net = Conv2DAudio(width=4)
    features = net.forward_features(torch.randn(2, 1, 20, 30))
    assert all(block.is_contiguous(memory_format=torch.channels_last) for block in features)


def test_registered():
    net = AUDIO_ENCODERS.build(Conv2DAudioConfig(width=8, strides=(2, 2, 2, 1)))
    assert isinstance(net, Conv2DAudio)
    assert net.dim == 64
    assert net.block1.conv1.stride == (2, 2)
    assert not list(Conv2DAudioConfig().faults())
    assert len(list(Conv2DAudioConfig(width=0, strides=(1, 2, 3, 1)).faults())) == 2
