"""The time of a step that the memory bank takes, as the bank grows.

Cross-AVID with R(2+1)D-18 on 8 × 224² and Conv2D-9 on 200 × 257, 1,024 negatives, banks of 10⁴ to
10⁷ rows, beyond 10⁶ in half precision. Bank time is all that the method does beside its encoders:
negatives drawn, scores, losses, gradients of the embeddings, targets moved. It is timed apart, on
embeddings that are given, since it drowns in the step; the step's time is that of a small bank.
What counts is by what share of a step bank time changes with the size. Shared banks are those of
two processes (gloo, on processors), each with its own batch.
"""

import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from unittest import mock

import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn

from common import Target, arguments, finish, median
from earsight.config import RunConfig
from earsight.corpus.batch import Batch
from earsight.methods.avid import AvidConfig, build_avid
from earsight.selection import memory_bank
from earsight.training.devices import keep_memory
from step import SMALL, Ours, each, made_up, settings

DIM = 128
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
QUICK_SIZES = (2_000, 10_000)
HALF_BEYOND = 1_000_000
RANKS = 2
MOST_CHANGE = 0.1
Way = Literal["replicated", "sharded"]


class Given(nn.Module):
    """In place of encoders: embeddings that take gradients."""

    def __init__(self, clips: int, device: torch.device) -> None:
        super().__init__()
        self.video, self.audio = (
            nn.Parameter(torch.randn(clips, DIM, device=device)) for _ in ("video", "audio")
        )

    def forward(self, *_: Tensor) -> tuple[Tensor, Tensor]:
        return self.video * 1, self.audio * 1


def drawn_fast(_: int, __: str, size: int, dim: int, *, part: slice, dtype: torch.dtype) -> Tensor:
    """Unit vectors as torch draws them: ours, each a function of its row, take minutes for 10⁷."""
    where = "cuda" if torch.cuda.is_available() else "cpu"
    rows = torch.empty(part.stop - part.start, dim, dtype=dtype, device=where)
    for block in rows.split(2**18):  # type: ignore[no-untyped-call]
        block.copy_(nn.functional.normalize(torch.randn(block.shape, device=where), dim=1))
    return rows


def bank_seconds(size: int, clips: int, device: torch.device, count: int, way: Way) -> list[float]:
    """Seconds of all that the method does beside its encoders, each time on other rows."""
    storage: Literal["float16", "float32"] = "float16" if size > HALF_BEYOND else "float32"
    config = AvidConfig(bank=way, storage=storage)
    with mock.patch.object(memory_bank, "random_unit_vectors", drawn_fast):
        method = build_avid(config, size=size, dim=DIM, seed=0).to(device)
    model = Given(clips, device)
    view = {name: torch.zeros(clips, 1, device=device) for name in ("video", "audio")}
    first = Batch(
        views=(view,),
        row=torch.zeros(clips, dtype=torch.int64),
        index=torch.zeros(clips, dtype=torch.int64),
        start=torch.zeros(clips),
        has_audio=torch.ones(clips, dtype=torch.bool),
    )
    generator = torch.Generator().manual_seed(distributed.get_rank() if way == "sharded" else 0)
    step = 0

    def work() -> None:
        nonlocal step
        row = torch.randint(0, size, (clips,), generator=generator)
        index = torch.arange(clips) + clips * step
        batch = replace(first, row=row, index=index).to(device)
        made = method.loss(model, batch)
        made.loss.backward()
        method.commit(made.updates)
        step += 1

    return each(work, device, count)


def shared_rank(
    rank: int, port: int, sizes: Sequence[int], clips: int, count: int, folder: str
) -> None:
    """One process of those that share banks: rank 0 writes down the seconds by size."""
    torch.set_num_threads(1)
    where = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", where, rank=rank, world_size=RANKS)
    device = torch.device("cpu")
    found = {size: bank_seconds(size, clips, device, count, "sharded") for size in sizes}
    if rank == 0:
        torch.save(found, Path(folder) / "seconds.pt")
    distributed.destroy_process_group()


def shared_seconds(sizes: Sequence[int], clips: int, count: int) -> dict[int, list[float]]:
    """Seconds by size, of the first of two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with TemporaryDirectory() as folder:
        given = (port, sizes, clips, count, folder)
        spawn(shared_rank, args=given, nprocs=RANKS)  # type: ignore[no-untyped-call]
        return dict(torch.load(Path(folder) / "seconds.pt"))


def step_seconds(config: RunConfig, rows: int, device: torch.device, count: int) -> list[float]:
    ours = Ours(config, rows, device)
    batch = made_up(config, rows, device)
    return each(lambda: ours.step(batch), device, count)


def main() -> int:
    args = arguments(__doc__ or "")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.type == "cuda"
    if not on_gpu:
        keep_memory()
        torch.set_num_threads(1)
    sizes = QUICK_SIZES if args.quick else SIZES
    clips = 64 if on_gpu else 4
    config = settings("bfloat16", clips, SMALL if args.quick else ())
    count = 3 if args.quick else 30
    raw: dict[str, Any] = {"device": device.type, "clips": clips, "quick": args.quick}
    if on_gpu:
        raw["gpu"] = torch.cuda.get_device_name()
    raw["step"] = step_seconds(config, sizes[0], device, 1 if args.quick or not on_gpu else 20)
    whole = median(raw["step"])
    found = {"replicated": {n: bank_seconds(n, clips, device, count, "replicated") for n in sizes}}
    if not on_gpu:
        found["sharded"] = shared_seconds(sizes, clips, count)
    raw["bank"] = found
    head = ["rows"]
    head += [f"{way}: bank time, ms" for way in found]
    head += [f"{way}: share of a step" for way in found]
    raw["table"] = [head]
    for size in sizes:
        taken = [median(by_size[size]) for by_size in found.values()]
        cells = [f"{1e3 * x:.3g}" for x in taken] + [f"{100 * x / whole:.2g} %" for x in taken]
        raw["table"].append([f"{size:,}", *cells])
        print("; ".join(f"{a}: {b}" for a, b in zip(head, raw["table"][-1], strict=True)))
    print(f"a step of {clips} clips takes {whole:.3g} s")
    targets = []
    for way, by_size in found.items():
        medians = [median(seconds) for seconds in by_size.values()]
        change = (max(medians) - min(medians)) / whole
        name = f"{way} bank: change of bank time over a step"
        targets.append(Target(name=name, measured=change, most=MOST_CHANGE))
    return finish(targets, raw, args.json)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
