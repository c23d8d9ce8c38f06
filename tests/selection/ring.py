"""One of four processes in test_agreement_ring.py: `python ring.py FOLDER RANK`."""

import sys
from pathlib import Path

import torch
from torch import distributed
from torch.nn import functional as F

from earsight.selection import agreement
from earsight.selection.agreement_ring import mine_shared
from earsight.selection.owners import Owners

RANKS = (4, 2)
CASES = {
    "whole rows": (37, 3, "min", torch.float32, False),
    "last rank empty": (5, 3, "video", torch.float32, False),
    "few usable in a block": (61, 12, "min", torch.float32, True),
    "tiles": (1500, 7, "min", torch.float32, True),
    "tiles of duplicates": (1200, 5, "either", torch.float32, False),
    "half precision": (1201, 6, "audio", torch.float16, False),
}
"""Rows, ``k``, criterion, how targets are stored, and whether some rows are not usable."""


def bank_of(name):
    """Both banks, clustered so that agreement is positive, and the usable rows."""
    size, _, _, stored, some = CASES[name]
    g = torch.Generator().manual_seed(size)
    centre = torch.randint(0, max(1, size // 20), (size,), generator=g)
    wide = 0.0 if "duplicates" in name else 0.5

    def draw():
        noise = wide * torch.randn(size, 16, generator=g)
        return F.normalize(torch.randn(size, 16, generator=g)[centre] + noise, dim=1).to(stored)

    video, audio = draw(), draw()
    usable = torch.ones(size, dtype=torch.bool)
    if some:
        # A block of which hardly any row is usable, and others here and there.
        usable[: size // 4 + 2] = False
        usable[:3] = True
        usable[::7] = False
    return video, audio, usable


def mined(name, owners):
    """What this rank finds for its rows."""
    _, k, criterion, _, _ = CASES[name]
    video, audio, usable = bank_of(name)
    told = []
    found = mine_shared(
        video[owners.own].clone(),
        audio[owners.own].clone(),
        k,
        owners=owners,
        usable=usable,
        agreement=criterion,
        progress=lambda *done: told.append(done),
    )
    return found.rows, found.agreement, told


def main():
    """All cases, by four ranks and by two."""
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    # Tiles small enough that a sweep happens.
    agreement._BLOCK = 64
    found = {}
    for ranks in RANKS:
        if number >= ranks:
            break
        distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/meet-{ranks}", rank=number, world_size=ranks
        )
        for name, (size, *_) in CASES.items():
            owners = Owners(size=size, rank=number, ranks=ranks)
            found[ranks, name] = mined(name, owners)
        distributed.destroy_process_group()
    torch.save(found, folder / f"{number}.pt")


if __name__ == "__main__":
    main()
