"""Momentum contrast against a naive float64 loop; what enters the dictionaries, and when."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from earsight.config import METHODS, ConfigError, HeadConfig
from earsight.corpus.batch import Batch
from earsight.encoders.heads import MLPHead
from earsight.encoders.pair import OTHER, Pair
from earsight.methods import cm_acc
from earsight.methods.cm_acc import MomentumContrast
from earsight.methods.momentum import MomentumConfig, PoolConfig, PosteriorConfig
from earsight.selection.gradient_embedding import GradientEmbedding
from earsight.selection.seeding import d2_seeding

SIZE, DIM, SEED, B = 40, 6, 11, 5
CLASSES = {"random-pool": PoolConfig, "feature": PoolConfig}
CLASSES |= {"ohem": PosteriorConfig, "cm-acc": PosteriorConfig}


def make_pair(fcl=True):
    torch.manual_seed(0)
    config = HeadConfig(hidden=(), dim=DIM, fcl=fcl)
    return Pair(nn.Linear(4, 8), nn.Linear(5, 9), MLPHead(8, config), MLPHead(9, config))


def make_batch(number, *, views=1, size=B):
    g = torch.Generator().manual_seed(number)
    index = torch.arange(size) + number * size
    return Batch(
        views=tuple(
            {
                "video": torch.randn(size, 4, generator=g),
                "audio": torch.randn(size, 5, generator=g),
            }
            for _ in range(views)
        ),
        row=torch.randperm(SIZE, generator=g)[:size],
        index=index,
        start=torch.zeros(size),
        has_audio=torch.ones(size, dtype=torch.bool),
    )


def make_method(name, model, **chosen):
    given = {"name": name, "dictionary": 12, "momentum": 0.7, **chosen}
    if name in CLASSES:
        given = {"pool": 22, **given}
    settings = CLASSES.get(name, MomentumConfig)(**given)
    method = MomentumContrast(settings, size=SIZE, dim=DIM, seed=SEED)
    method.attach(model)
    return method


def filled(name, **chosen):
    """A method with its dictionary (and pool) full, its model moved on since."""
    model = make_pair()
    method = make_method(name, model, **chosen)
    needs = method.needs
    count = -(-(needs.clips + needs.first_clips) // B)
    views = needs.views
    method.begin_epoch(0, (make_batch(100 + n, views=views) for n in range(count)))
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return method, model


def naive(method, model, batch):
    """Eqs. 6–7 in float64 against the dictionaries as they are after the step."""
    settings = method.settings
    within = settings.name == "smoco"

    def unit(x):
        return F.normalize(x.double(), dim=-1) if settings.normalise else x.double()

    queries = dict(zip(OTHER, model(*batch.views[0].values()), strict=True))
    keys = dict(zip(OTHER, method.keys(*batch.views[-1].values()), strict=True))
    total = torch.zeros((), dtype=torch.float64)
    for query, other in OTHER.items():
        name = query if within else other
        dictionary = method.dictionaries[name]
        for b in range(B):
            q = unit(queries[query][b])
            own = (q @ unit(keys[name][b]) / settings.temperature).exp()
            entries = [k for k in range(len(dictionary)) if dictionary.rows[k] != batch.row[b]]
            entries = [k for k in entries if dictionary.rows[k] >= 0]

            def agreement(k, b=b, dictionary=dictionary):
                both = [
                    F.cosine_similarity(keys[m][b].double(), dictionary.keys(m)[k].double(), dim=0)
                    for m in OTHER
                ]
                return float(min(both))

            ranked = sorted(entries, key=agreement, reverse=True)
            count = math.ceil(settings.union * len(dictionary))
            agreeing, negatives = ranked[:count], ranked[count:]

            def score(k, q=q, name=name, dictionary=dictionary):
                return (q @ unit(dictionary.keys(name)[k]) / settings.temperature).exp()

            noise = sum(score(k) for k in negatives)
            total = total - torch.log(own / (own + noise)) / B
            if settings.union_positives:
                terms = [-torch.log(score(k) / (score(k) + noise)) for k in agreeing]
                total = total + settings.union_weight * sum(terms) / len(terms) / B
    return total


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("smoco", {}),
        ("xmoco", {}),
        ("xmoco", {"normalise": False, "temperature": 2.0}),
        ("xmoco", {"union": 0.2}),
        ("xmoco", {"union": 0.2, "union_positives": True, "union_weight": 0.3}),
        ("random-pool", {}),
        ("ohem", {"choice_normalise": True, "choice_temperature": 0.3}),
        ("feature", {}),
        ("cm-acc", {}),
        ("cm-acc", {"choice_normalise": True, "choice_temperature": 0.5, "union": 0.1}),
    ],
)
def test_loss_and_gradients_equal_naive_loop(name, chosen):
    method, model = filled(name, **chosen)
    batch = make_batch(3, views=method.needs.views)
    step = method.loss(model, batch)
    step.loss.backward()
    slopes = [p.grad.clone() for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    wanted = naive(method, model, batch)
    assert step.loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    wanted.backward()
    for parameter, slope in zip(model.parameters(), slopes, strict=True):
        torch.testing.assert_close(slope, parameter.grad, rtol=1e-4, atol=1e-6)
    assert not any(p.requires_grad for p in method.parameters())


@pytest.mark.parametrize("chosen", [{}, {"normalise": False}, {"union": 0.2}])
def test_scores_keep_their_digits_under_autocast(chosen):
    method, model = filled("xmoco", temperature=0.05, **chosen)
    batch = make_batch(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step = method.loss(model, batch)
        wanted = naive(method, model, batch)
    assert step.loss.item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["smoco", "xmoco"])
def test_keys_of_the_batch_enter_before_the_loss(name):
    method, model = filled(name)
    batch = make_batch(3, views=method.needs.views)
    method.loss(model, batch)
    keys = dict(zip(OTHER, method.keys(*batch.views[-1].values()), strict=True))
    for dictionary in method.dictionaries.values():
        last = (dictionary.head - B + torch.arange(B)) % len(dictionary)
        assert torch.equal(dictionary.rows[last], batch.row)
        for modality, x in keys.items():
            torch.testing.assert_close(dictionary.keys(modality)[last], x)


@pytest.mark.parametrize("name", CLASSES)
def test_what_enters_comes_from_the_pool_and_is_new_to_dictionary_and_batch(name):
    method, model = filled(name)
    for number in range(3):
        batch = make_batch(number)
        before = {n: set(d.rows.tolist()) for n, d in method.dictionaries.items()}
        metrics = method.loss(model, batch).metrics
        for n, dictionary in method.dictionaries.items():
            pool = set(method.pool.rows.tolist())
            free = pool - before[n] - set(batch.row.tolist())
            entered = dictionary.rows[(dictionary.head - B + torch.arange(B)) % len(dictionary)]
            assert set(entered.tolist()) <= free or len(free) < B
        assert 0 < float(metrics["candidates"]) <= len(method.pool)
    dictionary = method.dictionaries["video"]
    place = int((dictionary.head - 1) % len(dictionary))
    at = method.pool.rows == dictionary.rows[place]
    for modality in OTHER:
        same = method.pool.keys(modality)[at] == dictionary.keys(modality)[place]
        assert same.all(dim=1).any()


@pytest.mark.parametrize("normalised", [False, True])
def test_cm_acc_seeds_by_gradients_of_the_other_modality(normalised):
    method, model = filled("cm-acc", choice_normalise=normalised, choice_temperature=0.6)
    batch = make_batch(4)
    with torch.no_grad():
        features = model.audio_head.projection(model.audio_encoder(batch.views[0]["audio"]))
        outputs = model.audio_head.fcl(features)
    dictionary, pool = method.dictionaries["video"], method.pool
    usable = ~torch.isin(pool.rows, torch.cat([dictionary.rows, batch.row]))
    keys = F.normalize(pool.keys("video"), dim=1) if normalised else pool.keys("video")
    points = GradientEmbedding.of(keys, outputs, features, normalised=normalised, temperature=0.6)
    index = int(batch.index[0])
    wanted = d2_seeding(points, B, seed=SEED, index=index, usable=usable, purpose="pool/video")
    method.loss(model, batch)
    entered = dictionary.rows[(dictionary.head - len(wanted) + torch.arange(len(wanted))) % 12]
    assert torch.equal(entered, pool.rows[wanted])


def test_recent_keys_as_pool_cost_no_clips():
    method, model = filled("cm-acc", pool_source="recent")
    assert method.needs.clips == 0
    assert (method.pool.rows == -1).all() or len(method.pool.rows.unique()) > 1
    for number in range(6):
        method.loss(model, make_batch(number))
    recent = torch.cat([make_batch(n).row for n in range(6)])[-22:]
    assert sorted(method.pool.rows.tolist()) == sorted(recent.tolist())


def test_an_empty_pool_leaves_the_dictionary_as_it_was():
    method, model = filled("cm-acc", pool_source="recent")
    method.pool.rows.fill_(-1)
    before = method.dictionaries["audio"].rows.clone()
    step = method.loss(model, make_batch(1))
    assert float(step.metrics["candidates"]) == 0
    assert torch.equal(before, method.dictionaries["audio"].rows)


@pytest.mark.parametrize("source", ["clips", "recent"])
@pytest.mark.parametrize("name", CLASSES)
def test_a_batch_that_is_no_number_changes_nothing_and_is_left_to_the_loop(name, source):
    method, model = filled(name, pool_source=source)
    for number in range(3):
        method.loss(model, make_batch(number))
    before = {n: x.clone() for n, x in method.state_dict().items()}
    batch = make_batch(3)
    batch.views[0]["audio"][0] = torch.nan
    step = method.loss(model, batch)
    assert not step.loss.isfinite()
    assert "candidates" in step.metrics
    assert all(torch.equal(x, before[n]) for n, x in method.state_dict().items())
    assert method.loss(model, make_batch(4)).loss.isfinite()


def test_key_encoders_follow_when_the_step_is_done():
    method, model = filled("xmoco")
    before = {n: x.clone() for n, x in method.keys.named_parameters()}
    method.commit({})
    weight = "video_encoder.weight"
    wanted = 0.7 * before[weight] + 0.3 * model.video_encoder.weight
    torch.testing.assert_close(method.keys.video_encoder.weight, wanted)
    wanted = 0.7 * before["audio_head.fcl.weight"] + 0.3 * model.video_head.fcl.weight
    torch.testing.assert_close(method.keys.audio_head.fcl.weight, wanted)


class TwoRanks:
    """Two threads that gather from one another as processes do."""

    def __init__(self):
        self.barrier, self.own = threading.Barrier(2, timeout=20), threading.local()
        self.slots = [None, None]

    def rank(self):
        return self.own.rank, 2

    def over_ranks(self, x):
        self.slots[self.own.rank] = x
        self.barrier.wait()
        every = torch.cat(self.slots)
        self.barrier.wait()
        return every

    def both(self, work):
        def on(rank):
            self.own.rank = rank
            return work(rank)

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(on, range(2)))


def test_keys_of_several_ranks_are_encoded_among_clips_of_all_of_them(monkeypatch):
    ranks = TwoRanks()
    monkeypatch.setattr(cm_acc, "rank", ranks.rank)
    monkeypatch.setattr(cm_acc, "over_ranks", ranks.over_ranks)
    alone, *methods = (make_method("xmoco", make_pair()) for _ in range(3))
    encoded = [[], []]
    for rank, method in enumerate(methods):
        method.keys.video_encoder.register_forward_pre_hook(
            lambda _, inputs, rank=rank: encoded[rank].append(inputs[0])
        )
    parts = []
    for number in range(3):
        batches = [make_batch(2 * number + rank) for rank in range(2)]
        index = torch.cat([batch.index for batch in batches])
        found = ranks.both(lambda rank, b=batches, i=index: methods[rank]._keys(b[rank], i))
        clips = {name: torch.cat([batch.views[0][name] for batch in batches]) for name in OTHER}
        for name, wanted in zip(OTHER, alone.keys(*clips.values()), strict=True):
            for keys in found:
                torch.testing.assert_close(keys[name], wanted)
        at = [[clips["video"].eq(x).all(dim=1).nonzero().item() for x in e[-1]] for e in encoded]
        assert sorted(at[0] + at[1]) == list(range(2 * B))
        assert min(at[0]) < B <= max(at[0])
        parts.append(at[0])
    assert len({tuple(part) for part in parts}) == 3


def test_queries_are_compared_with_keys_alone():
    method, model = filled("xmoco")
    assert method.spaces == {("video", "audio_key"), ("audio", "video_key")}
    view = make_batch(0).views[0]
    embedded = method.embed(model, view)
    assert set(embedded) == {"video", "audio", "video_key", "audio_key"}
    assert method.keys.training
    _, audio = method.keys(view["video"], view["audio"])
    torch.testing.assert_close(embedded["audio_key"], F.normalize(audio, dim=1))
    within, model = filled("smoco")
    assert within.spaces == frozenset()
    assert set(within.embed(model, view)) == {"video", "audio"}


def test_state_is_saved_with_keys_dictionaries_and_pool():
    method, model = filled("cm-acc")
    other = make_method("cm-acc", model)
    other.load_state_dict(method.state_dict())
    batch = make_batch(9)
    assert method.loss(model, batch).loss.item() == other.loss(model, batch).loss.item()


def test_registered():
    for name in ("smoco", "xmoco", *CLASSES):
        settings = CLASSES.get(name, MomentumConfig)(name=name)
        method = METHODS.build(settings, size=5, dim=4, seed=0)
        assert isinstance(method, MomentumContrast)
        assert "keys per query" in method.describe()


@pytest.mark.parametrize(
    ("settings", "rows", "batch", "steps", "wanted"),
    [
        (
            PosteriorConfig(dictionary=None, pool=None, momentum=None),
            2000,
            32,
            2000,
            {"dictionary": 128, "pool": 512, "momentum": 0.99},
        ),
        (
            MomentumConfig(dictionary=None, momentum=None),
            200,
            32,
            10**6,
            {"dictionary": 50, "momentum": 0.999},
        ),
        (MomentumConfig(dictionary=100), 100, 64, 10, {"dictionary": 100}),
        (PoolConfig(dictionary=99), 100, 64, 10, {"dictionary": 99, "pool": 38400}),
    ],
)
def test_the_rule_for_small_corpora(settings, rows, batch, steps, wanted):
    complete = settings.for_corpus(rows=rows, batch=batch, steps=steps)
    assert {name: getattr(complete, name) for name in wanted} == pytest.approx(wanted)
    assert complete.for_corpus(rows=rows, batch=batch, steps=steps) == complete


def test_what_does_not_fit_the_corpus_is_told_at_once():
    with pytest.raises(ConfigError) as refused:
        PoolConfig(dictionary=101, pool=31).for_corpus(rows=100, batch=32, steps=10)
    first, second = refused.value.faults
    assert first.startswith("method.dictionary: 101 keys are more than the 100 training instances")
    assert second.startswith("method.pool: 31 candidates are fewer than the 32 clips")


def test_a_dictionary_of_all_instances_would_never_change():
    with pytest.raises(ConfigError) as refused:
        PosteriorConfig(dictionary=SIZE).for_corpus(rows=SIZE, batch=B, steps=10)
    (fault,) = refused.value.faults
    assert fault.startswith("method.dictionary: 40 keys are all training instances")
    method, model = filled("cm-acc", dictionary=SIZE)
    for dictionary in method.dictionaries.values():
        dictionary.enqueue(torch.arange(SIZE), {name: torch.randn(SIZE, DIM) for name in OTHER})
    before = {n: x.clone() for n, x in method.dictionaries.state_dict().items()}
    for number in range(3):
        assert method.loss(model, make_batch(number)).metrics["candidates"] == 0
    assert all(torch.equal(x, before[n]) for n, x in method.dictionaries.state_dict().items())


@pytest.mark.parametrize(("union", "fits"), [(0.87, True), (0.88, False)])
def test_union_leaves_negatives(union, fits):
    settings = MomentumConfig(dictionary=8, union=union)
    if fits:
        assert settings.for_corpus(rows=100, batch=B, steps=10).agreeing == 7
        return
    with pytest.raises(ConfigError, match=r"union: 0\.88 of 8 keys leaves a query no negative"):
        settings.for_corpus(rows=100, batch=B, steps=10)


@pytest.mark.parametrize(
    ("settings", "faults"),
    [
        (PosteriorConfig(), []),
        (MomentumConfig(union=0.1, union_positives=True, union_weight=0.0), ["union_weight"]),
        (
            MomentumConfig(dictionary=0, momentum=1.0, temperature=0.0),
            ["dictionary", "momentum", "temperature"],
        ),
        (MomentumConfig(union=1.0), ["union"]),
        (MomentumConfig(union_positives=True), ["union_positives"]),
        (MomentumConfig(union=0.1, union_weight=0.2), ["union_weight"]),
        (PosteriorConfig(pool=0, choice_temperature=0.0), ["pool", "choice_temperature"]),
    ],
)
def test_faults(settings, faults):
    assert [fault.split(":")[0] for fault in settings.faults()] == faults
