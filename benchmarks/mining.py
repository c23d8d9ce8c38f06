"""Mining of positives, beside the published procedure; certified mining beside exact mining.

N = 100,000, D = 128, k = 32, on random, clustered and trained banks. The published side is timed on
a sample of queries, ours on all rows, since it makes use of both directions of a pair. The two
take turns. With ``--run RUN``, the trained banks are those of RUN's checkpoints nearest to 10, 50
and 100 % of its training, repeated to N with noise: two copies of a row are then as far apart as
nearest neighbours were. On a machine that does other work too, ``OMP_WAIT_POLICY=passive`` in the
environment keeps threads that wait for one another from taking time from both sides.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import reference_mining as reference
from common import Target, arguments, finish, median, peak, timed
from earsight.processor import multiplies_bfloat16
from earsight.selection.agreement import Mined, mine
from earsight.selection.certified import CertifiedIndex

DIM, K = 128, 32
SHARES = (10, 50, 100)
Bank = tuple[Tensor, Tensor]


def noisy(vectors: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Unit vectors with noise of norm ``deviation`` added, a block at a time."""
    for block in vectors.split(65536):  # type: ignore[no-untyped-call]
        noise = torch.randn(block.shape, generator=generator)
        block += noise * (deviation / vectors.shape[1] ** 0.5)
        block /= block.norm(dim=1, keepdim=True)
    return vectors


def random_bank(size: int) -> Bank:
    generator = torch.Generator().manual_seed(0)
    video, audio = (F.normalize(torch.randn(size, DIM, generator=generator), dim=1) for _ in "va")
    return video, audio


def clustered_bank(size: int, clusters: int = 1000) -> Bank:
    """Rows around ``clusters`` centres, at a cosine of about 0.86 to one another."""
    generator = torch.Generator().manual_seed(1)
    of = torch.randint(0, clusters, (size,), generator=generator)
    centres = [F.normalize(torch.randn(clusters, DIM, generator=generator)) for _ in "va"]
    video, audio = (noisy(x[of], 0.4, generator) for x in centres)
    return video, audio


def trained_banks(run: Path, size: int) -> dict[str, Callable[[], Bank]]:
    """What makes banks of a run's checkpoints, by the share of training done."""
    paths = {int(x.stem.split("-")[1]): x for x in (run / "checkpoints").glob("step-*.pt")}
    if not paths:
        sys.exit(f"{run} has no checkpoints: nothing measured")
    found: dict[str, Callable[[], Bank]] = {}
    for share in SHARES:
        step = min(paths, key=lambda x: abs(x - max(paths) * share / 100))
        state = torch.load(paths[step], weights_only=True, map_location="cpu")
        method = state.get("state", state)["method"]
        name = f"trained to {round(100 * step / max(paths))} %"
        found[name] = partial(repeated, method["bank.video"], method["bank.audio"], size)
    return found


def repeated(video: Tensor, audio: Tensor, size: int) -> Bank:
    """Rows repeated to ``size``, their copies as far apart as nearest neighbours are."""
    generator = torch.Generator().manual_seed(2)
    of = torch.arange(size) % len(video)

    def copies(vectors: Tensor) -> Tensor:
        nearest = (vectors @ vectors.T).fill_diagonal_(-1).amax(dim=1).median()
        # Two unit vectors with noise of norm s have a cosine of about 1/(1 + s²).
        return noisy(vectors[of], float((1 / nearest - 1).clamp_min(0).sqrt()), generator)

    return copies(video), copies(audio)


def differing(bank: Bank, queries: Tensor, ours: Tensor, theirs: Tensor) -> int:
    """Queries whose sets differ by more than ties within 1e-6."""
    wide = [x.double() for x in bank]

    def scores(rows: Tensor) -> Tensor:
        both = [(x[queries][:, None] * x[rows]).sum(dim=2) for x in wide]
        return torch.minimum(both[0], both[1]).sort(dim=1, descending=True).values

    distinct = torch.tensor([len(set(x)) == K for x in ours.tolist()])
    near = ((scores(ours) - scores(theirs)).abs() <= 1e-6).all(dim=1)
    return int((~(near & distinct)).sum())


def measure(bank: Bank, rounds: int, sample: int) -> dict[str, Any]:
    """Milliseconds per query of both sides in turns; memory; whether they agree."""
    size = len(bank[0])
    queries = torch.randperm(size, generator=torch.Generator().manual_seed(3))[:sample]
    found: list[Mined] = []

    def ours() -> None:
        found[:] = [mine(*bank, K)]

    theirs = reference.mine(*bank, queries, K)
    raw: dict[str, Any] = {"published": [], "products": [], "earsight": []}
    raw["peak_bytes"] = peak(lambda: raw["earsight"].append(timed(ours)))
    for number in range(rounds):
        raw["published"].append(timed(lambda: reference.mine(*bank, queries, K)))
        raw["products"].append(timed(lambda: reference.products(*bank, queries)))
        if number:
            raw["earsight"].append(timed(ours))
    raw["differing"] = differing(bank, queries, found[0].rows[queries], theirs)
    for side, count in (("published", sample), ("products", sample), ("earsight", size)):
        for unit in ("wall", "core"):
            each = 1e3 * median([x[unit] for x in raw[side]]) / count
            raw[f"{side}_{unit}_ms"] = each
    return raw


