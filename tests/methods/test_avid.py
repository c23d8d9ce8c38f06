import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from earsight.config import METHODS
from earsight.corpus.batch import Batch
from earsight.methods.avid import DIRECTIONS, Avid, AvidConfig
from earsight.selection.negatives import uniform_negatives

SIZE, DIM, SEED = 30, 6, 11
WEIGHTS = {
    "cross": {},
    "self": {"video_to_audio": 0, "audio_to_video": 0, "video_to_video": 1, "audio_to_audio": 1},
    "joint": {"video_to_video": 1, "audio_to_audio": 1},
    "uneven": {"video_to_audio": 0.3, "audio_to_video": 0, "video_to_video": 2},
}


class Linears(nn.Module):
    """A model with gradients to look at: one linear map per modality."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.video, self.audio = nn.Linear(4, DIM), nn.Linear(5, DIM)
        self.called_with = []

    def forward(self, video, audio):
        self.called_with.append((video is not None, audio is not None))
        return (
            None if video is None else self.video(video),
            None if audio is None else self.audio(audio),
        )


def make_batch(size=7, seed=0, row=None):
    g = torch.Generator().manual_seed(seed)
    row = torch.randperm(SIZE, generator=g)[:size] if row is None else row
    return Batch(
        views=(
            {
                "video": torch.randn(size, 4, generator=g),
                "audio": torch.randn(size, 5, generator=g),
            },
        ),
        row=row,
        index=torch.arange(size) + 1000 * seed,
        start=torch.zeros(size),
        has_audio=torch.arange(size) % 2 == 0,
    )


def make_avid(**chosen):
    return Avid(AvidConfig(**{"negatives": 9, **chosen}), size=SIZE, dim=DIM, seed=SEED)


def naive(method, model, batch, weights, z):
    """The loss in float64, pair by pair (avid-cma eqs. 1–5), and Z̄ if ``z`` is None."""
    k, tau = method.settings.negatives, method.settings.temperature
    x = {
        "video": F.normalize(model.video(batch.views[0]["video"]).double(), dim=1),
        "audio": F.normalize(model.audio(batch.views[0]["audio"]).double(), dim=1),
    }
    rows = uniform_negatives(SEED, batch.index, batch.row, k, SIZE)
    score, exponentials = {}, []
    for name in (name for name, weight in weights.items() if weight):
        query, target = DIRECTIONS[name]
        bank = method.bank.targets(target).double()
        for b in range(len(batch)):
            for j, row in enumerate([int(batch.row[b]), *rows[b].tolist()]):
                score[name, b, j] = x[query][b] @ bank[row] / tau
                if j:
                    exponentials.append(score[name, b, j].exp().detach())
    z = torch.stack(exponentials).mean() if z is None else z
    total = torch.zeros((), dtype=torch.float64)
    for (name, _, j), s in score.items():
        p = s.exp() / (s.exp() + k * z)
        total = total - weights[name] / len(batch) * torch.log(1 - p if j else p)
    return total, z


@pytest.mark.parametrize("variant", WEIGHTS)
@pytest.mark.parametrize("partition", [{}, {"partition": "fixed", "partition_value": 1.7}])
def test_loss_and_gradients_equal_naive_loop(variant, partition):
    method, model, batch = make_avid(**WEIGHTS[variant], **partition), Linears(), make_batch()
    every = {name: float(getattr(method.settings, name)) for name in DIRECTIONS}
    wanted, z = naive(method, model, batch, every, partition.get("partition_value"))
    wanted.backward()
    slopes = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    step = method.loss(model, batch)
    assert step.loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert float(method.partition) == pytest.approx(float(z), rel=1e-5)
    step.loss.backward()
    for parameter, slope in zip(model.parameters(), slopes, strict=True):
        if slope is None or not slope.any():
            assert parameter.grad is None or not parameter.grad.any()
        else:
            torch.testing.assert_close(parameter.grad, slope, rtol=1e-4, atol=1e-5)


def test_the_gradient_reaches_queries_alone():
    method, model = make_avid(audio_to_video=0), Linears()
    method.loss(model, make_batch()).loss.backward()
    assert model.video.weight.grad.any()
    assert model.audio.weight.grad is None
    assert not any(buffer.requires_grad for buffer in method.buffers())


@given(seed=st.integers(1, 50))
@settings(max_examples=5, deadline=None)
def test_joint_is_the_sum_of_self_and_cross(seed):
    fixed = {"partition": "fixed", "partition_value": 2.0}
    model, batch = Linears(), make_batch(seed=seed)
    losses = {
        name: make_avid(**WEIGHTS[name], **fixed).loss(model, batch).loss.item()
        for name in ("self", "cross", "joint")
    }
    assert losses["joint"] == pytest.approx(losses["self"] + losses["cross"], rel=1e-5)


def test_metrics():
    method, model, batch = make_avid(**WEIGHTS["uneven"]), Linears(), make_batch()
    step = method.loss(model, batch)
    m = step.metrics
    assert set(m) == {
        "loss_video_to_audio",
        "loss_video_to_video",
        "positive_score",
        "negative_score",
        "accuracy",
        "partition",
        "partition_of_batch",
    }
    assert not any(value.requires_grad for value in m.values())
    total = 0.3 * m["loss_video_to_audio"] + 2 * m["loss_video_to_video"]
    assert step.loss.item() == pytest.approx(total.item(), rel=1e-6)
    x = F.normalize(model.video(batch.views[0]["video"]), dim=1)
    rows = uniform_negatives(SEED, batch.index, batch.row, 9, SIZE)
    positive, negative, beaten = [], [], []
    for target in ("audio", "video"):
        bank = method.bank.targets(target)
        for b in range(len(batch)):
            own, others = x[b] @ bank[batch.row[b]] / 0.07, bank[rows[b]] @ x[b] / 0.07
            positive.append(own.item())
            negative.append(others.mean().item())
            beaten.append(float((own > others.max()).item()))
    for name, values in (
        ("positive_score", positive),
        ("negative_score", negative),
        ("accuracy", beaten),
    ):
        assert float(m[name]) == pytest.approx(sum(values) / len(values), abs=1e-4), name


def test_loss_leaves_the_bank_and_commit_moves_it():
    method, model, batch = (
        make_avid(),
        Linears(),
        make_batch(row=torch.tensor([3, 3, 5, 5, 5, 1, 0])),
    )
    before = method.bank.video.clone()
    step = method.loss(model, batch)
    assert torch.equal(method.bank.video, before)
    assert not any(value.requires_grad for value in step.updates.values())
    embeddings = method.embed(model, batch.views[0])
    method.commit(step.updates)
    assert method.bank.visited.nonzero().flatten().tolist() == [0, 1, 3, 5]
    mean = F.normalize(embeddings["video"][2:5].mean(0), dim=0)
    wanted = F.normalize(0.5 * before[5] + 0.5 * mean, dim=0)
    torch.testing.assert_close(method.bank.video[5], wanted)


def test_updates_of_micro_batches_join():
    whole, parts, model = make_avid(), make_avid(), Linears()
    batch = make_batch(size=6)
    whole.commit(whole.loss(model, batch).updates)
    halves = [pick(batch, slice(0, 3)), pick(batch, slice(3, 6))]
    updates = [parts.loss(model, half).updates for half in halves]
    parts.commit({name: torch.cat([u[name] for u in updates]) for name in updates[0]})
    torch.testing.assert_close(parts.bank.video, whole.bank.video)
    assert torch.equal(parts.bank.visited, whole.bank.visited)


def pick(batch, where):
    view = {name: x[where] for name, x in batch.views[0].items()}
    rest = {name: getattr(batch, name)[where] for name in ("row", "index", "start", "has_audio")}
    return replace(batch, views=(view,), **rest)


def test_neither_order_nor_split_of_a_batch_matters():
    fixed = {"partition": "fixed", "partition_value": 2.0}
    method, model, batch = make_avid(**fixed), Linears(), make_batch(size=6)
    whole = method.loss(model, batch).loss.item()
    turned = method.loss(model, pick(batch, torch.tensor([5, 3, 1, 0, 2, 4]))).loss.item()
    halves = [method.loss(model, pick(batch, slice(i, i + 3))).loss.item() for i in (0, 3)]
    assert turned == pytest.approx(whole, rel=1e-5)
    assert sum(halves) / 2 == pytest.approx(whole, rel=1e-5)


def test_first_partition_is_frozen():
    method, model = make_avid(), Linears()
    assert float(method.partition) == 0
    step = method.loss(model, make_batch())
    first = float(method.partition)
    assert first == float(step.metrics["partition_of_batch"]) > 0
    method.commit(step.updates)
    step = method.loss(model, make_batch(seed=1))
    assert float(method.partition) == first == float(step.metrics["partition"])
    assert float(step.metrics["partition_of_batch"]) != first


def test_moving_partition():
    method, model = make_avid(partition="ema", partition_rate=0.75), Linears()
    step = method.loss(model, make_batch())
    method.commit(step.updates)
    first = float(step.metrics["partition_of_batch"])
    assert float(method.partition) == pytest.approx(first)
    step = method.loss(model, make_batch(seed=1))
    assert float(method.partition) == pytest.approx(first), "the loss must not move it"
    method.commit(step.updates)
    second = float(step.metrics["partition_of_batch"])
    assert float(method.partition) == pytest.approx(0.75 * first + 0.25 * second)
    assert float(step.metrics["partition"]) == pytest.approx(first)
    method.commit({**step.updates, "partition": torch.tensor([math.nan])})
    assert method.partition.isfinite()


def test_fixed_partition():
    method = make_avid(partition="fixed", partition_value=2.5)
    step = method.loss(Linears(), make_batch())
    method.commit(step.updates)
    assert float(method.partition) == 2.5


@pytest.mark.parametrize("partition", ["first", "ema"])
def test_state_dict_round_trip_reproduces_the_next_loss(partition):
    method, model = make_avid(partition=partition), Linears()
    method.commit(method.loss(model, make_batch()).updates)
    state = {name: value.clone() for name, value in method.state_dict().items()}
    assert set(state) == {"partition", "bank.video", "bank.audio", "bank.visited"}
    wanted = method.loss(model, make_batch(seed=1)).loss
    resumed = Avid(method.settings, size=SIZE, dim=DIM, seed=SEED)
    resumed.load_state_dict(state)
    assert torch.equal(resumed.loss(model, make_batch(seed=1)).loss, wanted)
    fresh = Avid(method.settings, size=SIZE, dim=DIM, seed=SEED)
    assert not torch.equal(fresh.loss(model, make_batch(seed=1)).loss, wanted)


def test_autocast_leaves_scores_in_float32():
    class Half(Linears):
        def forward(self, video, audio):
            return tuple(x.bfloat16() for x in super().forward(video, audio))

    method, batch = make_avid(partition="fixed", partition_value=2.0), make_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step = method.loss(Half(), batch)
    assert step.loss.dtype == torch.float32
    assert step.updates["video"].dtype == torch.float32
    given_half = {name: x for name, x in step.updates.items() if name in ("video", "audio")}

    class Given(nn.Module):
        def forward(self, video, audio):
            return given_half["video"], given_half["audio"]

    assert step.loss.item() == pytest.approx(method.loss(Given(), batch).loss.item(), rel=1e-6)


def test_a_modality_without_a_direction_is_not_encoded():
    only = {"video_to_audio": 0, "audio_to_video": 0, "audio_to_audio": 1}
    method, model = make_avid(**only), Linears()
    step = method.loss(model, make_batch())
    method.commit(step.updates)
    assert model.called_with == [(False, True)]
    assert set(method.state_dict()) == {"partition", "bank.audio", "bank.visited"}
    assert method.bank.visited.sum() == 7


def test_silent_clips_take_part():
    method, model, batch = make_avid(), Linears(), make_batch()
    silent = replace(batch, has_audio=torch.zeros(7, dtype=torch.bool))
    assert torch.equal(make_avid().loss(model, silent).loss, method.loss(model, batch).loss)


@pytest.mark.parametrize("variant", WEIGHTS)
def test_spaces(variant):
    both = {("video", "audio"), ("audio", "video")}
    assert make_avid(**WEIGHTS[variant]).spaces == (set() if variant == "self" else both)


def test_registered():
    method = METHODS.build(AvidConfig(), size=5, dim=4, seed=0)
    assert isinstance(method, Avid)
    assert len(method.bank) == 5
    assert (method.needs.views, method.needs.labels, method.needs.clips) == (1, False, 0)
    assert METHODS.settings_of("avid") is AvidConfig
    with pytest.raises(ValueError, match="at least 2"):
        METHODS.build(AvidConfig(), size=1, dim=4, seed=0)


@pytest.mark.parametrize(
    ("chosen", "faults"),
    [
        ({}, []),
        ({"partition": "fixed", "partition_value": 2.2}, []),
        ({"partition": "ema", "partition_rate": 0.9}, []),
        (
            {"negatives": 0, "temperature": 0, "momentum": 1},
            ["negatives", "temperature", "momentum"],
        ),
        ({"partition": "fixed"}, ["partition_value"]),
        ({"partition_value": 2.0}, ["partition_value"]),
        ({"partition": "fixed", "partition_value": -1.0}, ["partition_value"]),
        ({"partition_rate": 0.5}, ["partition_rate"]),
        ({"partition": "ema", "partition_rate": 1.0}, ["partition_rate"]),
        ({"storage": "float16", "momentum": 0.999}, []),
        ({"storage": "float16", "momentum": 0.9999}, ["storage"]),
        ({"storage": "bfloat16", "momentum": 0.999}, ["storage"]),
        ({"storage": "bfloat16", "momentum": 1.0}, ["momentum"]),
        ({"video_to_video": -1}, ["video_to_video"]),
        ({"video_to_audio": 0, "audio_to_video": 0}, ["video_to_audio"]),
    ],
)
def test_faults(chosen, faults):
    found = list(AvidConfig(**chosen).faults())
    assert [fault.partition(":")[0] for fault in found] == faults


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_targets_in_half_precision_are_widened_before_they_are_scored(storage):
    method, model, batch = make_avid(storage=storage), Linears(), make_batch()
    assert method.bank.video.dtype == getattr(torch, storage)
    step = method.loss(model, batch)
    assert step.loss.dtype == torch.float32
    wanted, _ = naive(method, model, batch, method.weights, None)
    assert step.loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    method.commit(step.updates)
    assert method.bank.video.dtype == getattr(torch, storage)
    assert f"targets are kept in {storage}" in method.describe()


def test_a_bank_that_nobody_shares_says_so():
    alone = make_avid(bank="sharded")
    assert "method.bank=sharded changes nothing in a single process" in alone.describe()
    assert torch.equal(alone.bank.video, make_avid().bank.video)
    assert make_avid().describe() == "9 negatives per query, drawn from 29 rows"
