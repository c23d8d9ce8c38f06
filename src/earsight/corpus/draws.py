"""Draws for made-up clips, in the order in which they are asked for."""

import numpy as np
from numpy.typing import NDArray

from earsight.random import bits, stream, uniform


class Draws:
    """Draws of one clip for one purpose, numbered in the order in which they are asked for."""

    def __init__(self, seed: int, purpose: str, index: int, count: int = 128) -> None:
        self._values = uniform(seed, purpose, index, n=np.arange(count))
        self._used = 0

    def between(self, low: float, high: float) -> float:
        """One draw from ``[low, high)``."""
        return float(low + (high - low) * self.unit(1)[0])

    def unit(self, count: int) -> NDArray[np.float64]:
        """``count`` draws from ``[0, 1)``."""
        taken = self._values[self._used : self._used + count]
        assert len(taken) == count, "more draws asked for than made"
        self._used += count
        return taken

    def whole(self, low: int, high: int) -> int:
        """One whole number from ``low`` to ``high``, both included."""
        return int(self.between(low, high + 1))


def white_noise(seed: int, purpose: str, index: int, samples: int) -> NDArray[np.float64]:
    """``(samples,)`` independent whole numbers, uniform over 16 bits."""
    # Each 64-bit draw makes four samples.
    numbers = bits(stream(seed, purpose, index), np.arange(-(-samples // 4)))
    return numbers.view(np.int16)[:samples].astype(np.float64)
