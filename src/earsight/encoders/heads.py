"""Heads: from pooled features to embeddings."""

from itertools import pairwise

from torch import Tensor, nn

from earsight.config import HeadConfig


class MLPHead(nn.Module):
    """Linear layers with ReLU between, 512-512-128 in AVID.

    With ``config.norm`` a batch norm stands before each ReLU and, without scale and shift, at the
    end, where it keeps the embeddings centred (layers before a norm have no bias, which it would
    cancel); the linear layers keep their places in ``projection``. With ``config.fcl`` one more
    linear layer without bias follows, ``fcl`` (cm-acc §3).

    Args:
        in_dim: size of the features.
        config: widths of the hidden layers, size of the embedding, batch norm or none.
    """

    def __init__(self, in_dim: int, config: HeadConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = (in_dim, *config.hidden)
        for before, after in pairwise(widths):
            layers.append(nn.Linear(before, after, bias=not config.norm))
            layers.append(_activation(after, config.norm))
        layers.append(nn.Linear(widths[-1], config.dim, bias=not config.norm))
        if config.norm:
            layers.append(nn.BatchNorm1d(config.dim, affine=False))
        self.projection = nn.Sequential(*layers)
        self.fcl = nn.Linear(config.dim, config.dim, bias=False) if config.fcl else None

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(B, in_dim)`` to unnormalised embeddings ``(B, dim)``."""
        y: Tensor = self.projection(x)
        return y if self.fcl is None else self.fcl(y)


def _activation(width: int, norm: bool) -> nn.Module:
    if not norm:
        return nn.ReLU(inplace=True)
    return nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(inplace=True))
