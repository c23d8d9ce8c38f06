"""CMA against a naive float64 loop over pairs; positives, their draws, where it starts from."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from earsight.config import METHODS
from earsight.corpus.batch import Batch
from earsight.methods import cma
from earsight.methods.avid import Avid, AvidConfig
from earsight.methods.base import Inherited
from earsight.methods.cma import Cma, CmaConfig
from earsight.random import integers_on_device
from earsight.selection.negatives import draw_some, negatives_outside

SIZE, DIM, SEED = 24, 6, 11


class Linears(nn.Module):
    """A model with gradients to look at: one linear map per modality."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.video, self.audio = nn.Linear(4, DIM), nn.Linear(5, DIM)

    def forward(self, video, audio):
        return self.video(video), self.audio(audio)


def make_batch(size=7, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Batch(
        views=(
            {
                "video": torch.randn(size, 4, generator=g),
                "audio": torch.randn(size, 5, generator=g),
            },
        ),
        row=torch.randperm(SIZE, generator=g)[:size],
        index=torch.arange(size) + 1000 * seed,
        start=torch.zeros(size),
        has_audio=torch.ones(size, dtype=torch.bool),
    )


def make_cma(visited=SIZE, **chosen):
    given = {"negatives": 9, "positives": 5, **chosen}
    method = Cma(CmaConfig(**given), size=SIZE, dim=DIM, seed=SEED)
    method.bank.visited[:visited] = True
    return method


def naive(method, model, batch):
    """Eqs. 8–9 in float64, pair by pair; Z̄ over the negatives of all directions if none is set."""
    settings, tau = method.settings, method.settings.temperature
    x = {
        name: F.normalize(getattr(model, name)(batch.views[0][name]).double(), dim=1)
        for name in ("video", "audio")
    }
    bank = {name: method.bank.targets(name).double() for name in x}
    found = method.positives[batch.row].long()
    drawn = draw_some(SEED, "positives", batch.index, found, settings.drawn or found.shape[1])
    excluded = torch.cat([batch.row[:, None], found], dim=1)
    negatives = negatives_outside(SEED, batch.index, excluded, settings.negatives, SIZE)

    def score(query, target, b, row):
        return x[query][b] @ bank[target][row] / tau

    pairs = [("video", "audio"), ("audio", "video")]
    directions = [*pairs, ("video", "video"), ("audio", "audio")]
    every = [score(q, t, b, n).exp() for q, t in directions for b in range(7) for n in negatives[b]]
    z = float(method.partition) or torch.stack(every).mean().detach()
    kz = settings.negatives * z

    def loss(query, target, b, positive):
        s = score(query, target, b, positive).exp()
        noise = [score(query, target, b, n).exp() for n in negatives[b]]
        return -torch.log(s / (s + kz)) - sum(torch.log(kz / (n + kz)) for n in noise)

    total = torch.zeros((), dtype=torch.float64)
    for b in range(7):
        for query, target in pairs:
            total = total + loss(query, target, b, batch.row[b]) / 7
        known = [p for p in drawn[b] if p >= 0]
        for p in known:
            both = loss("video", "video", b, p) + loss("audio", "audio", b, p)
            total = total + settings.weight * both / len(known) / 7
    return total


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"drawn": 2},
        {"weight": 0.3},
        {"partition": "fixed", "partition_value": 1.7},
        {"agreement": "either", "positives": 1},
    ],
)
def test_loss_and_gradients_equal_naive_loop(chosen):
    method, model, batch = make_cma(**chosen), Linears(), make_batch()
    method.begin_epoch(0, None)
    wanted = naive(method, model, batch)
    wanted.backward()
    slopes = [p.grad.clone() for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    step = method.loss(model, batch)
    assert step.loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    step.loss.backward()
    for parameter, slope in zip(model.parameters(), slopes, strict=True):
        torch.testing.assert_close(parameter.grad, slope, rtol=1e-4, atol=1e-5)


def test_rows_never_visited_have_no_positives_and_are_none():
    method, model = make_cma(visited=18), Linears()
    said = method.begin_epoch(0, None)
    assert said.startswith("5 positives found for 18 of 24 rows: mean agreement")
    assert (method.positives[18:] == -1).all()
    assert ((method.positives[:18] >= 0) & (method.positives[:18] < 18)).all()
    batch = make_batch()
    assert (batch.row >= 18).any()
    step = method.loss(model, batch)
    assert step.loss.item() == pytest.approx(naive(method, model, batch).item(), rel=1e-5)


def test_positives_are_those_of_highest_agreement():
    method = make_cma()
    method.begin_epoch(0, None)
    video, audio = (method.bank.targets(m).double() for m in ("video", "audio"))
    agreement = torch.minimum(video @ video.T, audio @ audio.T).fill_diagonal_(-2)
    best = agreement.topk(5, dim=1)
    assert torch.equal(best.indices, method.positives.long())
    assert float(method.agreement) == pytest.approx(float(best.values.mean()), abs=1e-6)


def test_positives_are_found_among_targets_in_half_precision():
    method, model, batch = make_cma(storage="bfloat16"), Linears(), make_batch()
    method.begin_epoch(0, None)
    video, audio = (method.bank.targets(m).double() for m in ("video", "audio"))
    agreement = torch.minimum(video @ video.T, audio @ audio.T).fill_diagonal_(-2)
    assert torch.equal(agreement.topk(5, dim=1).indices, method.positives.long())
    step = method.loss(model, batch)
    assert step.loss.item() == pytest.approx(naive(method, model, batch).item(), rel=1e-5)


def test_a_certified_search_finds_the_same():
    pytest.importorskip("faiss", reason="the extra faiss is not installed")
    exact, certified = make_cma(), make_cma(search="certified", search_budget=0.5)
    exact.begin_epoch(0, None)
    assert "% certified, the rest compared with all" in certified.begin_epoch(0, None)
    assert torch.equal(exact.positives, certified.positives)
    assert torch.equal(exact.agreement, certified.agreement)


def test_positives_stay_until_it_is_time():
    method = make_cma(refresh=3)
    method.begin_epoch(0, None)
    first = method.positives.clone()
    for name in ("video", "audio"):
        method.bank.targets(name).copy_(method.bank.targets(name).flip(0).roll(5, 0))
    assert method.begin_epoch(1, None) == method.begin_epoch(2, None) == ""
    assert torch.equal(method.positives, first)
    assert "% as before" in method.begin_epoch(3, None)
    assert not torch.equal(method.positives, first)


def test_state_dict_round_trip_reproduces_the_next_loss():
    method, model = make_cma(), Linears()
    method.begin_epoch(0, None)
    step = method.loss(model, make_batch())
    method.commit(step.updates)
    state = method.state_dict()
    assert set(state) == {
        "partition", "positives", "agreement", "bank.video", "bank.audio", "bank.visited",
    }  # fmt: skip
    other = make_cma(visited=0)
    other.load_state_dict(state)
    wanted = method.loss(model, make_batch(seed=1))
    got = other.loss(model, make_batch(seed=1))
    assert torch.equal(got.loss, wanted.loss)
    assert all(torch.equal(got.metrics[name], x) for name, x in wanted.metrics.items())


def inherited(state, rows, gone=0, heads=True, temperature=0.07):
    return Inherited(
        run="first",
        state=state,
        rows=torch.as_tensor(rows),
        gone=gone,
        heads=heads,
        temperature=temperature,
    )


def test_bank_and_partition_are_those_of_the_run_it_starts_from():
    before = Avid(AvidConfig(negatives=9), size=20, dim=DIM, seed=3)
    step = before.loss(Linears(), make_batch())
    rows = [*range(5, 20), *[-1] * 9]
    method = make_cma(visited=0)
    said = method.inherit(inherited(before.state_dict(), rows, gone=5))
    assert said == ("memory of first: 15 of 24 rows taken over, 9 are new, 5 of its rows are gone")
    assert torch.equal(method.bank.video[:15], before.bank.video[5:])
    assert float(method.partition) == float(step.metrics["partition"])
    fixed = make_cma(partition="fixed", partition_value=2.5)
    fixed.inherit(inherited(before.state_dict(), rows))
    assert float(fixed.partition) == 2.5
    # Z̄ is a mean of exp(score / τ), of another τ another.
    warmer = make_cma(visited=0)
    warmer.inherit(inherited(before.state_dict(), rows, temperature=0.3))
    assert float(warmer.partition) == 0
    assert torch.equal(warmer.bank.video, method.bank.video)


def test_what_it_cannot_start_from_is_said():
    method, every = make_cma(visited=0), list(range(SIZE))
    with pytest.raises(ValueError, match="start: first keeps no memory bank of both"):
        method.inherit(inherited({}, every))
    cross = Avid(AvidConfig(negatives=9), size=SIZE, dim=DIM, seed=3).state_dict()
    with pytest.raises(ValueError, match="was trained on other clips"):
        method.inherit(inherited(cross, [-1] * SIZE, gone=SIZE))
    wider = Avid(AvidConfig(negatives=9), size=SIZE, dim=DIM + 2, seed=3).state_dict()
    with pytest.raises(ValueError, match="has other heads"):
        method.inherit(inherited(wider, every))
    with pytest.raises(ValueError, match="has other heads"):
        method.inherit(inherited(cross, every, heads=False))
    fresh = Avid(AvidConfig(negatives=9), size=SIZE, dim=DIM, seed=5)
    assert "memory of first is left" in fresh.inherit(inherited(cross, every, heads=False))
    assert not fresh.bank.visited.any()
    with pytest.raises(ValueError, match="start from one with --from RUN"):
        method.begin_epoch(0, None)


def test_a_bank_that_is_not_finite_is_refused():
    method = make_cma()
    method.bank.targets("audio")[3, 0] = torch.nan
    with pytest.raises(ValueError, match="audio"):
        method.begin_epoch(0, None)


def test_registered():
    method = METHODS.build(CmaConfig(positives=3), size=5, dim=4, seed=0)
    assert isinstance(method, Cma)
    assert method.needs.memory
    assert method.spaces == {("video", "audio"), ("audio", "video")}
    assert "3 positives per row by agreement (min)" in method.describe()
    with pytest.raises(ValueError, match="3 of 4 training instances leave no negative"):
        Cma(CmaConfig(positives=3), size=4, dim=4, seed=0).check_rows()


@pytest.mark.parametrize(
    ("chosen", "faults"),
    [
        ({}, []),
        ({"drawn": 32}, []),
        (
            {"positives": 0, "refresh": 0, "mining_memory": 0},
            ["positives", "refresh", "mining_memory"],
        ),
        ({"drawn": 33}, ["drawn"]),
        ({"weight": 0}, ["weight"]),
        ({"search_budget": 0.5}, ["search_budget"]),
        ({"search": "certified", "agreement": "either"}, ["search"]),
        ({"search": "certified", "search_budget": 0.0}, ["search_budget"]),
        ({"search": "certified", "bank": "sharded"}, ["search"]),
        ({"negatives": 0, "partition": "fixed"}, ["negatives", "partition_value"]),
    ],
)
def test_faults(chosen, faults):
    found = list(CmaConfig(**chosen).faults())
    assert [fault.partition(":")[0] for fault in found] == faults


def test_bounds_of_draws_may_differ_by_sample():
    index, high = torch.arange(4), torch.tensor([[1], [2], [50], [2**31 - 1]])
    got = integers_on_device(1, "x", index, 20, high)
    for at in range(4):
        assert torch.equal(got[at], integers_on_device(1, "x", index, 20, int(high[at]))[at])


def test_more_positives_than_clips_were_visited_are_refused_with_the_most():
    method = make_cma(visited=4, positives=4)
    with pytest.raises(ValueError, match=r"set it to 3 at most"):
        method.begin_epoch(0)
    make_cma(visited=4, positives=3).begin_epoch(0)


@pytest.mark.parametrize("compared", [1, 2**24])
def test_positives_that_stay_are_counted(compared, monkeypatch):
    monkeypatch.setattr(cma, "_COMPARED", compared)
    now = torch.tensor([[1, 2, 3], [4, 5, 6], [-1, -1, -1], [7, 8, 9]])
    before = torch.tensor([[3, 1, 9], [1, 2, 3], [-1, -1, -1], [9, 7, 8]])
    assert int(cma._kept(now, before)) == 2 + 0 + 0 + 3
