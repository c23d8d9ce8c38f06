"""What computes here, how much it holds, and what compiles for it."""

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch

from earsight.doctor.check import Check
from earsight.processor import compiler, multiplies_bfloat16
from earsight.training.devices import choose_device, cores, describe_machine

_GIB = 2**30
_LITTLE_MEMORY = 4 * _GIB
_LITTLE_SHARED = _GIB // 2
_LITTLE_DISK = 5 * _GIB
_CGROUP = Path("/sys/fs/cgroup/memory.max")
_SHARED = Path("/dev/shm")


def devices() -> Iterator[Check]:
    """Accelerators, the processor, memory, and a compiler."""
    yield _cuda()
    if torch.backends.mps.is_built():
        there = torch.backends.mps.is_available()
        yield Check(
            group="devices",
            name="MPS",
            status="ok" if there else "lacking",
            text="is there" if there else "is not available: everything runs on the processor",
        )
    yield _processor()
    yield from _memory()
    yield _compiler()


def _cuda() -> Check:
    if not torch.cuda.is_available():
        build = "this build of torch has none" if torch.version.cuda is None else "no GPU is seen"
        return Check(
            group="devices",
            name="CUDA",
            status="lacking",
            text=f"{build}: training runs on {choose_device('auto').type}, fit for small encoders",
        )
    found = [torch.cuda.get_device_properties(at) for at in range(torch.cuda.device_count())]
    named = ", ".join(f"{one.name} with {one.total_memory / _GIB:.0f} GiB" for one in found)
    return Check(
        group="devices",
        name="CUDA",
        text=f"{torch.version.cuda}: {named}",
        figures={"gpus": [{"name": g.name, "bytes": g.total_memory} for g in found]},
    )


def _processor() -> Check:
    machine = describe_machine(torch.device("cpu"))
    fast = multiplies_bfloat16(torch.device("cpu"))
    precision = "multiplies bfloat16" if fast else "computes in float32"
    threads = torch.get_num_threads()
    return Check(
        group="devices",
        name="processor",
        text=f"{machine['processor']}, {cores()} cores to use, {_threads(threads)}, {precision}",
        figures={"cores": cores(), "threads": threads, "bfloat16": fast},
    )


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


def _memory() -> Iterator[Check]:
    total, free = memory()
    little = free is not None and free < _LITTLE_MEMORY
    said = [f"{free / _GIB:.1f} GiB free"] if free is not None else []
    said += [f"of {total / _GIB:.1f} GiB"] if total is not None else []
    yield Check(
        group="devices",
        name="memory",
        status="lacking" if little else "ok",
        text=" ".join(said) or "is not told by this system",
        remedy="lower train.batch, data.workers and data.prefetch" if little else "",
        figures={"bytes": total, "free": free},
    )
    if _SHARED.is_dir():
        left = shutil.disk_usage(_SHARED).free
        little = left < _LITTLE_SHARED
        yield Check(
            group="devices",
            name="shared memory",
            status="lacking" if little else "ok",
            text=f"{left / _GIB:.1f} GiB free in {_SHARED}, through which workers hand over clips",
            remedy="give the container more (--shm-size), or set data.workers=0" if little else "",
            figures={"free": left},
        )


def memory() -> tuple[int | None, int | None]:
    """Bytes that this process may have, and that are free; None where the system does not tell."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None, None
    lines = info.read_text(encoding="ascii", errors="replace").splitlines()
    found = {
        name: int(rest.split()[0]) * 1024 for name, _, rest in (x.partition(":") for x in lines)
    }
    total, free = found.get("MemTotal"), found.get("MemAvailable")
    limit = _CGROUP.read_text(encoding="ascii").strip() if _CGROUP.is_file() else "max"
    if limit.isdecimal() and total is not None:
        total = min(total, int(limit))
        free = None if free is None else min(free, total)
    return total, free


def _compiler() -> Check:
    found = compiler()
    if found is None:
        return Check(
            group="devices",
            name="compiler",
            status="lacking",
            text="no C++ compiler is found: torch.compile cannot be used on the processor",
            remedy="install g++ or clang, or name one in CXX",
        )
    triton = find_spec("triton") is not None
    gpu = "with" if triton else "without"
    return Check(
        group="devices",
        name="compiler",
        text=f"{found}, for torch.compile; {gpu} Triton, for a GPU",
        figures={"path": found, "triton": triton},
    )


def disk(folder: Path) -> Check:
    """Room for runs and caches."""
    left = shutil.disk_usage(folder).free
    little = left < _LITTLE_DISK
    return Check(
        group="disk",
        name="disk",
        status="lacking" if little else "ok",
        text=f"{left / _GIB:.1f} GiB free in {folder}",
        remedy="write runs and caches elsewhere, or make room" if little else "",
        figures={"free": left},
    )
