"""Active choice of negatives, beside written-out gradients and beside reading the factors.

38,400 candidates, D = 128, H = 512, M = 128; random, clustered and trained keys and queries (see
`trained_pool.py`); unnormalised logits with T = 1, and normalised with T = 0.07. Everything from
keys and queries to the rows chosen is timed. The reference writes out the gradients of 600
candidates, since those of all would take 10 GB, and is compared per candidate. The floor is what
one draw at a time cannot go below: for each of the M draws a product of a vector with the factors
that are held. Memory is taken in processes of their own. Both sides have to choose equally well:
over many draws, the mean squared distance of the 600 to the nearest chosen is compared.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import sklearn
import torch
from torch import Tensor

import reference_active as reference
from common import Target, alone, arguments, finish, median, peak, timed
from earsight.selection.gradient_embedding import GradientEmbedding, posterior_spread
from earsight.selection.seeding import d2_seeding
from trained_pool import trained_pool

DIM, HIDDEN = 128, 512
FORMS: dict[str, dict[str, Any]] = {
    "unnormalised": {"normalised": False, "temperature": 1.0},
    "normalised": {"normalised": True, "temperature": 0.07},
}
DRAWS, QUICK_DRAWS = 200, 20
Raw = dict[str, Any]
Pool = tuple[Tensor, Tensor, Tensor]
"""Keys, outputs of the queries' last layer, its inputs."""


def random_pool(size: int, count: int) -> Pool:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(DIM, HIDDEN, generator=generator) / HIDDEN**0.5
    inputs = torch.randn(count, HIDDEN, generator=generator)
    keys = 0.3 * torch.randn(size, DIM, generator=generator)
    return keys, inputs @ weight.T, inputs


