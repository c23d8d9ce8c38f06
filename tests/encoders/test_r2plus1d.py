import pytest
import torch
from torch.nn import functional as F

from earsight.config import VIDEO_ENCODERS
from earsight.encoders.r2plus1d import R2Plus1D, R2Plus1DConfig

FULL_SIZE = {
    9: (
        (16, 112),
        (64, 16, 56, 56),
        [(64, 16, 56, 56), (128, 8, 28, 28), (256, 4, 14, 14), (512, 2, 7, 7)],
    ),
    10: (
        (16, 112),
        (64, 16, 28, 28),
        [(64, 16, 28, 28), (128, 8, 14, 14), (256, 4, 7, 7), (512, 2, 4, 4)],
    ),
    18: (
        (8, 224),
        (64, 8, 56, 56),
        [(64, 8, 56, 56), (128, 4, 28, 28), (256, 2, 14, 14), (512, 1, 7, 7)],
    ),
    34: (
        (8, 224),
        (64, 8, 56, 56),
        [(64, 8, 56, 56), (128, 4, 28, 28), (256, 2, 14, 14), (512, 1, 7, 7)],
    ),
}


@pytest.mark.parametrize("depth", FULL_SIZE)
def test_full_size_forward_and_backward(depth):
    (frames, size), stem, blocks = FULL_SIZE[depth]
    torch.manual_seed(0)
    net = R2Plus1D(depth)
    seen = []
    net.conv2x.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1:]))
    features = net.forward_features(torch.randn(1, 3, frames, size, size))
    assert seen == [stem]
    assert [tuple(block.shape[1:]) for block in features] == blocks
    pooled = features[-1].amax(dim=(2, 3, 4))
    assert pooled.shape == (1, net.dim) == (1, 512)
    pooled.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("depth", FULL_SIZE)
def test_equals_plain_three_dimensional_network(depth):
    torch.manual_seed(depth)
    net = R2Plus1D(depth, width=4).double()
    for value in net.buffers():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5)
    for name, value in net.named_parameters():
        if "bn" in name:
            value.data.uniform_(0.5, 1.5)
    x = torch.randn(2, 3, 5, 17, 20, dtype=torch.float64)
    net.eval()
    torch.testing.assert_close(net(x), naive(net.state_dict(), x, depth))


def naive(state, x, depth):
    """The network in the notation of avid-cma tables 9 and 10, from its weights."""

    def norm(x, name):
        stats = (state[f"{name}.{part}"] for part in ("running_mean", "running_var"))
        return F.batch_norm(x, *stats, state[f"{name}.weight"], state[f"{name}.bias"])

    def conv(x, name, stride):
        weight = state[f"{name}.weight"]
        padding = [(k - 1) // 2 for k in weight.shape[2:]]
        return F.conv3d(x, weight, stride=stride, padding=padding)

    x = norm(conv(x, "conv1.0", (1, 2, 2)), "conv1.1").relu()
    if depth > 9:
        x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for stage in ("conv2x", "conv3x", "conv4x", "conv5x"):
        blocks = {key.split(".")[1] for key in state if key.startswith(stage)}
        for number in range(len(blocks)):
            s = 2 if stage != "conv2x" and number == 0 else 1
            p = f"{stage}.{number}"
            has_residual = f"{p}.res_conv.weight" in state
            residual = conv(x, f"{p}.res_conv", (s, s, s)) if has_residual else x
            y = norm(conv(x, f"{p}.spt_conv1", (1, s, s)), f"{p}.spt_bn1").relu()
            y = norm(conv(y, f"{p}.tmp_conv1", (s, 1, 1)), f"{p}.tmp_bn1").relu()
            y = norm(conv(y, f"{p}.spt_conv2", (1, 1, 1)), f"{p}.spt_bn2").relu()
            x = norm(conv(y, f"{p}.tmp_conv2", (1, 1, 1)) + residual, f"{p}.out_bn").relu()
    return x.flatten(2).max(dim=2).values


@pytest.mark.parametrize(("depth", "blocks"), [(9, 4), (10, 4), (18, 8), (34, 16)])
def test_blocks(depth, blocks):
    names = [name for name, _ in R2Plus1D(depth, width=1).named_modules()]
    assert sum(name.endswith(".spt_conv1") for name in names) == blocks
    assert sum(name.endswith(".res_conv") for name in names) == 3


def test_weights_are_a_function_of_the_seed():
    def draw(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in R2Plus1D(9, width=2).parameters()])

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_memory_layout_of_the_input_does_not_matter():
    torch.manual_seed(0)
    net = R2Plus1D(9, width=4)
    x = torch.randn(2, 3, 4, 16, 16)
    other = x.contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(net(x), net(other))
    assert net.forward_features(x)[1].is_contiguous(memory_format=torch.channels_last_3d)


def test_registered():
    net = VIDEO_ENCODERS.build(R2Plus1DConfig(depth=18, width=8))
    assert isinstance(net, R2Plus1D)
    assert net.dim == 64
    assert net.pools_stem
    assert net.conv1[0].weight.shape[0] == 8
    assert list(R2Plus1DConfig(width=0).faults()) == ["width: must be at least 1"]
    with pytest.raises(ValueError, match="depth"):
        R2Plus1DConfig(depth=11)
