"""Metrics between two reads, kept on the device so that the loop never waits for it."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from earsight.errors import RunError


class NonFiniteError(RunError):
    """A loss or gradient that is no number; ``rows`` are those of the batches it came from."""

    def __init__(self, rows: list[int], names: str) -> None:
        self.rows = rows
        super().__init__(
            f"the loss is not finite in batches of these clips: {names}; their updates were not "
            "made. Start a new run with a lower optimizer.lr, or with train.precision=float32"
        )


class Window:
    """Sums of metrics over the steps since the last read.

    Its state is part of the checkpoint: a resumed run logs the same means.
    """

    def __init__(self, name_of: Callable[[int], str] = str) -> None:
        self.count = 0
        self._name_of = name_of
        self._sums: dict[str, Tensor] = {}
        self._finite: list[tuple[Tensor, Tensor]] = []

    def add(self, metrics: Mapping[str, Tensor], finite: Tensor, rows: Tensor) -> None:
        """Add one step: scalar metrics, whether its update was made, and its rows (on the CPU)."""
        for name, value in metrics.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._finite.append((finite, rows))
        self.count += 1

    def read(self) -> dict[str, float]:
        """The means since the last read, in one transfer; starts afresh.

        Raises:
            NonFiniteError: a step's update was skipped because its loss was not finite.
        """
        if not self.count:
            return {}
        self._check_finite()
        means = (torch.stack(list(self._sums.values())) / self.count).tolist()
        named = dict(zip(self._sums, means, strict=True))
        self.count, self._sums, self._finite = 0, {}, []
        return named

    def _check_finite(self) -> None:
        if not self._finite:
            return
        flags = torch.stack([flag for flag, _ in self._finite]).cpu()
        bad = [rows for (_, rows), good in zip(self._finite, flags, strict=True) if not good]
        if bad:
            rows = sorted({int(row) for row in torch.cat(bad)})
            raise NonFiniteError(rows, ", ".join(self._name_of(row) for row in rows))

    def state(self) -> dict[str, object]:
        """What has been added since the last read; the skipped are not forgotten.

        Raises:
            NonFiniteError: as :meth:`read`, for a state with a skipped update is not worth saving.
        """
        self._check_finite()
        return {"count": self.count, "sums": {k: v.cpu() for k, v in self._sums.items()}}

    def load(self, state: Mapping[str, object], device: torch.device) -> None:
        """Go on from a saved state."""
        count, sums = state["count"], state["sums"]
        assert isinstance(count, int)
        assert isinstance(sums, dict)
        self.count = count
        self._sums = {name: value.to(device) for name, value in sums.items()}
        self._finite = []
