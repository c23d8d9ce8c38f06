"""Write docs/scale.md and its figure from the JSON files in benchmarks/results."""

import json
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from earsight import presets
from earsight.config import parse
from earsight.methods import PoolConfig
from earsight.studies.tables import markdown

FOLDER = Path(__file__).parent
PAGE = FOLDER / "scale.md"
FIGURE = FOLDER / "figures" / "scale.svg"
RESULTS = FOLDER.parent / "benchmarks" / "results"

SIZES = {"1.8 million": 1.8e6, "100 million": 1e8, "1 billion": 1e9}
DIM, NEGATIVES, BATCH = 128, 1024, 64
"""Of the papers: embeddings, negatives a sample, clips a GPU and step."""
CLIP = 10.0
"""Seconds of an instance, as in the papers' data sets."""
SHARD = 1200.0
"""Seconds in a shard."""
GPU = 141e9
"""Bytes of an H200."""
RANKS = (1, 8, 64, 512)
DICTIONARIES = "cm-acc-audioset"
"""The preset with the paper's largest dictionary and pool."""

Report = dict[str, Any]


COMPILED = (
    "With `train.compile=encoders` a step takes less time ([how much](benchmarks.md), by a note to "
    "the benchmark): hours shrink by as much, and the cores grow."
)


def load(name: str) -> Report:
    """What a benchmark found."""
    report: Report = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return report


def step_speed() -> tuple[Report, float, str]:
    """The step timed on a GPU, its clips per second, and how it was timed: compiled, or not."""
    step = load("step.gpu")
    milliseconds = {row[0]: float(row[1]) for row in step["table"][1:]}
    compiled = "ours, compiled" in milliseconds
    seconds = 1e-3 * milliseconds["ours, compiled" if compiled else "ours"]
    return step, step["clips"] / seconds, "compiled" if compiled else "not compiled"


def amount(count: float) -> str:
    """Bytes in a unit that suits them."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    for unit, size in (("years", 365.25 * 86400), ("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return markdown([head, *rows]) + "\n"


def bank_bytes(rows: float, width: int) -> float:
    """Both modalities' targets, and which rows were visited."""
    return rows * (2 * DIM * width + 1)


def grown(report: Report, way: str, what: str, rows: float, least: float = 0.0) -> float:
    """What was measured at the largest size, brought to ``rows`` by the fitted exponent.

    Exact mining compares all pairs, which small banks hide behind what is done once for each row:
    ``least`` is the exponent that growth cannot be below.
    """
    sizes = report["ways"][way]
    largest = max(sizes, key=int)
    exponent = max(least, report["fits"][way][what][1])
    return float(sizes[largest][what] * (rows / int(largest)) ** exponent)


def bank() -> list[str]:
    """Bytes by size and ranks, and the time it takes in a step."""
    gpu, cpu = load("bank.gpu"), load("bank")
    rows = [
        [
            name,
            amount(bank_bytes(size, 4)),
            amount(bank_bytes(size, 2)),
            *(amount(bank_bytes(size, 2) / ranks) for ranks in RANKS[1:]),
        ]
        for name, size in SIZES.items()
    ]
    full = {width: GPU * 0.8 / (2 * DIM * width + 1) for width in (4, 2)}
    return [
        "## The memory bank\n",
        f"Two targets of {DIM} numbers a clip. A step reads {NEGATIVES:,} rows a sample whatever "
        "the "
        "size, so its time does not grow; memory does.\n",
        table(
            ["clips", "float32", "half precision", *(f"of each of {r} ranks" for r in RANKS[1:])],
            rows,
        ),
        f"Bank time in a step, on {gpu['gpu']} ({gpu['clips']} clips a step):\n",
        table(*split(gpu["table"])),
        f"And on one core ({cpu['clips']} clips a step), replicated and shared by two processes:\n",
        table(*split(cpu["table"])),
        f"**Where it stops.** With four fifths of {amount(GPU)} for it, a replicated bank ends at "
        f"{full[4] / 1e6:.0f} million clips, in half precision (`method.storage=float16`) at "
        f"{full[2] / 1e6:.0f} million. Then `method.bank=sharded`: eight such GPUs hold "
        f"{8 * full[2] / 1e6:,.0f} million, 64 hold {64 * full[2] / 1e9:.1f} billion. [Several "
        "processes](processes.md) says what the exchange costs.\n",
    ]


