"""What the processor offers, and what compiles for it."""

import os
import shutil
from functools import cache
from pathlib import Path

import torch

COMPILERS = ("c++", "g++", "clang++", "cl")


@cache
def processor_flags() -> frozenset[str]:
    """Names of the processor's instruction sets; empty where the system does not list them."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return frozenset()
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products are faster than float32 there: on CUDA, and on some processors."""
    if device.type == "cuda":
        return True
    return device.type == "cpu" and bool(processor_flags() & {"avx512_bf16", "amx_bf16"})


def compiler() -> str | None:
    """The path of a C++ compiler, the one that ``CXX`` names first; None where there is none."""
    wanted = (os.environ.get("CXX", ""), *COMPILERS)
    return next((path for name in wanted if name and (path := shutil.which(name))), None)
