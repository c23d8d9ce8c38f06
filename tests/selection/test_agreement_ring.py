"""Mining by ranks that share the banks: equal, bit for bit, to mining in one process."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from earsight.selection import agreement
from earsight.selection.agreement import mine, mine_among
from earsight.selection.agreement_ring import mine_shared
from earsight.selection.agreement_scores import Banks
from earsight.selection.owners import Owners

sys.path.insert(0, str(Path(__file__).parent))

import ring
from ring import CASES, RANKS


@pytest.fixture(scope="module")
def everyone(ran_by_ranks):
    """What each of four processes found, by number of ranks and case."""
    return ran_by_ranks(ring.__file__, max(RANKS))


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("name", CASES)
def test_ranks_find_what_one_process_finds(everyone, name, ranks):
    _, k, criterion, _, _ = CASES[name]
    video, audio, usable = ring.bank_of(name)
    wanted = mine(video.float(), audio.float(), k, agreement=criterion, usable=usable)
    rows, scores, told = zip(*(done[ranks, name] for done in everyone[:ranks]), strict=True)
    assert torch.equal(torch.cat(rows), wanted.rows)
    assert torch.equal(torch.cat(scores), wanted.agreement)
    for number, shown in enumerate(told):
        own = Owners(size=len(video), rank=number, ranks=ranks).own
        total = ranks * int(usable[own].sum())
        done = [at for at, _ in shown]
        assert done == sorted(done)
        assert {of for _, of in shown} <= {total}
        assert all(at <= total for at in done)


@pytest.mark.parametrize("low", [False, True])
def test_alone_it_is_mining(monkeypatch, low):
    monkeypatch.setattr(agreement, "_BLOCK", 64)
    monkeypatch.setattr(agreement, "multiplies_bfloat16", lambda device: low)
    video, audio, usable = ring.bank_of("tiles")
    wanted = mine(video, audio, 7, usable=usable)
    found = mine_shared(video, audio, 7, owners=Owners(size=len(video)), usable=usable)
    assert torch.equal(found.rows, wanted.rows)
    assert torch.equal(found.agreement, wanted.agreement)


@given(
    size=st.integers(20, 400),
    split=st.floats(0.2, 0.8),
    low=st.booleans(),
    k=st.integers(1, 6),
    overlap=st.integers(0, 5),
)
@settings(max_examples=25, deadline=None)
def test_candidates_may_be_other_rows_than_queries(size, split, low, k, overlap):
    video, audio, _ = ring.bank_of("tiles")
    video, audio = video[:size], audio[:size]
    first = int(split * size)
    candidates = torch.arange(size) >= first
    queries = torch.arange(first + overlap)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "_BLOCK", 32)
        patch.setattr(agreement, "multiplies_bfloat16", lambda device: low)
        found = mine_among(Banks.of(video, audio, "min"), queries, candidates, k, memory=2**20)
    scores = torch.minimum(video.double() @ video.double().T, audio.double() @ audio.double().T)
    scores = scores.fill_diagonal_(-torch.inf)[: len(queries)]
    scores[:, :first] = -torch.inf
    best = scores.topk(k, dim=1).values
    torch.testing.assert_close(found.agreement.double(), best, rtol=0, atol=1e-6)
    torch.testing.assert_close(scores.gather(1, found.rows), best, rtol=0, atol=1e-6)


def test_faults_are_told_before_anything_is_sent():
    video, audio, usable = ring.bank_of("whole rows")
    owners = Owners(size=len(video), rank=1, ranks=4)
    own = [x[owners.own].clone() for x in (video, audio)]
    with pytest.raises(ValueError, match="k must be from 1 to the number of other usable rows"):
        mine_shared(*own, len(video), owners=owners, usable=usable)
    own[1][2, 3] = torch.nan
    with pytest.raises(ValueError, match="1 rows of the audio bank hold numbers that are not fin"):
        mine_shared(*own, 3, owners=owners, usable=usable)
