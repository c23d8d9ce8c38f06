"""How mining grows with the bank: seconds and memory from 10⁴ to 10⁶ rows, and fitted exponents.

D = 128, k = 32. Exact mining of random and of clustered banks (a hundred rows a cluster), certified
mining of clustered ones. On a processor some queries are mined, then more, and what the others
would take is in proportion to the difference; so nothing is gained from a pair's two directions,
which halves the work where all rows are mined (`mining.py`). On a GPU all rows are. A fit is a line
through the logarithms: ``seconds = c·N^e``.
"""

import math
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common import Target, alone, arguments, finish, peak, timed
from earsight.selection.agreement import mine
from earsight.selection.certified import CertifiedIndex
from earsight.training.spans import wait_for
from mining import Bank, K, clustered_bank, random_bank

SIZES = (10_000, 31_623, 100_000, 316_228, 1_000_000)
QUICK = (500, 1_000)
MORE = 4096
"""Queries that are mined on a processor, after a quarter of them."""
ROWS_OF_CLUSTER = 100
MOST = {"seconds": 2.2, "bytes": 1.2}
"""Largest exponents: all pairs are compared at most, and no table of pairs is held."""
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def measured(work: Callable[[], object]) -> dict[str, float]:
    """Seconds, and bytes at the peak."""
    if DEVICE.type == "cpu":
        seconds: list[float] = []
        held = peak(lambda: seconds.append(timed(work)["wall"]))
        return {"seconds": seconds[0], "bytes": held or 0.0}
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()

    def waited() -> None:
        work()
        wait_for(DEVICE)

    taken = timed(waited)["wall"]
    return {"seconds": taken, "bytes": float(torch.cuda.max_memory_allocated() - before)}


def in_proportion(mined: Callable[[Tensor], object], rows: Tensor, size: int) -> dict[str, float]:
    """What all rows would take, from few and from more queries, the first of ``rows``."""
    more = min(MORE, size // 2)
    few, many = measured(lambda: mined(rows[: more // 4])), measured(lambda: mined(rows[:more]))
    each = (many["seconds"] - few["seconds"]) / (more - more // 4)
    seconds = many["seconds"] + each * (size - more)
    return {"seconds": seconds, "bytes": max(few["bytes"], many["bytes"])}


def exact(make: Callable[[int], Bank], size: int) -> dict[str, float]:
    video, audio = (x.to(DEVICE) for x in make(size))
    if DEVICE.type == "cuda":
        return measured(lambda: mine(video, audio, K))
    rows = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    return in_proportion(lambda some: mine(video, audio, K, queries=some), rows, size)


def certified(size: int) -> dict[str, float]:
    """Of building the index and of mining with it, cell by cell, and the share it certifies."""
    bank = clustered(size)
    indices: list[CertifiedIndex] = []
    built = measured(lambda: indices.append(CertifiedIndex(*bank)))
    shares: list[float] = []

    def mined(some: Tensor) -> None:
        shares.append(indices[0].mine(K, queries=some).share)

    found = in_proportion(mined, indices[0].rows, size)
    return {
        "seconds": built["seconds"] + found["seconds"],
        "bytes": max(built["bytes"], found["bytes"]),
        "build": built["seconds"],
        "share": shares[-1],
    }


def clustered(size: int) -> Bank:
    return clustered_bank(size, max(1, size // ROWS_OF_CLUSTER))


def exponent(by_size: Mapping[int, Mapping[str, Any]], what: str) -> tuple[float, float]:
    """``c`` and ``e`` of ``c·N^e`` through what was measured."""
    sizes = np.log(list(by_size))
    values = np.log([max(1e-9, one[what]) for one in by_size.values()])
    slope, constant = np.polyfit(sizes, values, 1)
    return math.exp(constant), float(slope)


WAYS: dict[str, Callable[[int], dict[str, float]]] = {
    "exact, random": partial(exact, random_bank),
    "exact, clustered": partial(exact, clustered),
    "certified, clustered": certified,
}


def once(way: str, size: int, threads: int) -> dict[str, float]:
    """One way at one size, after a small one, for libraries load at their first use."""
    torch.set_num_threads(threads)
    WAYS[way](QUICK[0])
    return WAYS[way](size)


def main() -> int:
    args = arguments(__doc__ or "", {"threads": "threads (2)"})
    quick = args.quick
    threads, sizes = int(args.threads or (1 if quick else 2)), QUICK if quick else SIZES
    ways = [way for way in WAYS if DEVICE.type == "cpu" or way.startswith("exact")]
    raw: dict[str, Any] = {"k": K, "threads": threads, "quick": quick}
    if DEVICE.type == "cuda":
        raw["gpu"] = torch.cuda.get_device_name()
    head = ["rows", *(f"{way}: s" for way in ways), *(f"{way}: MiB" for way in ways)]
    raw["ways"] = {way: {} for way in ways}
    raw["table"] = [head]
    for size in sizes:
        for way in ways:
            one = (way, size, threads)
            # A process of its own tells the memory better, and takes seconds to start.
            raw["ways"][way][size] = once(*one) if quick else alone(once, *one)
        now = [raw["ways"][way][size] for way in ways]
        cells = [f"{one['seconds']:.3g}" for one in now]
        cells += [f"{one['bytes'] / 2**20:.0f}" for one in now]
        raw["table"].append([f"{size:,}", *cells])
        said = zip(head, raw["table"][-1], strict=True)
        print("; ".join(f"{a}: {b}" for a, b in said), flush=True)
    raw["fits"] = {
        way: {what: exponent(found, what) for what in ("seconds", "bytes")}
        for way, found in raw["ways"].items()
    }
    targets = []
    for way, fit in raw["fits"].items():
        for what, most in MOST.items():
            name = f"{way}: {what} grow as N to the power of"
            targets.append(Target(name=name, measured=fit[what][1], most=most))
    return finish(targets, raw, args.json)


if __name__ == "__main__":
    sys.exit(main())
