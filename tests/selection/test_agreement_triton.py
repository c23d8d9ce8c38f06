"""The GPU's pass in Triton's interpreter, which must be chosen before Triton is imported."""

import os
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from earsight.selection.agreement import mine

pytest.importorskip("triton")

CODE = """
import torch
from torch.nn import functional as F
from earsight.selection import agreement
from earsight.selection.agreement_scores import Banks
from earsight.selection.agreement_triton import candidates, kept

def bank(n, dim, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, dim, generator=generator), dim=1)

cases = [
    (70, 16, 3, "min", 0), (129, 24, 5, "either", 0), (157, 128, 7, "video", 120),
    (64, 20, 1, "audio", 0), (40, 8, 37, "min", 0), (3, 16, 2, "min", 0),
]
for n, dim, k, criterion, copies in cases:
    video, audio = bank(n, dim, 1), bank(n, dim, 2)
    # Near-ties, more than are kept, in an order that bfloat16 does not see.
    for x in (video, audio):
        x[:copies] = F.normalize(x[:1] + 1e-3 * bank(copies, dim, 3), dim=1)
    usable = torch.ones(n, dtype=torch.bool)
    if n > 50:
        usable[::9] = False
    wanted = agreement.mine(video, audio, k, agreement=criterion, usable=usable)
    own = usable.nonzero()[:, 0].flip(0)
    compared = Banks.of(video, audio, criterion)
    low = tuple(x.bfloat16().float() for x in compared.vectors)
    true = compared.products(tuple(x[own] for x in low), low)
    true[:, ~usable] = -torch.inf
    true[torch.arange(len(own)), own] = -torch.inf
    scores, rows = candidates(compared, own, usable, 16)
    best = true.topk(min(16, n), dim=1).values
    found = scores.sort(dim=1, descending=True).values[:, : best.shape[1]]
    torch.testing.assert_close(found, best, rtol=0, atol=1e-6)
    at, slot = (rows >= 0).nonzero().unbind(1)
    torch.testing.assert_close(true[at, rows[at, slot].long()], scores[at, slot])
    task = agreement._Task(
        Banks.of(video, audio, criterion), own, k, usable, 2**28, None
    )
    lost = []
    whole = task._whole_rows
    task._whole_rows = lambda places: (lost.append(len(places)), whole(places))
    task.fused()
    assert sum(lost) > 100 if copies else sum(lost) == 0, (lost, n)
    assert torch.equal(task.rows, wanted.rows[own]), (n, dim, k, criterion)
    assert torch.equal(task.agreement, wanted.agreement[own]), (n, dim, k, criterion)
    if dim != 16:
        continue
    # Candidates that are no queries, as where banks are shared.
    half = n // 2
    queries, others = torch.arange(half), torch.arange(n) >= half
    fewer = min(k, n - half)
    wanted = agreement.mine_among(compared, queries, others, fewer, memory=2**28)
    task = agreement._Task(compared, queries, fewer, others, 2**28, None)
    task.fused()
    assert torch.equal(task.rows, wanted.rows), (n, dim, k, criterion)
    assert torch.equal(task.agreement, wanted.agreement), (n, dim, k, criterion)
print("equal")
"""


def test_fused_pass_equals_the_torch_path():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", CODE]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "equal"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("agreement", ["min", "either", "video"])
def test_a_gpu_mines_what_a_processor_mines(agreement):
    generator = torch.Generator().manual_seed(0)
    video, audio = (F.normalize(torch.randn(6000, 128, generator=generator)) for _ in "va")
    # Near-ties, more than are kept, are mined by whole rows.
    for x in (video, audio):
        x[:300] = F.normalize(x[:1] + 1e-3 * torch.randn(300, 128, generator=generator))
    usable = torch.ones(6000, dtype=torch.bool)
    usable[::9] = False
    wanted = mine(video, audio, 32, agreement=agreement, usable=usable)
    found = mine(video.cuda(), audio.cuda(), 32, agreement=agreement, usable=usable.cuda())
    assert torch.equal(found.rows.cpu(), wanted.rows)
    torch.testing.assert_close(found.agreement.cpu(), wanted.agreement, rtol=0, atol=5e-7)
