"""What every benchmark shares: the machine's description, core-seconds, the closing lines."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from earsight import api

Result = TypeVar("Result")
Lines = list[dict[str, Any]]

SCHEMA = 1
"""Version of the JSON that benchmarks write."""

DATA = Path(__file__).parents[1] / "../shared/data"


FEW = 24
"""Every so manieth clip of av-digits is enough to see a benchmark work."""


def av_digits(folder: Path, nth: int = 1) -> Path:
    """The manifest of every ``nth`` clip of av-digits, scanned into ``folder``.

    Ends the process where the corpus is missing.
    """
    media = DATA / "av-digits"
    if not media.is_dir():
        sys.exit(f"{media} is missing: nothing measured")
    corpus, labels = folder / "corpus.parquet", media / "labels.csv"
    if nth > 1:
        head, *lines = labels.read_text().splitlines()
        videos, labels = folder / "videos", folder / "labels.csv"
        for line in lines[::nth]:
            name = line.split(",")[0]
            (videos / name).parent.mkdir(parents=True, exist_ok=True)
            (videos / name).symlink_to((media / name).resolve())
        labels.write_text("\n".join([head, *lines[::nth]]) + "\n")
        media = videos
    api.scan([str(media)], corpus, labels=labels, group_by="image")
    return corpus


def train(corpus: Path, run: Path, *settings: str, processes: int = 1, cores: list[int]) -> Lines:
    """Train the preset `tiny` as a user would, several processes by torchrun (on gloo).

    Args:
        corpus: the manifest.
        run: the run folder to make.
        settings: of the run.
        processes: that share it.
        cores: on which they may run.

    Returns:
        The lines of ``metrics.jsonl`` that tell of training.
    """
    command = ["-m", "earsight", "pretrain", "--preset", "tiny", "--corpus", str(corpus)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    several = torchrun if processes > 1 else []
    fixed = ("evaluation.every=0", "evaluation.tasks=[geometry]", "evaluation.gallery=2")
    subprocess.run(
        [sys.executable, *several, *command, "-o", str(run), "--json", *fixed, *settings],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "train"]


def clips_per_second(lines: Lines, batch: int, skipped: int = 2) -> float:
    """Speed after the first ``skipped`` log lines, in which caches fill and memory is taken."""
    first, last = lines[skipped], lines[-1]
    return float(batch * (last["step"] - first["step"]) / (last["time"] - first["time"]))


@dataclass(frozen=True, kw_only=True)
class Target:
    """A figure to reach: at least ``least``, or at most ``most``."""

    name: str
    measured: float
    unit: str = ""
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool:
        """Whether the figure is reached."""
        if self.least is not None and self.measured < self.least:
            return False
        return self.most is None or self.measured <= self.most

    def line(self) -> str:
        """``name: measured (target)``."""
        wanted = f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"
        return f"{self.name}: {self.measured:.3g}{self.unit} ({wanted}{self.unit})"


RESULTS = Path(__file__).parent / "results"
"""Figures that the documentation shows."""


def arguments(description: str, options: Mapping[str, str] | None = None) -> argparse.Namespace:
    """Read ``--quick``, ``--json FILE`` and a benchmark's own options, by name with their help."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, to see it work")
    name = Path(sys.argv[0]).stem
    parser.add_argument(
        "--json", type=Path, default=Path(f"{name}.json"), help="where raw timings are written"
    )
    for option, text in (options or {}).items():
        parser.add_argument(f"--{option}", help=text)
    return parser.parse_args()


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    packages: dict[str, str | None] = {}
    for name in ("av", "numpy", "torch", "librosa", "pillow"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": packages,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    lines = info.read_text().splitlines()
    model = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "")
    flags = next((x.split(":", 1)[1].split() for x in lines if x.startswith("flags")), [])
    wide = [name for name in ("avx2", "avx512f", "avx512_vnni", "amx_bf16") if name in flags]
    return f"{model or platform.machine()} ({', '.join(wide)})"


def alternate(sides: Mapping[str, Callable[[int], object]], rounds: int) -> dict[str, list[float]]:
    """Core-seconds of each side per round, the sides taking turns so that noise hits all alike.

    Each side is called with the number of the round, twice: the first time is not counted, so that
    none pays for what another left in caches and heap.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, work in sides.items():
            work(number)
            start = time.process_time()
            work(number)
            taken[name].append(time.process_time() - start)
    return taken


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds on the clock and core-seconds."""
    clock, cores = time.perf_counter(), time.process_time()
    work()
    return {"wall": time.perf_counter() - clock, "core": time.process_time() - cores}


def peak(work: Callable[[], object]) -> float | None:
    """Bytes of memory at the peak beyond what was in use before; None where Linux is not."""
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        return None

    def kibibytes(name: str) -> int:
        line = next(x for x in status.read_text().splitlines() if x.startswith(name))
        return int(line.split()[1])

    reset.write_text("5")
    before = kibibytes("VmRSS:")
    work()
    return 1024.0 * (kibibytes("VmHWM:") - before)


def alone(work: Callable[..., Result], *arguments: Any) -> Result:
    """The result of a call in a process of its own, where glibc gives back what is freed."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def median(values: list[float]) -> float:
    """The middle value, as robust to a busy machine as one can be."""
    return statistics.median(values)


def finish(targets: list[Target], raw: Mapping[str, Any], path: Path) -> int:
    """Write the JSON, print a line per target; the exit status: 1 where one falls short."""
    report = {
        "schema": SCHEMA,
        "machine": machine(),
        "targets": [{**vars(target), "met": target.met} for target in targets],
        **raw,
    }
    path.write_text(json.dumps(report, indent=1) + "\n")
    for target in targets:
        print(target.line())
    return 0 if all(target.met for target in targets) else 1
