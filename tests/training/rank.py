"""One of several processes in test_distributed.py: `python rank.py MODE ARGUMENTS…`."""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from earsight import api, cli
from earsight.corpus import cache
from earsight.training import loop, step
from earsight.training.distributed import ALONE, join_ranks
from earsight.training.logging import NoLog
from earsight.training.place import place
from earsight.training.plan import Plan, with_size
from earsight.training.setup import build_parts, fit_inputs, open_data
from earsight.training.step import train_step

CPU = torch.device("cpu")
STEPS = 3
MOMENTUM = (
    "head.fcl=true",
    "method.dictionary=9",
    "method.momentum=0.9",
    "method.pool=24",
    "method.temperature=0.7",
)
SCENARIOS = {
    "whole": (),
    "accumulated": ("train.accumulate=2",),
    "one encoder": (
        "method.video_to_audio=0",
        "method.audio_to_video=0",
        "method.video_to_video=1",
    ),
    "sharded": ("method.bank=sharded",),
    "duplicates": (),
    "poisoned": (),
    "momentum": ("method.name=random-pool", *MOMENTUM),
    "active": ("method.name=cm-acc", *MOMENTUM),
}


def main():
    """Do what the mode says."""
    mode, *arguments = sys.argv[1:]
    {"steps": steps, "hang": hang, "fail": fail, "die": die, "fill": fill}[mode](*arguments)


def steps(output, *settings):
    """Every scenario in a group of ranks; what each did is saved, one file per rank."""
    with join_ranks(CPU, 60) as ranks:
        done = {name: scenario(name, settings, ranks) for name in SCENARIOS}
        # The second has more to say than there was room for; the third has less.
        done["joined"] = [joined(ranks, length) for length in (1, 5, 2)]
        done["averaged"] = averaged(ranks)
        torch.save(done, Path(output) / f"{ranks.rank}.pt")


def joined(ranks, length):
    """Two micro-batches, of which rank 0 has more in the second and rank 1 in the first."""
    ragged = torch.arange(2 * length) + 10 * ranks.rank
    first, second = (1, length) if ranks.rank == 0 else (length, 1)
    parts = [{"x": ragged[:first], "y": ragged[:first, None] > 10}, {"x": ragged[:second] + 100}]
    parts[1]["y"] = parts[1]["x"][:, None] > 10
    return ranks.start_join(parts)()


def averaged(ranks):
    """Gradients of parameters that both ranks use, one does, and none."""
    model = torch.nn.ParameterDict({name: torch.ones(2, 3) for name in ("both", "one", "none")})
    wrapped = ranks.wrap(model, CPU)
    loss = (1 + ranks.rank) * wrapped["both"].sum()
    if ranks.rank == 1:
        loss = loss + 4 * wrapped["one"].t().sum()
    loss.backward()
    ranks.start_average(wrapped)()
    return {name: p.grad for name, p in model.items()}


def scenario(name, settings, ranks=ALONE):
    """Three steps with batch norm in evaluation mode, which then sees no batch."""
    own = SCENARIOS[name]
    if own[-1:] == MOMENTUM[-1:]:
        settings = [text for text in settings if not text.startswith("method.")]
    config = api.configure("tiny", settings=[*settings, *own])
    data = open_data(config)
    inputs = fit_inputs(config, data, 0)
    plan = Plan.of(config, len(data.train), ranks.size)
    config = with_size(config, plan, len(data.train))
    parts = build_parts(config, inputs, len(data.train), CPU, ranks)
    clips = api.training_clips(config, data, plan, parts, ranks)
    parts.model.eval()
    if parts.method.keys is not None:
        parts.method.keys.eval()
        begin(config, parts, clips, plan, ranks)
    before = {n: p.detach().clone() for n, p in parts.model.named_parameters()}
    taken = [train_step(config, parts, changed(name, clips, ranks), CPU, ranks)]
    if name != "poisoned":
        count = config.train.accumulate
        later = iter([clips[n] for n in range(count, STEPS * count)])
        taken += [train_step(config, parts, later, CPU, ranks) for _ in range(STEPS - 1)]
    used = [batch for one in taken for batch in one.batches]
    return {
        "row": [batch.row for batch in used],
        "index": [batch.index for batch in used],
        "start": [batch.start for batch in used],
        "video": [batch.views[0]["video"] for batch in used],
        "audio": [batch.views[0]["audio"] for batch in used],
        "metrics": [one.metrics for one in taken],
        "finite": [one.finite for one in taken],
        "before": before,
        "model": {n: p.detach() for n, p in parts.model.named_parameters()},
        "method": parts.method.whole_state(),
    }


def begin(config, parts, clips, plan, ranks):
    """What a run does before its first step: dictionaries and pool are filled."""
    loop.Loop(
        config=config,
        parts=parts,
        clips=clips,
        run=Path(),
        log=NoLog(),
        device=CPU,
        workers=0,
        plan=plan,
        ranks=ranks,
    )._begin_epoch()


def changed(name, clips, ranks):
    """The first step's micro-batches: rows alike on all ranks, or a NaN on the last alone."""
    number = 0
    while True:
        batch = clips[number]
        number += 1
        if name == "duplicates":
            # Of one process, both halves; of two, each its half: the same rows in either.
            half = len(batch) * ranks.size // 2
            batch = replace(batch, row=torch.arange(half).repeat(len(batch) // half))
        if name == "poisoned" and ranks.rank == ranks.size - 1:
            bad = torch.full_like(batch.views[0]["audio"], torch.nan)
            batch = replace(batch, views=({**batch.views[0], "audio": bad},))
        yield batch


def hang(*arguments):
    """Train, rank 1 standing still from its third batch on."""
    at_third_batch(lambda: time.sleep(100))
    cli.main(list(arguments))


def fail(*arguments):
    """Train, rank 1 failing with its third batch."""

    def broken():
        raise OSError("the disk of rank 1 is gone")

    at_third_batch(broken)
    cli.main(list(arguments))


def die(marker, *arguments):
    """Train, rank 1 killed with its third batch, the first time."""

    def killed():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)

    if not Path(marker).exists():
        at_third_batch(killed)
    cli.main(list(arguments))


def fill(marks, *arguments):
    """Train; a rank that decodes clips into a cache leaves a mark."""
    real = cache.fill

    def marked(*order):
        (Path(marks) / f"filled-{place().rank}").touch()
        return real(*order)

    cache.fill = marked
    cli.main(list(arguments))


def at_third_batch(happens):
    """Let something happen on rank 1."""
    real, seen = step.prepare, []

    def prepare(*arguments):
        seen.append(None)
        if len(seen) == 3:
            happens()
        return real(*arguments)

    if place().rank == 1:
        step.prepare = prepare


if __name__ == "__main__":
    main()
