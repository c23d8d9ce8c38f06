"""The memory bank that a run has left, with the instances that its rows stand for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight.corpus.instances import Instances
from earsight.encoders.pair import MODALITIES
from earsight.objectives.scores import widened
from earsight.training.resume import last_checkpoint
from earsight.training.start import rows_of


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Targets of ``N`` rows of which a corpus knows the instances.

    Attributes:
        instances: ``N`` of them, row by row.
        targets: modality to unit vectors ``(N, D)``, in float32 however they were stored.
        positives: ``(N, k)`` int64 rows that a CMA run has last trained with, -1 where there is
            none; None of other methods.
        left_out: rows without instance in the corpus, and rows never visited.
    """

    instances: Instances
    targets: Mapping[str, Tensor]
    positives: Tensor | None
    left_out: tuple[int, int]

    def __len__(self) -> int:
        return len(self.instances)


def read_bank(run: Path, train: Instances) -> Bank:
    """The bank in a run's last checkpoint, of the rows that were visited and that ``train`` knows.

    Raises:
        ValueError: it has no checkpoint, or its method keeps no bank of both modalities; its bank
            is not finite; or none of its instances is in the corpus.
    """
    saved = last_checkpoint(run)
    if saved is None:
        raise ValueError(f"{run} has no checkpoint, in which a memory bank would be")
    state, keys = saved["method"], saved["keys"].numpy().view(np.uint64)
    missing = [name for name in MODALITIES if f"bank.{name}" not in state]
    if missing:
        method = saved["config"]["method"]["name"]
        raise ValueError(
            f"{run} keeps no memory bank of {' and '.join(missing)} (its method is {method}); "
            "agreement is found in runs of avid (Cross or Joint) and cma"
        )
    place = rows_of(keys, train.key)
    known, visited = place >= 0, state["bank.visited"].numpy()
    if not known.any():
        raise ValueError(
            f"none of the {len(keys)} clips that {run} was trained on is in this corpus; give the "
            "one that it was trained on"
        )
    chosen = np.flatnonzero(known & visited)
    return Bank(
        instances=train.take(place[chosen]),
        targets={name: _finite(run, state, name)[chosen] for name in MODALITIES},
        positives=_positives(state, chosen),
        left_out=(int((~known).sum()), int((known & ~visited).sum())),
    )


def _finite(run: Path, state: Mapping[str, Tensor], name: str) -> Tensor:
    targets = state[f"bank.{name}"]
    wrong = int((~targets.isfinite().all(dim=1)).sum())
    if wrong:
        raise ValueError(
            f"{run}: {wrong} {name} targets of its memory bank are not finite; evaluate a run from "
            "before it broke"
        )
    return widened(targets)


def _positives(state: Mapping[str, Tensor], chosen: NDArray[np.int64]) -> Tensor | None:
    """Positives of the chosen rows, by their new numbers."""
    if "positives" not in state:
        return None
    old = state["positives"].long()
    number = torch.full((len(old) + 1,), -1)
    number[torch.from_numpy(chosen)] = torch.arange(len(chosen))
    # -1, which stands for none, takes the entry after the last.
    return number[old[chosen]]
