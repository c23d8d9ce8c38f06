"""Active choice of negatives on a GPU: both modalities of a step.

38,400 candidates a modality, D = 128, H = 512, M = 128, as in `active.py`; random, clustered and
trained keys and queries. Everything from keys and queries on the device to the rows chosen is
timed, one modality after the other. The floor is that of `active.py`: M products of a vector with
the factors that are held, on the same device.
"""

import sys
from collections.abc import Callable
from functools import partial
from statistics import quantiles
from typing import Any

import torch
from torch import Tensor

from active import FORMS, POOLS, Pool, ours
from common import DATA, Target, arguments, finish, median
from earsight.selection.gradient_embedding import GradientEmbedding
from step import each

MOST_MILLISECONDS = 20


def both(pool: Pool, form: dict[str, Any], count: int, found: list[Tensor]) -> None:
    """Choose for two modalities; another choice at each call."""
    for _ in range(2):
        found.append(ours(pool, form, count, len(found)))


def read_both(factors: Tensor, count: int) -> None:
    vector = torch.ones(factors.shape[1], device=factors.device)
    for _ in range(2 * count):
        torch.mv(factors, vector)


def measure(pool: Pool, form: dict[str, Any], count: int, rounds: int) -> dict[str, Any]:
    """Seconds of both sides."""
    device = pool[0].device
    found: list[Tensor] = []
    choose: Callable[[], None] = partial(both, pool, form, count, found)
    raw: dict[str, Any] = {"earsight": each(choose, device, rounds)}
    embedding = GradientEmbedding.of(*pool, **form)
    raw["factors"] = each(
        lambda: [GradientEmbedding.of(*pool, **form) for _ in range(2)], device, rounds
    )
    factors = torch.randn(len(pool[0]), embedding.width, device=device)
    raw["floor"] = each(partial(read_both, factors, count), device, rounds)
    if any(len(set(rows.tolist())) != count for rows in found):
        sys.exit("a choice has rows twice, or too few")
    return raw


def main() -> int:
    args = arguments(__doc__ or "")
    if not torch.cuda.is_available():
        print("there is no GPU: nothing measured")
        return finish([], {"left_out": "there is no GPU"}, args.json)
    device = torch.device("cuda")
    size, count, rounds = (4800, 32, 3) if args.quick else (38_400, 128, 20)
    raw: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "candidates": size, "chosen": count}
    targets = []
    for kind, make in POOLS.items():
        if kind == "trained" and not DATA.is_dir():
            print("trained: left out, since the corpus to train on is not there")
            continue
        keys, outputs, inputs = (x.to(device) for x in make(size, count))
        for form, settings in FORMS.items():
            name = f"{kind}, {form}"
            raw[name] = measure((keys, outputs, inputs), settings, count, rounds)
            taken = {side: 1e3 * median(seconds) for side, seconds in raw[name].items()}
            slow = 1e3 * quantiles(raw[name]["earsight"], n=10)[-1]
            print(
                f"{name}: {taken['earsight']:.2f} ms (one in ten {slow:.2f}), of which factors "
                f"{taken['factors']:.2f}; floor {taken['floor']:.2f}",
                flush=True,
            )
            line = f"{name}: both modalities"
            targets.append(
                Target(name=line, measured=taken["earsight"], unit=" ms", most=MOST_MILLISECONDS)
            )
    return finish(targets, raw, args.json)


if __name__ == "__main__":
    sys.exit(main())
