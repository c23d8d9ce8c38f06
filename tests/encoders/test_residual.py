"""The residual encoders: shapes at full size, sizes known from elsewhere, and plain networks."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from earsight.config import AUDIO_ENCODERS, VIDEO_ENCODERS
from earsight.encoders.blocks import encode
from earsight.encoders.r2plus1d_standard import R2Plus1DStandard, R2Plus1DStandardConfig
from earsight.encoders.resnet1d_audio import ResNet1DAudio, ResNet1DAudioConfig
from earsight.encoders.resnet3d import ResNet3D, ResNet3DConfig

CLIP, MEL = (3, 16, 224, 224), (1, 160, 80)
FULL_SIZE = {
    ResNet3D: (
        CLIP,
        (64, 8, 56, 56),
        [(64, 8, 56, 56), (128, 4, 28, 28), (256, 2, 14, 14), (512, 1, 7, 7)],
        [9216, 8192, 9216, 8192],
    ),
    R2Plus1DStandard: (
        CLIP,
        (64, 16, 112, 112),
        [(64, 16, 112, 112), (128, 8, 56, 56), (256, 4, 28, 28), (512, 2, 14, 14)],
        [9216, 8192, 9216, 8192],
    ),
    ResNet1DAudio: (
        MEL,
        (64, 40),
        [(64, 40), (128, 20), (256, 10), (512, 5)],
        [2560, 2560, 2560, 2560],
    ),
}
HEAD = 512 * 400 + 400
"""The classifier of Kinetics-400, part of the counts that are published with video weights."""
KNOWN = {
    # R3D-18 has 33,371,472 as torchvision publishes it, with 3 frames in its stem instead of 7.
    ResNet3D: 33_371_472 - HEAD + 4 * 3 * 64 * 7 * 7,
    R2Plus1DStandard: 31_505_325 - HEAD,
    # The ResNet-18 of pictures has 11,689,512, of which 512·1000 + 1000 its classifier, 9,408 the
    # first convolution, 9,600 batch norm and 172,032 shortcuts; a third is left of each 3×3.
    ResNet1DAudio: (11_689_512 - 513_000 - 9_408 - 9_600 - 172_032) // 3
    + (7 * 80 * 64 + 9_600 + 172_032),
}
SMALL = {
    ResNet3D: (partial(ResNet3D, width=3), (2, 3, 5, 35, 40)),
    R2Plus1DStandard: (partial(R2Plus1DStandard, width=3), (2, 3, 5, 17, 20)),
    ResNet1DAudio: (partial(ResNet1DAudio, bands=6, width=3), (2, 1, 45, 6)),
}
every = pytest.mark.parametrize("kind", FULL_SIZE, ids=lambda kind: kind.__name__)


@every
def test_full_size(kind):
    size, stem, blocks, cells = FULL_SIZE[kind]
    with torch.device("meta"):
        net = kind()
        x = torch.empty(1, *size)
    assert sum(p.numel() for p in net.parameters()) == KNOWN[kind]
    assert net.stem(x).shape[1:] == stem
    assert [tuple(block.shape[1:]) for block in net.forward_features(x)] == blocks
    encoded = encode(net, x, (1, 2, 3, 4))
    assert encoded.pooled.shape == (1, net.dim) == (1, 512)
    assert [encoded.blocks[n].shape[1] for n in (1, 2, 3, 4)] == cells


@pytest.mark.parametrize("depth", [10, 18, 34])
@every
def test_equals_plain_network(kind, depth):
    torch.manual_seed(depth)
    make, shape = SMALL[kind]
    net = make(depth=depth).double()
    for value in net.buffers():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5)
    for value in net.parameters():
        if value.dim() == 1:
            value.data.uniform_(0.5, 1.5)
    net.eval()
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(net(x), naive(kind, net.state_dict(), x, depth))


def naive(kind, state, x, depth):
    """The network in the notation of the papers, from its weights."""
    video = kind is not ResNet1DAudio

    def norm(x, name):
        stats = (state[f"{name}.{part}"] for part in ("running_mean", "running_var"))
        return F.batch_norm(x, *stats, state[f"{name}.weight"], state[f"{name}.bias"])

    def conv(x, name, stride):
        weight = state[f"{name}.weight"]
        padding = [k // 2 for k in weight.shape[2:]]
        return (F.conv3d if video else F.conv1d)(x, weight, stride=stride, padding=padding)

    def wide(x, name, s):
        """The convolution of a block."""
        if kind is not R2Plus1DStandard:
            return conv(x, name, s)
        y = norm(conv(x, f"{name}.0", (1, s, s)), f"{name}.1").relu()
        return conv(y, f"{name}.3", (s, 1, 1))

    if kind is R2Plus1DStandard:
        x = norm(conv(x, "conv1.0", (1, 2, 2)), "conv1.1").relu()
        x = norm(conv(x, "conv1.3", 1), "conv1.4").relu()
    elif video:
        x = F.max_pool3d(norm(conv(x, "conv1.0", (1, 2, 2)), "conv1.1").relu(), 3, 2, 1)
    else:
        x = norm(conv(x[:, 0].mT, "conv1.0", 2), "conv1.1").relu()
        x = F.max_pool1d(x, 3, 2, 1)
    counts = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}[depth]
    for stage, count in enumerate(counts, 1):
        for number in range(count):
            s = 2 if stage > 1 and number == 0 else 1
            p = f"block{stage}.{number}"
            changed = stage > 1 and number == 0
            residual = norm(conv(x, f"{p}.shortcut.0", s), f"{p}.shortcut.1") if changed else x
            y = norm(wide(x, f"{p}.conv1", s), f"{p}.bn1").relu()
            x = (norm(wide(y, f"{p}.conv2", 1), f"{p}.bn2") + residual).relu()
    return x.flatten(2).sum(2) / x[0, 0].numel()


@every
def test_gradients_are_those_of_double_precision(kind):
    """Narrow channels-last convolutions take kernels some of which have failed here."""
    torch.manual_seed(0)
    make, shape = SMALL[kind]
    net = make(depth=10)
    exact = make(depth=10).double()
    exact.load_state_dict(net.state_dict())
    x = torch.randn(shape)
    net(x).square().sum().backward()
    exact(x.double()).square().sum().backward()
    for (name, parameter), other in zip(net.named_parameters(), exact.parameters(), strict=True):
        assert parameter.grad.any(), name
        error = (parameter.grad.double() - other.grad).norm() / other.grad.norm()
        assert error < 1e-3, name


def test_middle_widths_make_a_pair_as_large_as_one_convolution():
    net = R2Plus1DStandard()
    middle = [net.block1[0].conv1, net.block2[0].conv1, net.block2[0].conv2, net.block2[1].conv1]
    assert [pair[0].out_channels for pair in middle] == [144, 230, 230, 288]
    assert net.conv1[0].out_channels == 45
    assert R2Plus1DStandard(width=1).conv1[0].out_channels == 1


@pytest.mark.parametrize("kind", [ResNet3D, R2Plus1DStandard])
def test_memory_layout_of_the_input_does_not_matter(kind):
    torch.manual_seed(0)
    net = kind(depth=10, width=4)
    x = torch.randn(2, 3, 4, 32, 32)
    form = torch.channels_last_3d
    assert torch.equal(net(x), net(x.contiguous(memory_format=form)))
    assert all(block.is_contiguous(memory_format=form) for block in net.forward_features(x)[:3])


@every
def test_learns_under_autocast(kind):
    make, shape = SMALL[kind]
    net = make(depth=10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = net(torch.randn(shape)).float().square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    ("registry", "settings", "kind"),
    [
        (VIDEO_ENCODERS, ResNet3DConfig, ResNet3D),
        (VIDEO_ENCODERS, R2Plus1DStandardConfig, R2Plus1DStandard),
        (AUDIO_ENCODERS, ResNet1DAudioConfig, ResNet1DAudio),
    ],
)
def test_registered(registry, settings, kind):
    net = registry.build(settings(depth=10, width=8))
    assert isinstance(net, kind)
    assert net.dim == 64
    assert len(net.block4) == 1
    assert not any(m.bias is not None for m in net.modules() if hasattr(m, "kernel_size"))
    assert list(settings(width=0).faults()) == ["width: must be at least 1"]
    assert not list(settings().faults())
    with pytest.raises(ValueError, match="depth"):
        settings(depth=9)


def test_bands_are_the_channels_of_the_first_convolution():
    net = AUDIO_ENCODERS.build(ResNet1DAudioConfig(bands=12, width=2))
    assert net.conv1[0].weight.shape == (2, 12, 7)
    assert list(ResNet1DAudioConfig(bands=0).faults()) == ["bands: must be at least 1"]