def clustered_pool(size: int, count: int, clusters: int = 100) -> Pool:
    """Keys and queries around the same centres, as where two modalities agree on what is there."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(DIM, HIDDEN, generator=generator) / HIDDEN**0.5
    centres = torch.randn(clusters, HIDDEN, generator=generator)

    def around(number: int) -> Tensor:
        of = torch.randint(0, clusters, (number,), generator=generator)
        return centres[of] + 0.3 * torch.randn(number, HIDDEN, generator=generator)

    inputs = around(count)
    keys = torch.cat([around(len(x)) @ weight.T for x in torch.empty(size).split(4096)])  # type: ignore[no-untyped-call]
    return 0.3 * keys, inputs @ weight.T, inputs


def learned_pool(size: int, count: int) -> Pool:
    return trained_pool(size, count, steps=600 if size > 10_000 else 2, hidden=HIDDEN)


POOLS: dict[str, Callable[[int, int], Pool]] = {
    "random": random_pool,
    "clustered": clustered_pool,
    "trained": learned_pool,
}


def ours(pool: Pool, form: dict[str, Any], count: int, index: int) -> Tensor:
    return d2_seeding(GradientEmbedding.of(*pool, **form), count, seed=0, index=index)


def theirs(pool: Pool, form: dict[str, Any], count: int, index: int) -> Tensor:
    return reference.choose(reference.gradients(*pool, **form), count, index)


def read(factors: Tensor, count: int) -> None:
    """The floor: as many products of a vector with the factors as there are draws."""
    vector = torch.ones(factors.shape[1])
    for _ in range(count):
        torch.mv(factors, vector)


def potential(distances: Tensor, rows: Tensor) -> float:
    return float(distances[rows].amin(dim=0).mean())


def agreement(few: Pool, form: dict[str, Any], count: int, draws: int) -> dict[str, Any]:
    """How far distances are apart, and what both ways of drawing leave."""
    written = reference.gradients(*few, **form).double()
    products = written @ written.T
    norms = products.diagonal()
    true = (norms[:, None] + norms - 2 * products).clamp_min(0)
    embedding = GradientEmbedding.of(*few, **form)
    found = embedding.squared_distances(torch.arange(len(true)), slice(None)).double()
    # As many coordinates as points, at the same distances: many draws take little time.
    values, axes = torch.linalg.eigh(products)
    short = axes * values.clamp_min(0).sqrt()
    left = {
        "earsight": [d2_seeding(embedding, count, seed=0, index=x) for x in range(draws)],
        "reference": [reference.choose(short, count, x) for x in range(draws)],
    }
    return {
        "distance_error": float((found - true).abs().max() / true.max()),
        "potential": {n: [potential(true, x) for x in r] for n, r in left.items()},
    }


def memory(saved: Path, form: dict[str, Any], few: int | None, count: int) -> float | None:
    """Bytes at the peak of one side (the reference where ``few`` is given), in a fresh process."""
    torch.set_num_threads(1)
    keys, outputs, inputs = torch.load(saved)
    work = ours if few is None else theirs
    # Libraries load at their first use.
    work((keys[: 2 * count].clone(), outputs, inputs), form, count, 0)
    pool = (keys if few is None else keys[:few].clone(), outputs, inputs)
    return peak(lambda: work(pool, form, count, 0))


def measure(
    saved: Path, form: dict[str, Any], few: int, count: int, rounds: int, quick: bool
) -> Raw:
    """Seconds and, unless quick, bytes of both sides and the floor, in turns."""
    raw: Raw = {"earsight": [], "reference": [], "floor": [], "peak_bytes": {}}
    for side, candidates in () if quick else (("earsight", None), ("reference", few)):
        raw["peak_bytes"][side] = alone(memory, saved, form, candidates, count)
    pool = torch.load(saved)
    sample = (pool[0][:few].clone(), *pool[1:])
    embedding = GradientEmbedding.of(*pool, **form)
    raw["width"] = embedding.width
    raw["spread"] = posterior_spread(embedding.residual_norms).tolist()
    del embedding
    factors = torch.randn(len(pool[0]), raw["width"])
    for number in range(rounds):
        raw["earsight"].append(timed(partial(ours, pool, form, count, number)))
        raw["floor"].append(timed(partial(read, factors, count)))
        raw["reference"].append(timed(partial(theirs, sample, form, count, number)))
    return raw | agreement(sample, form, count, QUICK_DRAWS if quick else DRAWS)


def targets_of(name: str, raw: Raw, size: int, few: int, quick: bool) -> list[Target]:
    sides = ("earsight", "floor", "reference")
    wall = {side: median([x["wall"] for x in raw[side]]) for side in sides}
    print(
        f"{name}: {wall['earsight']:.3f} s, floor {wall['floor']:.3f} s ({raw['width']} numbers a "
        f"candidate), reference {wall['reference']:.2f} s for {few} candidates; quantiles of ‖r‖ "
        f"{', '.join(f'{x:.2g}' for x in raw['spread'])}",
        flush=True,
    )
    gain = wall["reference"] / few / (wall["earsight"] / size)
    floor = wall["earsight"] / wall["floor"]
    # Few candidates stay in a processor's cache, which the floor gains most from.
    most = 3 if quick else 1.2
    mean = {side: sum(x) / len(x) for side, x in raw["potential"].items()}
    potential_ratio = mean["earsight"] / mean["reference"]
    targets = [
        Target(name=f"{name}: speed over gradients", measured=gain, unit="×", least=100),
        Target(name=f"{name}: time over the floor", measured=floor, unit="×", most=most),
        Target(name=f"{name}: error of distances", measured=raw["distance_error"], most=1e-4),
        Target(name=f"{name}: potential left", measured=potential_ratio, unit="×", most=1.05),
    ]
    held = raw["peak_bytes"]
    if held.get("earsight") is not None:
        saved = held["reference"] / few / (held["earsight"] / size)
        line = f"{name}: memory saved over gradients"
        targets.append(Target(name=line, measured=saved, unit="×", least=50))
    return targets


def main() -> int:
    args = arguments(__doc__ or "", {"threads": "threads of all sides (2)"})
    threads = int(args.threads or (1 if args.quick else 2))
    torch.set_num_threads(threads)
    size, few, count, rounds = (400, 50, 16, 1) if args.quick else (38_400, 600, 128, 3)
    raw: Raw = {
        "candidates": size,
        "reference_candidates": few,
        "chosen": count,
        "dim": DIM,
        "hidden": HIDDEN,
        "threads": threads,
        "scikit-learn": sklearn.__version__,
    }
    targets = []
    for kind, make in POOLS.items():
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder) / "pool.pt"
            torch.save(make(size, count), saved)
            for form, settings in FORMS.items():
                name = f"{kind}, {form}"
                raw[name] = measure(saved, settings, few, count, rounds, args.quick)
                targets += targets_of(name, raw[name], size, few, args.quick)
    return finish(targets, raw, args.json)


if __name__ == "__main__":
    sys.exit(main())
