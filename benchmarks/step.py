"""A training step of AVID at scale beside one that works as published code does.

R(2+1)D-18 on 8 × 224² and Conv2D-9 on 200 × 257, MLP heads, a bank of N rows, 1,024 negatives,
Adam: from clips as the encoders take them to weights and bank moved. Both sides start from the same
weights, bank and batch, and must find the same loss and gradient, checked first in float32. On a
processor both run on one core, in turns, in core-seconds, and both with the allocator that ours
sets up. On a GPU also: what share of the speed of plain matrix products the encoders reach, and
the peak of memory beside the one that is predicted before.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from common import Target, alternate, arguments, finish, median
from earsight import api
from earsight.config import RunConfig
from earsight.corpus.batch import Batch
from earsight.corpus.sources import Files
from earsight.training.devices import autocast_dtype, keep_memory
from earsight.training.memory import Held
from earsight.training.setup import blank_inputs, build_parts
from earsight.training.spans import Clock, Span, unwatched, wait_for
from earsight.training.step import train_step
from reference_step import Reference

LEAST = {"cpu": 1.8, "cuda": 3.0}
MOST_MEMORY_ERROR = 0.15
SMALL = ("video.frames=2", "video.size=64", "audio.duration=0.5")
"""Clips on which a step can be seen working, even where bfloat16 is emulated."""
CHECKED = ("video.size=64",)
LOSS_ERROR, ROUNDED_LOSS_ERROR, NORM_ERROR = 1e-4, 0.03, 1e-2


class Ready(nn.Module):
    """In place of transforms: clips that are as the encoders take them already."""

    def prepare(self, view: Mapping[str, Tensor], **_: Any) -> Mapping[str, Tensor]:
        return view


class Ours:
    """Our step."""

    def __init__(self, config: RunConfig, rows: int, device: torch.device) -> None:
        self.config, self.device = config, device
        self.parts = build_parts(config, blank_inputs(config), rows, device)
        self.parts.model.train()
        self.parts.inputs = Ready()  # type: ignore[assignment]

    def step(self, batch: Batch, span: Span = unwatched) -> tuple[Tensor, Tensor]:
        """Loss and gradient norm, left on the device."""

        def again() -> Iterator[Batch]:
            while True:
                yield batch

        metrics = train_step(self.config, self.parts, again(), self.device, span=span).metrics
        return metrics["loss"], metrics["gradient_norm"]


def settings(precision: str, clips: int, own: Sequence[str]) -> RunConfig:
    fixed = [f"train.precision={precision}", f"train.batch={clips}"]
    return api.configure("avid-kinetics", settings=[*fixed, *own])


def made_up(config: RunConfig, rows: int, device: torch.device) -> Batch:
    """A batch of noise."""
    clips, video, audio = config.train.batch, config.video, config.audio
    generator = torch.Generator().manual_seed(0)
    view = {
        "video": torch.randn(clips, 3, video.frames, video.size, video.size, generator=generator),
        "audio": torch.randn(clips, 1, audio.frames, audio.bands, generator=generator),
    }
    return Batch(
        views=({name: x.to(device) for name, x in view.items()},),
        row=torch.randperm(rows, generator=generator)[:clips],
        index=torch.arange(clips),
        start=torch.zeros(clips),
        has_audio=torch.ones(clips, dtype=torch.bool),
    )


def sides(
    precision: str, clips: int, own: Sequence[str], rows: int, device: torch.device
) -> tuple[Ours, Batch, Callable[[], float], Reference]:
    """Ours, a batch, and the reference's step on it, from equal weights and banks."""
    config = settings(precision, clips, own)
    ours = Ours(config, rows, device)
    batch = made_up(config, rows, device)
    method: Any = ours.parts.method
    reference = Reference(
        ours.parts.model.state_dict(),
        method.bank.targets("video"),
        method.bank.targets("audio"),
        config.optimizer.lr,
        config.optimizer.weight_decay,
    )
    view = batch.views[0]
    drawn = method._rows(batch.to(device))
    return ours, batch, lambda: reference.step(view["video"], view["audio"], drawn), reference


def check(rows: int, own: Sequence[str], device: torch.device) -> dict[str, float]:
    """Relative differences of loss and gradient norm; exits where the sides are not the same."""
    found = {}
    # Convolutions of a GPU are reduced unless told otherwise, and not alike on both sides.
    torch.backends.cudnn.allow_tf32 = False
    for precision, most in (("float32", LOSS_ERROR), ("bfloat16", ROUNDED_LOSS_ERROR)):
        ours, batch, theirs, reference = sides(precision, 4, own, rows, device)
        loss, norm = (float(x) for x in ours.step(batch))
        wanted = theirs()
        slopes = [p.grad for p in reference.model.parameters() if p.grad is not None]
        wanted_norm = float(torch.nn.utils.get_total_norm(slopes))
        found[f"loss_{precision}"] = abs(loss / wanted - 1)
        found[f"norm_{precision}"] = abs(norm / wanted_norm - 1)
        if found[f"loss_{precision}"] > most:
            sys.exit(f"{precision}: ours finds a loss of {loss}, the reference {wanted}")
    torch.backends.cudnn.allow_tf32 = True
    if found["norm_float32"] > NORM_ERROR:
        sys.exit(f"gradient norms differ by {found['norm_float32']:.2g}")
    return found


