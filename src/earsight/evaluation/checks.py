"""What every measurement asks of its features and labels."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize


def check_features(name: str, features: Tensor, *, least: int = 1) -> Tensor:
    """Floating features as float32 or float64, or an error that says what is wrong with them.

    Args:
        name: what to call them in an error.
        features: ``(N, D)``.
        least: fewest rows that can be used.

    Raises:
        ValueError: they are not ``(N, D)``, too few, empty, or hold NaN or infinity.
    """
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(f"{name} must have shape (N, D), not {tuple(features.shape)}")
    if len(features) < least:
        raise ValueError(f"{name}: {len(features)} given, at least {least} needed; use more clips")
    wide = features.detach()
    if wide.dtype != torch.float64:
        wide = wide.float()
    if not bool(torch.isfinite(wide).all()):
        raise ValueError(
            f"{name} hold NaN or infinity: the weights have diverged; take an earlier checkpoint"
        )
    return wide


def check_unit(name: str, embeddings: Tensor, *, least: int = 1) -> Tensor:
    """As :func:`check_features`, then scaled to unit length (a zero vector stays zero)."""
    return normalize(check_features(name, embeddings, least=least), dim=1)


def check_width(left: Tensor, right: Tensor, names: str) -> None:
    """Refuse features of two sizes, which come of two models.

    Raises:
        ValueError: the number of columns differs.
    """
    if left.shape[1] != right.shape[1]:
        raise ValueError(
            f"{names} have {left.shape[1]} and {right.shape[1]} values; take both from one model"
        )


def check_labels(name: str, labels: Tensor, count: int) -> Tensor:
    """Labels as int64 ``(N,)``, one class each.

    Args:
        name: what to call them in an error.
        labels: ``(N,)`` of any integer type, classes counted from 0.
        count: the number of samples they belong to.

    Raises:
        ValueError: several labels a sample, another number of labels than samples, labels that are
            no integers, or negative ones.
    """
    if labels.ndim == 2:
        raise ValueError(
            f"{name} are {tuple(labels.shape)}, several a sample; this classifier takes one class "
            "a sample: choose a label column with single classes"
        )
    if labels.ndim != 1 or len(labels) != count:
        raise ValueError(f"{name} must have shape ({count},), not {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"{name} must be integers from 0, not {labels.dtype}")
    if count and int(labels.min()) < 0:
        raise ValueError(f"{name} hold negative numbers; leave unlabelled samples out")
    return labels.detach().long()


def chunk_rows(columns: int) -> int:
    """Rows of a similarity matrix that fit in about 16 MB of float32 (at least one)."""
    return max(1, 2**22 // max(1, columns))


def chunks(rows: Tensor, columns: int) -> Iterator[Tensor]:
    """Consecutive rows, as many at a time as :func:`chunk_rows` allows."""
    size = chunk_rows(columns)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
