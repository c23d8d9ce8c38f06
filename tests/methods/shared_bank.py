"""One of four processes in test_shared_bank.py: `python shared_bank.py FOLDER RANK`."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed, nn

from earsight import selection
from earsight.corpus.batch import Batch
from earsight.methods.avid import Avid, AvidConfig
from earsight.methods.base import over_ranks, rank
from earsight.methods.cma import Cma, CmaConfig
from earsight.selection.owners import Owners
from earsight.training.checkpoint import load_checkpoint, save_checkpoint

SIZE, DIM, STEPS, BATCH = 29, 8, 3, 8
PHASES = (4, 2, 1)
"""Ranks that go on from the checkpoint of those before."""

JOINT = {"video_to_video": 0.5, "audio_to_audio": 1.0}
CASES = {
    "fetched": (Avid, AvidConfig, {"negatives": 2}),
    "whole": (Avid, AvidConfig, {"negatives": 9, **JOINT}),
    "float16": (Avid, AvidConfig, {"negatives": 2, "storage": "float16", "partition": "ema"}),
    "bfloat16": (Avid, AvidConfig, {"negatives": 2, "storage": "bfloat16"}),
    "cma": (Cma, CmaConfig, {"negatives": 2, "positives": 3, "refresh": 1}),
}
"""With 2 negatives rows are fetched, with 9 so small a bank is scored as a whole."""


TABLES = (torch.arange(10.0).view(5, 2), torch.arange(5) % 2 == 0, torch.arange(20).view(5, 2, 2))
"""Of so few rows that the last of four ranks keeps none."""


class Linears(nn.Module):
    """A model without batch norm: its losses do not depend on how a batch is divided."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.video, self.audio = nn.Linear(4, DIM), nn.Linear(5, DIM)

    def forward(self, video, audio):
        return self.video(video), self.audio(audio)


def batch_of(step):
    """The whole batch of a step, in which rows repeat within a rank's part and across parts."""
    g = torch.Generator().manual_seed(step)
    row = torch.randint(SIZE, (BATCH,), generator=g)
    row[1], row[BATCH - 1], row[3] = row[0], row[0], SIZE - 1
    views = {
        "video": torch.randn(BATCH, 4, generator=g),
        "audio": torch.randn(BATCH, 5, generator=g),
    }
    return Batch(
        views=(views,),
        row=row,
        index=torch.arange(BATCH) + step * BATCH,
        start=torch.zeros(BATCH),
        has_audio=torch.ones(BATCH, dtype=torch.bool),
    )


def part_of(batch):
    """What this rank takes of a batch."""
    number, ranks = rank()
    part = slice(number * BATCH // ranks, (number + 1) * BATCH // ranks)
    views = ({name: x[part] for name, x in batch.views[0].items()},)
    return replace(
        batch,
        views=views,
        row=batch.row[part],
        index=batch.index[part],
        start=batch.start[part],
        has_audio=batch.has_audio[part],
    )


def build(case, bank):
    """A model and a method at their start."""
    make, config, chosen = CASES[case]
    method = make(config(bank=bank, **chosen), size=SIZE, dim=DIM, seed=5)
    return Linears(), method


def train(model, method, steps):
    """Some steps, on this rank's parts; the losses, gradients and metrics of each."""
    done = []
    if isinstance(method, Cma):
        if steps.start == 0:
            method.bank.visited[:-4] = True
        done.append({"loss": 0.0, "found": method.begin_epoch(steps.start)})
    for number in steps:
        model.zero_grad()
        step = method.loss(model, part_of(batch_of(number)))
        step.loss.backward()
        gradients = [over_ranks(p.grad[None]).mean(dim=0) for p in model.parameters()]
        done.append(
            {
                "loss": float(over_ranks(step.loss.detach()[None]).mean()),
                "gradients": [p.grad.clone() for p in model.parameters()],
                **step.metrics,
            }
        )
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
        method.commit({name: over_ranks(x) for name, x in step.updates.items()})
    return done


def phase(folder, number, ranks):
    """Every case, replicated and sharded, gone on with from the checkpoint of more ranks."""
    at = PHASES.index(ranks)
    steps = range(at * STEPS, (at + 1) * STEPS)
    found = {}
    for case in CASES:
        for bank in ("replicated", "sharded"):
            model, method = build(case, bank)
            if at:
                saved = load_checkpoint(folder / f"{case}-{PHASES[at - 1]}.pt")
                model.load_state_dict(saved["model"])
                method.load_state_dict(saved["method"])
            # Copies: training changes the state in its place.
            before = {name: x.clone() for name, x in method.whole_state().items()}
            done = train(model, method, steps)
            found[case, bank] = {"before": before, "steps": done, "after": method.whole_state()}
            found[case, bank]["kept"] = len(method.bank.targets("video"))
        if number == 0:
            state = {"model": model.state_dict(), "method": found[case, "sharded"]["after"]}
            save_checkpoint(folder / f"{case}-{ranks}.pt", state)
    return found


def exchange(number, ranks):
    """Rows of tables as a rank needs them, rank 1 none at all; the tables; and rank 0's copies."""
    owners = Owners(size=5, rank=number, ranks=ranks)
    own = [table[owners.own] for table in TABLES]
    rows = torch.tensor([[4, 0, number], [4, 4, 3]])[:, : 0 if number == 1 else 3]
    fetched, places = owners.fetch(own, rows)
    whole = [owners.whole(table) for table in own]
    # A row at a time, so that the last part is one that some ranks no longer have.
    selection.owners._SAVED = 1
    return rows, [x[places] for x in fetched], whole, [owners.whole_on_main(x) for x in own]


def main():
    """All phases that this process has a part in."""
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    found = {}
    for ranks in PHASES:
        if number >= ranks:
            break
        distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/meet-{ranks}", rank=number, world_size=ranks
        )
        found[ranks] = {"tables": exchange(number, ranks), **phase(folder, number, ranks)}
        distributed.destroy_process_group()
    torch.save(found, folder / f"{number}.pt")


if __name__ == "__main__":
    main()