def split(rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """The head of a table, and its lines."""
    return rows[0], rows[1:]


def mining() -> list[str]:
    """Seconds by size, alone and round a ring."""
    gpu, cpu = load("mining_scale.gpu"), load("mining_scale")
    exact, looked = "exact, random", "certified, clustered"
    rows = []
    for name, size in SIZES.items():
        alone = grown(gpu, exact, "seconds", size, least=2.0)
        rows.append(
            [
                name,
                duration(alone),
                *(duration(alone / ranks) for ranks in RANKS[1:]),
                duration(grown(cpu, exact, "seconds", size, least=2.0)),
                duration(grown(cpu, looked, "seconds", size)),
                amount(grown(cpu, looked, "bytes", size)),
            ]
        )
    fits = [
        [
            where,
            way,
            f"{report['fits'][way]['seconds'][1]:.2f}",
            f"{report['fits'][way]['bytes'][1]:.2f}",
        ]
        for where, report in ((gpu["gpu"], gpu), (f"{cpu['threads']} cores", cpu))
        for way in report["ways"]
    ]
    return [
        "## Mining of positives\n",
        f"The {gpu['k']} best of all, once every few epochs. Fitted exponents, over the sizes that "
        "were measured (10⁴ to 10⁶ rows):\n",
        table(["where", "mining", "seconds grow as N to the", "memory as N to the"], fits),
        "All pairs are compared in exact mining: its time goes with N² in the end, and small banks "
        "only hide it. So beyond what was measured, seconds of exact mining are taken to grow as "
        "N²; "
        "those of certified mining, on clustered banks, as fitted.\n",
        table(
            [
                "clips",
                "exact, one GPU",
                *(f"a ring of {ranks}" for ranks in RANKS[1:]),
                f"exact, {cpu['threads']} cores",
                f"certified, {cpu['threads']} cores",
                "its memory",
            ],
            rows,
        ),
        "Processors mined some of the queries, and all in proportion; where all are, a pair's two "
        "directions halve that. Round the ring (`method.bank=sharded`) every rank receives the "
        f"whole bank once, {amount(bank_bytes(1e9, 2))} at a billion clips, and has room for its "
        "own block and four more.\n",
        "**Where it stops.** One GPU mines some millions of clips in minutes. At 100 million exact "
        "mining wants a ring, and at a billion it is no longer a thing of every few epochs, even "
        "on "
        "512 GPUs: mine fewer queries (a share of the rows in each round, `mine(queries=…)`), or "
        "by "
        "certified search, whose work goes with the cells that it looks at, and which is of one "
        "process so far.\n",
    ]


def dictionary() -> list[str]:
    """What does not grow with the corpus."""
    active, pool = load("active_gpu"), load("cm_acc")["epochs"]["decoded before"]
    method = parse(presets.load(DICTIONARIES)).method
    assert isinstance(method, PoolConfig)
    keys, candidates = method.size, method.candidates
    worst = max(active["targets"], key=lambda one: float(one["measured"]))
    return [
        "## Dictionary and pool of CM-ACC\n",
        f"They do not grow with the corpus: {keys:,} keys and {candidates:,} candidates of "
        f"two modalities are {amount(2 * DIM * 4 * (keys + candidates))}. Choosing takes "
        f"{worst['measured']:.3g} ms of a "
        f"step on {active['gpu']} ({active['candidates']:,} candidates, both modalities, the "
        "slowest "
        "of what was measured). What grows is the pool's encoding, once an epoch: with "
        f"`tiny` {100 * pool['share']:.0f} % of an epoch, and the same share at any size, for both "
        "are counted in clips. `method.pool_source=recent` costs nothing.\n",
        "**Where it stops.** Nowhere below a billion clips; but a pool is then a vanishing share "
        "of "
        "the corpus, and chosen negatives are those of a small sample.\n",
    ]


def storage() -> list[str]:
    """Bytes on disks and networks, and cores that decode."""
    film, loader = load("prepared"), load("loader")
    each = film["film"]["bytes"] / film["film"]["seconds"]
    step, rate, timed = step_speed()
    cores = {
        "as found": rate / loader["clips_per_second"]["earsight"],
        "prepared": rate / film["clips_per_second"]["prepared"],
    }
    rows = [
        [
            name,
            amount(size * CLIP * each),
            f"{math.ceil(size * CLIP / SHARD):,}",
            duration(size / rate),
            duration(size / rate / 64),
        ]
        for name, size in SIZES.items()
    ]
    return [
        "## Storage, decoding, network\n",
        f"Clips of {CLIP:.0f} s, prepared as in [Prepare a corpus](prepare.md) ({amount(each)} a "
        "second of film, of the file that the benchmarks read), and R(2+1)D-18 with Conv2D at full "
        f"size on {step['gpu']} ({rate:,.0f} clips a second, {timed}):\n",
        table(["clips", "prepared", "shards", "an epoch, one GPU", "64 GPUs"], rows),
        f"One such GPU wants **{cores['as found']:.0f} cores** that decode films as found, or "
        f"**{cores['prepared']:.0f}** with prepared ones: eight of them "
        f"{8 * cores['as found']:.0f} or {8 * cores['prepared']:.0f}. {COMPILED} Where the corpus "
        "is small enough, keep it decoded (`data.cache`).\n",
        f"It reads {amount(rate * CLIP * each)} a second where whole instances are fetched, "
        "which a "
        "local disk gives and a network shared by 64 GPUs "
        f"({amount(64 * rate * CLIP * each)} a second) hardly: prefer a copy on each machine "
        "(`EARSIGHT_SHARD_CACHE`, [several machines](nodes.md)). Gradients are "
        f"{amount(step['memory']['gradients'])} a step and rank, moved about twice; a shared bank "
        f"exchanges up to {amount(BATCH * NEGATIVES * 2 * DIM * 2)} a step and rank in half "
        "precision, as much as the gradients: it wants the network of one machine, or few "
        "negatives.\n",
        "**Where it stops.** Storage does not. Decoding is the first limit on a machine, the "
        "network "
        "the first of a cluster.\n",
    ]


def draw() -> None:
    """Memory of the bank, and time of mining, over the number of clips."""
    gpu, cpu = load("mining_scale.gpu"), load("mining_scale")
    sizes = [10 ** (4 + 0.25 * step) for step in range(21)]
    mpl.rcParams["svg.hashsalt"] = "earsight"
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for ranks in RANKS:
        label = "one GPU" if ranks == 1 else f"each of {ranks} ranks"
        left.loglog(sizes, [bank_bytes(n, 2) / ranks for n in sizes], label=label)
    left.axhline(GPU, color="grey", linestyle=":")
    left.text(sizes[0], GPU * 1.3, "memory of an H200", color="grey")
    left.set(xlabel="clips", ylabel="bytes", title="Bank, half precision")
    left.legend()
    curves = (
        (gpu, "exact, random", gpu["gpu"], 2.0),
        (cpu, "exact, random", f"{cpu['threads']} cores", 2.0),
        (cpu, "certified, clustered", f"{cpu['threads']} cores", 0.0),
    )
    for report, way, where, least in curves:
        found = {int(n): one["seconds"] for n, one in report["ways"][way].items()}
        dots = right.loglog(list(found), list(found.values()), "o", label=f"{way}; {where}")
        beyond = [n for n in sizes if n >= max(found)]
        right.loglog(
            beyond,
            [grown(report, way, "seconds", n, least) for n in beyond],
            "--",
            color=dots[0].get_color(),
        )
    right.set(xlabel="clips", ylabel="seconds", title="Mining: measured, and beyond")
    right.legend()
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, metadata={"Date": None})
    plt.close(figure)


def page() -> str:
    """The whole page."""
    head = [
        "# How far each design goes\n",
        "<!-- Written by docs/make_scale.py from benchmarks/results. -->\n",
        "What a corpus of 1.8 million (AudioSet), 100 million and a billion clips takes, from fits "
        "over what was [measured](benchmarks.md): orders of size, not promises.\n",
        "![bank memory and mining time](figures/scale.svg)\n",
    ]
    return "\n".join([*head, *bank(), *mining(), *dictionary(), *storage()])


if __name__ == "__main__":
    draw()
    PAGE.write_text(page(), encoding="utf-8")
