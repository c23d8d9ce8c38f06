"""Devices, threads and precision: what the settings' ``auto`` stands for here."""

import ctypes
import hashlib
import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from earsight.config import RunConfig
from earsight.processor import multiplies_bfloat16
from earsight.training.place import claim_gpu, place
from earsight.version import __version__

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def choose_device(name: str) -> torch.device:
    """The device of a setting; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        ValueError: torch has no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device: {name!r} cannot be used here ({reason}); set device=auto or device=cpu"
        ) from error
    return device


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_memory() -> None:
    """Have glibc keep large blocks for the next step instead of giving them back.

    Activations of tens of MiB are otherwise mapped, page by page, anew in every step.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def thread_count(setting: int) -> int:
    """The ``threads`` setting, 0 standing for every core, divided among a machine's ranks."""
    return setting or max(1, cores() // place().local_size)


def worker_count(config: RunConfig) -> int:
    """Decoding processes: ``data.workers``, or one per thread where it says ``auto``."""
    workers = config.data.workers
    return thread_count(config.threads) if workers == "auto" else int(workers)


def prepare_machine(config: RunConfig) -> torch.device:
    """Threads, memory and the current GPU as configured; returns the device."""
    keep_memory()
    claim_gpu(config.device)
    torch.set_num_threads(thread_count(config.threads))
    device = choose_device(config.device)
    if device.type == "cuda" and device.index is not None:
        # Triton launches its kernels on the current GPU, wherever the tensors lie.
        torch.cuda.set_device(device)
    return device


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type that convolutions run in, or None for float32.

    ``auto`` takes bfloat16 on CUDA, and on processors that multiply it natively.
    """
    if precision == "float32":
        return None
    if precision == "bfloat16" or multiplies_bfloat16(device):
        return torch.bfloat16
    return None


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """The hardware and system beside every figure."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        cpu = models[0] if models else cpu
    described: dict[str, str | int] = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "processor": cpu,
        "cores": cores(),
        "device": device.type,
    }
    if device.type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(device)
    return described


def versions() -> dict[str, str]:
    """Versions of what computes a run or an evaluation; ``source`` is a digest of ours."""
    packages = {name: version(name) for name in ("torch", "numpy", "scikit-learn")}
    own = {"earsight": __version__, "source": _source_digest()}
    return {**own, "python": platform.python_version(), **packages}


@cache
def _source_digest() -> str:
    """Of every module of the package: it changes between releases, too."""
    digest, folder = hashlib.blake2b(digest_size=6), Path(__file__).parents[1]
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