def certify(bank: Bank, sample: int) -> dict[str, Any]:
    """Certified mining beside exact mining, on the queries of some cells."""
    indices: list[CertifiedIndex] = []
    built = timed(lambda: indices.append(CertifiedIndex(*bank)))
    index = indices[0]
    chosen = torch.randperm(len(index.size), generator=torch.Generator().manual_seed(4))
    rows = [index.rows[index.start[c] : index.start[c] + index.size[c]] for c in chosen[:50]]
    queries = torch.cat(rows)[:sample]
    raw: dict[str, Any] = {"build": built, "cells": len(index.size), "queries": len(queries)}
    index.mine(K, queries=queries[:16], budget=0.01)
    outcome: dict[str, Any] = {}

    def look() -> None:
        outcome["certified"] = index.mine(K, queries=queries)

    def exact() -> None:
        outcome["exact"] = mine(*bank, K, queries=queries)

    raw["certified"], raw["exact"] = timed(look), timed(exact)
    certified, true = outcome["certified"], outcome["exact"]
    sure = certified.certified
    raw["share"] = certified.share
    raw["looked_at"] = float(certified.looked_at.double().mean()) / len(bank[0])
    raw["wrong"] = int((certified.mined.rows[sure] != true.rows[sure]).any(dim=1).sum())
    raw["finish"] = timed(lambda: index.finish(certified, K, queries=queries))
    return raw


def exact_targets(name: str, raw: dict[str, Any], least: float) -> list[Target]:
    print(
        f"{name}: earsight {raw['earsight_wall_ms']:.3f} ms a query, "
        f"published {raw['published_wall_ms']:.3f}, its products alone "
        f"{raw['products_wall_ms']:.3f} (core-ms {raw['earsight_core_ms']:.3f}, "
        f"{raw['published_core_ms']:.3f}, {raw['products_core_ms']:.3f})",
        flush=True,
    )
    gain = raw["published_wall_ms"] / raw["earsight_wall_ms"]
    targets = [
        Target(name=f"{name}: speed over published", measured=gain, unit="×", least=least),
        Target(name=f"{name}: sets that differ", measured=raw["differing"], most=0),
    ]
    if raw["peak_bytes"] is not None:
        gigabytes = raw["peak_bytes"] / 1e9
        line = f"{name}: memory beyond the banks"
        targets.append(Target(name=line, measured=gigabytes, unit=" GB", most=1))
    return targets


def certified_targets(name: str, size: int, raw: dict[str, Any]) -> list[Target]:
    each = {side: 1e3 * raw[side]["wall"] / raw["queries"] for side in ("certified", "exact")}
    print(
        f"{name}, N = {size}: {100 * raw['share']:.1f} % certified after looking at "
        f"{100 * raw['looked_at']:.2f} % of the rows, {each['certified']:.3f} ms a query, exact "
        f"{each['exact']:.3f}; {raw['cells']} cells built in {raw['build']['wall']:.1f} s",
        flush=True,
    )
    return [Target(name=f"{name}: certificates that are wrong", measured=raw["wrong"], most=0)]


def main() -> int:
    options = {
        "run": "a run of av-digits whose checkpoints give the trained banks",
        "threads": "threads of both sides (2)",
        "only": "exact or certified (both)",
    }
    args = arguments(__doc__ or "", options)
    threads = int(args.threads or 2)
    torch.set_num_threads(threads)
    size, million = (10_000, 20_000) if args.quick else (100_000, 1_000_000)
    banks: dict[str, Callable[[], Bank]] = {
        "random": partial(random_bank, size),
        "clustered": partial(clustered_bank, size),
    }
    if args.run is None:
        print("trained banks left out: --run RUN gives the run whose checkpoints hold them")
    else:
        banks |= trained_banks(Path(args.run), size)
    # What is done once per row weighs more where rows are few.
    full = multiplies_bfloat16(torch.device("cpu")) and not args.quick
    least = 6.0 if full else 1.0
    raw: dict[str, Any] = {"size": size, "dim": DIM, "k": K, "threads": threads}
    targets = []
    for name, make in banks.items() if args.only != "certified" else ():
        raw[name] = measure(make(), 1 if args.quick else 3, 64 if args.quick else 256)
        targets += exact_targets(name, raw[name], least)
    large: dict[str, Callable[[], Bank]] = {"1,000 clusters": partial(clustered_bank, million)}
    if args.run is not None:
        name, make = list(trained_banks(Path(args.run), million).items())[-1]
        large[name] = make
    for name, make in large.items() if args.only != "exact" else ():
        raw[f"certified {name}"] = certify(make(), 200 if args.quick else 1000)
        targets += certified_targets(name, million, raw[f"certified {name}"])
    return finish(targets, raw, args.json)


if __name__ == "__main__":
    sys.exit(main())
