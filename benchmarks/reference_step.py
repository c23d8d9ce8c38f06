"""A training step as published code does it: eager float32, plain layout, gathered copies.

R(2+1)D-18 of three-dimensional convolutions and Conv2D-9 of two-dimensional ones, under the names
of ours, so that weights can be shared. Each direction copies the targets of its positives and
negatives out of the bank, ``(B, 1 + K, D)``; numbers for the log are read in every step.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS = (2, 2, 2, 2)
WIDTH = 64


class Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        space = {"kernel_size": (1, 3, 3), "padding": (0, 1, 1), "bias": False}
        time = {"kernel_size": (3, 1, 1), "padding": (1, 0, 0), "bias": False}
        self.spt_conv1 = nn.Conv3d(inside, outside, stride=(1, stride, stride), **space)  # type: ignore[arg-type]
        self.spt_bn1 = nn.BatchNorm3d(outside)
        self.tmp_conv1 = nn.Conv3d(outside, outside, stride=(stride, 1, 1), **time)  # type: ignore[arg-type]
        self.tmp_bn1 = nn.BatchNorm3d(outside)
        self.spt_conv2 = nn.Conv3d(outside, outside, stride=1, **space)  # type: ignore[arg-type]
        self.spt_bn2 = nn.BatchNorm3d(outside)
        self.tmp_conv2 = nn.Conv3d(outside, outside, stride=1, **time)  # type: ignore[arg-type]
        self.out_bn = nn.BatchNorm3d(outside)
        changes = stride != 1 or inside != outside
        self.res_conv = nn.Conv3d(inside, outside, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.res_conv is None else self.res_conv(x)
        y = F.relu(self.spt_bn1(self.spt_conv1(x)), inplace=True)
        y = F.relu(self.tmp_bn1(self.tmp_conv1(y)), inplace=True)
        y = F.relu(self.spt_bn2(self.spt_conv2(y)), inplace=True)
        return F.relu(self.out_bn(self.tmp_conv2(y) + residual), inplace=True)


class R2Plus1D18(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv3d(3, WIDTH, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False),
            nn.BatchNorm3d(WIDTH),
            nn.ReLU(inplace=True),
        )
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        inside = WIDTH
        for stage, count in enumerate(BLOCKS):
            outside = WIDTH * 2**stage
            first = Block(inside, outside, 1 if stage == 0 else 2)
            rest = [Block(outside, outside, 1) for _ in range(count - 1)]
            setattr(self, f"conv{stage + 2}x", nn.Sequential(first, *rest))
            inside = outside

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pool(self.conv1(x))
        for stage in range(len(BLOCKS)):
            y = getattr(self, f"conv{stage + 2}x")(y)
        return y.amax(dim=(2, 3, 4))


class AudioBlock(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)), inplace=True)


class Conv2D9(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(1, WIDTH, 7, 2, 3, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(inplace=True),
        )
        self.block1 = AudioBlock(WIDTH, WIDTH, 2)
        self.block2 = AudioBlock(WIDTH, 2 * WIDTH, 2)
        self.block3 = AudioBlock(2 * WIDTH, 4 * WIDTH, 2)
        self.block4 = AudioBlock(4 * WIDTH, 8 * WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block4(self.block3(self.block2(self.block1(self.conv1(x)))))
        return y.amax(dim=(2, 3))


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Linear(512, 512), nn.ReLU(inplace=True)]
        layers += [nn.Linear(512, 512), nn.ReLU(inplace=True), nn.Linear(512, 128)]
        self.projection = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.projection(x), dim=1)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.video_encoder, self.audio_encoder = R2Plus1D18(), Conv2D9()
        self.video_head, self.audio_head = Head(), Head()

    def forward(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        return self.video_head(self.video_encoder(video)), self.audio_head(
            self.audio_encoder(audio)
        )


class Reference:
    """Cross-AVID with a memory bank.

    Args:
        weights: of ours.
        video: targets ``(N, D)``.
        audio: likewise.
        lr: learning rate.
        decay: coupled weight decay.
    """

    def __init__(
        self, weights: dict[str, Tensor], video: Tensor, audio: Tensor, lr: float, decay: float
    ) -> None:
        self.model = Model().to(video.device)
        self.model.load_state_dict(weights)
        self.video, self.audio = video.clone(), audio.clone()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr, weight_decay=decay)
        self.partition = 0.0

    def step(self, video: Tensor, audio: Tensor, rows: Tensor) -> float:
        """One step on clips and their rows ``(B, 1 + K)``, the own one first; its loss."""
        self.optimizer.zero_grad()
        v, a = self.model(video, audio)
        scores = [self._scores(v, self.audio, rows), self._scores(a, self.video, rows)]
        if not self.partition:
            self.partition = torch.stack([s[:, 1:].exp().mean() for s in scores]).mean().item()
        loss = torch.stack([self._nce(s) for s in scores]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        for bank, x in ((self.video, v), (self.audio, a)):
            moved = 0.5 * bank[rows[:, 0]] + 0.5 * x.detach()
            bank[rows[:, 0]] = F.normalize(moved, dim=1)
        return loss.item()

    def _scores(self, queries: Tensor, bank: Tensor, rows: Tensor) -> Tensor:
        """``(B, 1 + K)`` by a copy of all targets, ``(B, 1 + K, D)``."""
        return torch.bmm(bank[rows], queries[:, :, None])[:, :, 0] / 0.07

    def _nce(self, scores: Tensor) -> Tensor:
        c = math.log(self.partition * (scores.shape[1] - 1))
        return (F.softplus(c - scores[:, 0]) + F.softplus(scores[:, 1:] - c).sum(dim=1)).mean()
