"""Convolutions of video networks; (2+1)D ones run as two-dimensional, on folded activations.

Parameters keep the shapes of three-dimensional convolutions, so released weights load. The
activations stay channels-last throughout: then folding time into the batch (a convolution in
space) and folding height into width (a convolution in time) are views, and nothing is copied.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# A set, not a call: compiled encoders would be broken in two there.
_WITH_AUTOCAST = frozenset(
    kind for kind in ("cpu", "cuda", "mps", "xpu") if torch.amp.is_autocast_available(kind)
)


def channels_last(x: Tensor) -> Tensor:
    """``x`` ``(B, C, …)`` with its channels innermost in memory.

    Under autocast also in the type that convolutions take: what is stacked and copied on the way
    to the first of them is then half as much, and rounds to the same.

    A single channel is ambiguous, and torch then takes the plain layout; here the strides say
    otherwise, so that convolutions answer in channels-last.
    """
    kind = x.device.type
    if kind in _WITH_AUTOCAST and torch.is_autocast_enabled(kind):
        x = x.to(torch.get_autocast_dtype(kind))
    if x.shape[1] == 1:
        return x.contiguous().squeeze(1).unsqueeze(-1).movedim(-1, 1)
    layout = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    return x.contiguous(memory_format=layout)


def fold_time(x: Tensor) -> Tensor:
    """``(B, C, T, H, W)`` as pictures ``(B·T, C, H, W)``."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold_time(x: Tensor, frames: int) -> Tensor:
    """``(B·T, C, H, W)`` as ``(B, C, T, H, W)``."""
    return x.reshape(-1, frames, *x.shape[1:]).transpose(1, 2)


class SpatialConv(nn.Conv3d):
    """A ``1 × k × k`` convolution without bias; frames are strided by leaving them out."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: tuple[int, int, int]
    ) -> None:
        half = kernel // 2
        super().__init__(
            in_channels, out_channels, (1, kernel, kernel), stride, (0, half, half), bias=False
        )

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, T, H, W)`` to ``(B, C', ⌈T/s⌉, ⌈H/s⌉, ⌈W/s⌉)``."""
        x = input[:, :, :: self.stride[0]]
        weight = self.weight.squeeze(2)
        y = F.conv2d(fold_time(x), weight, stride=self.stride[1:], padding=self.padding_of_space)
        return unfold_time(y, x.shape[2])

    @property
    def padding_of_space(self) -> tuple[int, int]:
        """Padding of height and width."""
        return self.kernel_size[1] // 2, self.kernel_size[2] // 2


class PointConv(nn.Conv3d):
    """A ``1 × 1 × 1`` convolution without bias, run as a product over the channels.

    oneDNN (seen in torch 2.13) writes past the end of this weight's gradient where fewer than
    eight channels come in channels-last and space is strided.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, 1, (stride, stride, stride), bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, T, H, W)`` to ``(B, C', ⌈T/s⌉, ⌈H/s⌉, ⌈W/s⌉)``."""
        step = self.stride[0]
        kept = input[:, :, ::step, ::step, ::step].movedim(1, -1)
        return F.linear(kept, self.weight.flatten(1)).movedim(-1, 1)


class TemporalConv(nn.Conv3d):
    """A ``3 × 1 × 1`` convolution without bias."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(
            in_channels, out_channels, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False
        )

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, T, H, W)`` to ``(B, C', ⌈T/s⌉, H, W)``."""
        height, width = input.shape[3:]
        weight = self.weight.squeeze(4)
        y = F.conv2d(input.flatten(3), weight, stride=(self.stride[0], 1), padding=(1, 0))
        return y.reshape(*y.shape[:3], height, width)


class SpaceTimeConv(nn.Conv3d):
    """A ``3 × 3 × 3`` convolution without bias; on the CPU, three frames are stacked first.

    There, oneDNN (seen in torch 2.13, in bfloat16) leaves a part of this weight's gradient
    unwritten where two frames come in, and has corrupted memory where it strides.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, 3, stride, 1, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, T, H, W)`` to ``(B, C', ⌈T/s⌉, ⌈H/s⌉, ⌈W/s⌉)``."""
        if input.device.type != "cpu":
            return super().forward(input)
        step = self.stride[0]
        stacked = _stack_neighbours(input, 3, step)
        y = F.conv2d(stacked, self.weight.flatten(1, 2), stride=step, padding=1)
        return unfold_time(y, -(-input.shape[2] // step))


class StemConv(nn.Conv3d):
    """A ``k × 7 × 7`` convolution without bias, halving space: ``k`` frames are stacked first.

    Stacked, the few channels of pictures become enough for fast kernels.
    """

    def __init__(self, in_channels: int, out_channels: int, frames: int = 3) -> None:
        half = frames // 2
        super().__init__(
            in_channels, out_channels, (frames, 7, 7), (1, 2, 2), (half, 3, 3), bias=False
        )

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, T, H, W)`` to ``(B, C', T, ⌈H/2⌉, ⌈W/2⌉)``."""
        frames = input.shape[2]
        weight = self.weight.flatten(1, 2)
        y = F.conv2d(_stack_neighbours(input, self.kernel_size[0]), weight, stride=2, padding=3)
        return unfold_time(y, frames)


def _stack_neighbours(x: Tensor, count: int, step: int = 1) -> Tensor:
    """Every ``step``-th frame amid ``count`` neighbours as channels, ``(B·T/step, C·count, H, W)``.

    Frames beyond the ends are zero. The result is channels-last.
    """
    half = count // 2
    padded = F.pad(x.permute(0, 2, 3, 4, 1), (0, 0, 0, 0, 0, 0, half, half))
    return padded.unfold(1, count, step).flatten(4).flatten(0, 1).permute(0, 3, 1, 2)


def initialise(module: nn.Module) -> None:
    """Kaiming-normal weights by fan-out for convolutions, one and zero for batch norms."""
    for part in module.modules():
        if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