def each(work: Callable[[], object], device: torch.device, count: int) -> list[float]:
    """Seconds (on a processor, core-seconds) of ``work``, several times, after three to warm up."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    for _ in range(3):
        work()
    taken = []
    for _ in range(count):
        wait_for(device)
        began = clock()
        work()
        wait_for(device)
        taken.append(clock() - began)
    return taken


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a large product."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = torch.randn(2, size, size, device=device, dtype=dtype)
    seconds = each(lambda: a @ b, device, 10)
    return 2 * size**3 / min(seconds)


def encoder_operations(ours: Ours, batch: Batch) -> int:
    """Operations of products and convolutions in a step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        ours.step(batch)
    return int(counter.get_total_flops())


def on_gpu_beside(
    config: RunConfig, rows: int, batch: Batch, theirs: Callable[[], object], device: torch.device
) -> dict[str, list[float]]:
    """Seconds of what a GPU's step is held against, and of ours in other ways.

    The reference's convolutions run in TF32, as torch has them unless told otherwise, and once in
    full float32.
    """
    found = {"reference": each(theirs, device, 10)}
    torch.backends.cudnn.allow_tf32 = False
    found["reference without TF32"] = each(theirs, device, 5)
    torch.backends.cudnn.allow_tf32 = True
    compiled = dataclasses.replace(config.train, compile="encoders")
    other = Ours(dataclasses.replace(config, train=compiled), rows, device)
    found["ours, compiled"] = each(lambda: other.step(batch), device, 20)
    return found


def table(seconds: Mapping[str, list[float]], clips: int) -> list[list[str]]:
    """Each side's step beside the reference's."""
    reference = median(seconds["reference"])
    head = ["step", f"milliseconds for {clips} clips", "of the reference's speed"]
    rows = [
        [name, f"{1e3 * median(taken):.3g}", f"{reference / median(taken):.3g}×"]
        for name, taken in seconds.items()
    ]
    return [head, *rows]


def main() -> int:
    """Check, time, and on a GPU look at memory too."""
    args = arguments(__doc__ or "")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_cpu = device.type == "cpu"
    if on_cpu:
        keep_memory()
        torch.set_num_threads(1)
    clips, rows = (2, 20_000) if args.quick else (4 if on_cpu else 64, 240_000)
    own = SMALL if args.quick else ()
    raw: dict[str, Any] = {"device": device.type, "quick": args.quick, "clips": clips, "rows": rows}
    raw["difference"] = check(4000, own or CHECKED, device)
    ours, batch, theirs, _ = sides("bfloat16", clips, own, rows, device)
    with Held(ours.parts) as held:
        ours.step(batch, held)
    memory = held.memory(Files())
    raw["memory"] = dataclasses.asdict(memory)
    targets = []
    if on_cpu:
        seconds = alternate(
            {"reference": lambda _: theirs(), "ours": lambda _: ours.step(batch)},
            1 if args.quick else 3,
        )
    else:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        seconds = {"ours": each(lambda: ours.step(batch), device, 20)}
        standing = memory.weights + memory.optimizer + memory.method + memory.gradients
        # What the reference holds, and the batch, lie there too.
        peak = torch.cuda.max_memory_allocated() - before + standing
        seconds |= on_gpu_beside(ours.config, rows, batch, theirs, device)
        error = abs(memory.peak / peak - 1)
        raw |= {"gpu": torch.cuda.get_device_name(), "peak": peak}
        targets.append(
            Target(name="predicted memory: error", measured=error, most=MOST_MEMORY_ERROR)
        )
    best = "ours" if on_cpu else "ours, compiled"
    ratio = median(seconds["reference"]) / median(seconds[best])
    raw["table"] = table(seconds, clips)
    clock = Clock(device)
    steps = 1 if args.quick else 3
    for _ in range(steps):
        ours.step(batch, clock)
    raw["parts"] = {name: seconds / steps for name, seconds in clock.seconds.items()}
    dtype = autocast_dtype("bfloat16", device) or torch.float32
    operations, peak_rate = encoder_operations(ours, batch), matrix_peak(device, dtype)
    rate = operations / median(seconds[best])
    raw |= {"seconds": seconds, "operations": operations, "matrix_peak": peak_rate, "rate": rate}
    for name, values in seconds.items():
        print(f"{name}: {clips / median(values):.3g} clips/s in steps of {clips}")
    print(
        f"the step does {rate / 1e9:.4g} GFLOP/s, {100 * rate / peak_rate:.0f} % of what a product "
        f"of large bfloat16 matrices does ({peak_rate / 1e9:.4g})"
    )
    targets.insert(
        0,
        Target(
            name="a step over the reference's", measured=ratio, unit="×", least=LEAST[device.type]
        ),
    )
    return finish(targets, raw, args.json)


if __name__ == "__main__":
    sys.exit(main())
