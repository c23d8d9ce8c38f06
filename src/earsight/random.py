"""Counter-based random draws: pure functions of what is drawn, with no generator state to save.

Every draw is a hash of ``(seed, purpose, index, view, n)``: the same wherever it is made, in
whatever order, by however many workers. The hash is the finaliser of SplitMix64 (Steele, Lea and
Flood, 2014), chained over the fields. NumPy serves the loader, torch the device; both give the
same bits.
"""

import hashlib

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_MASK = 2**64 - 1
_FEISTEL_ROUNDS = 6

UInt64 = NDArray[np.uint64]


def _mix(x: UInt64) -> UInt64:
    """SplitMix64's finaliser, wrapping modulo 2**64."""
    # NumPy warns of the wrapping for scalars alone.
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX_1)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX_2)
    return x ^ (x >> np.uint64(31))


def purpose_code(purpose: str) -> int:
    """A 64-bit code for a purpose, the same in every process and version."""
    return int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")


def stream(seed: int, purpose: str, index: ArrayLike, view: ArrayLike = 0) -> UInt64:
    """One 64-bit stream identifier per ``index``, from which numbered draws are made.

    Args:
        seed: the run's seed.
        purpose: what the draws decide, such as ``"crop"``; separates unrelated draws.
        index: integers of any shape, such as global sample indices.
        view: integers that broadcast against ``index``.
    """
    start = np.array((seed * _GOLDEN ^ purpose_code(purpose)) & _MASK, dtype=np.uint64)
    fields = (np.asarray(index).astype(np.uint64), np.asarray(view).astype(np.uint64))
    with np.errstate(over="ignore"):
        h = _mix(start)
        for field in fields:
            h = _mix(h ^ (field + np.uint64(1)) * np.uint64(_GOLDEN))
    return np.asarray(h, dtype=np.uint64)


def bits(streams: UInt64, n: ArrayLike) -> UInt64:
    """64 random bits: draw number ``n`` of each stream (the two broadcast)."""
    with np.errstate(over="ignore"):
        counter = (np.asarray(n).astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN)
        return np.asarray(_mix(streams + counter), dtype=np.uint64)


def uniform(
    seed: int, purpose: str, index: ArrayLike, view: ArrayLike = 0, n: ArrayLike = 0
) -> NDArray[np.float64]:
    """Uniform draws in ``[0, 1)`` with 53 random bits, one per broadcast element."""
    h = bits(stream(seed, purpose, index, view), n)
    return np.asarray((h >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def integers(
    seed: int,
    purpose: str,
    index: ArrayLike,
    high: ArrayLike,
    view: ArrayLike = 0,
    n: ArrayLike = 0,
) -> NDArray[np.int64]:
    """Uniform integers in ``[0, high)``, ``high < 2**31``, by a 64-bit multiply-high."""
    h = bits(stream(seed, purpose, index, view), n)
    bound = np.asarray(high).astype(np.uint64)
    upper, lower = h >> np.uint64(32), h & np.uint64(0xFFFFFFFF)
    drawn = (upper * bound + (lower * bound >> np.uint64(32))) >> np.uint64(32)
    return np.asarray(drawn.astype(np.int64))


def _signed(value: int) -> int:
    """A 64-bit pattern as the signed integer that torch's int64 holds."""
    return value - 2**64 if value >= 2**63 else value


def _shift_right(x: Tensor, by: int) -> Tensor:
    """A logical shift (torch shifts int64 arithmetically)."""
    shifted: Tensor = (x >> by) & (2 ** (64 - by) - 1)
    return shifted


def _mix_tensor(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift_right(x, 27)) * _signed(_MIX_2)
    mixed: Tensor = x ^ _shift_right(x, 31)
    return mixed


def integers_on_device(
    seed: int, purpose: str, index: Tensor, count: int, high: int | Tensor, view: int = 0
) -> Tensor:
    """Draws ``0 … count-1`` of :func:`integers` for each index, made on the index's device.

    Args:
        seed: the run's seed.
        purpose: what the draws decide.
        index: ``(B,)`` int64.
        count: draws per index.
        high: exclusive upper bound, below ``2**31``; a number, or ``(B, 1)`` int64.
        view: the view's number.

    Returns:
        ``(B, count)`` int64 in ``[0, high)``.
    """
    start = _mix(np.array((seed * _GOLDEN ^ purpose_code(purpose)) & _MASK, dtype=np.uint64))
    golden = _signed(_GOLDEN)
    h = _mix_tensor((index + 1) * golden ^ _signed(int(start)))
    h = _mix_tensor(h ^ _signed((view + 1) * _GOLDEN & _MASK))
    number = torch.arange(1, count + 1, device=index.device)
    h = _mix_tensor(h[:, None] + number * golden)
    upper, lower = _shift_right(h, 32), h & 0xFFFFFFFF
    return _shift_right(upper * high + _shift_right(lower * high, 32), 32)


def permute(seed: int, purpose: str, position: ArrayLike, size: int) -> NDArray[np.int64]:
    """A keyed permutation of ``[0, size)``, evaluated at ``position`` without listing it.

    A balanced Feistel network over the next even number of bits; positions that fall outside are
    walked along their cycle until they fall inside (Black and Rogaway, 2002), so the result is an
    exact bijection.
    """
    x = np.array(position, dtype=np.uint64)
    if size < 2:
        return x.astype(np.int64)
    half = np.uint64((max(2, (size - 1).bit_length()) + 1) // 2)
    mask = np.uint64(2 ** int(half) - 1)
    keys = stream(seed, purpose, np.arange(_FEISTEL_ROUNDS), size)
    outside = np.ones(x.shape, dtype=bool)
    while outside.any():
        left, right = x[outside] >> half, x[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        x[outside] = (left << half) | right
        outside = x >= size
    return x.astype(np.int64)


def permute_blocks(
    seed: int, purpose: str, position: ArrayLike, size: int, block: int = 1
) -> NDArray[np.int64]:
    """A keyed permutation of ``[0, size)`` that keeps blocks of neighbours together.

    Blocks are permuted, and items within each block. The last, shorter block takes a random place
    among the others. With ``block=1`` this is :func:`permute`.
    """
    position = np.asarray(position, dtype=np.int64)
    if block <= 1 or size <= block:
        return permute(seed, purpose, position, size)
    full, tail = divmod(size, block)
    tail_at = int(integers(seed, f"{purpose}/tail", 0, full + 1)) * block
    in_tail = (position >= tail_at) & (position < tail_at + tail)
    shifted = np.where(position >= tail_at + tail, position - tail, position)
    where = permute(seed, f"{purpose}/blocks", np.minimum(shifted // block, full - 1), full)
    order = integers(seed, f"{purpose}/within", where, 2**31 - 1)
    inside = np.empty_like(position)
    for chosen in np.unique(where[~in_tail]):
        at = (where == chosen) & ~in_tail
        key = int(order[at][0])
        inside[at] = permute(seed + key, f"{purpose}/item", shifted[at] % block, block)
    result: NDArray[np.int64] = where * block + inside
    if in_tail.any():
        moved = permute(seed, f"{purpose}/tail-item", position[in_tail] - tail_at, tail)
        result[in_tail] = full * block + moved
    return result
