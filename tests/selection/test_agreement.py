import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from earsight.selection import agreement as module
from earsight.selection.agreement import mine
from earsight.selection.agreement_scores import Banks, Rounding, _tree_sum
from earsight.selection.agreement_sweep import Sweep, mirrored_rounds, spread, survivors

CRITERIA = ["min", "video", "audio", "either"]
FOLDS = {
    "min": min,
    "video": lambda x, y: x,
    "audio": lambda x, y: y,
    "either": max,
}


def banks(kind, n, dim=16, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    if kind == "random":
        return tuple(F.normalize(draw(n, dim), dim=1) for _ in "va")
    centre = torch.randint(0, max(1, n // 20), (n,), generator=generator)
    if kind == "duplicates":
        return tuple(F.normalize(draw(n, dim), dim=1)[centre] for _ in "va")
    # Clusters of rows in order, as clips of a file; "tight" ones closer than bfloat16 tells apart.
    size = {"clustered": 0.5, "tight": 1e-3, "concentrated": 0.1}[kind]
    centre = torch.zeros(n).long() if kind == "concentrated" else centre.sort().values
    return tuple(F.normalize(draw(n, dim)[centre] + size * draw(n, dim), dim=1) for _ in "va")


def naive(video, audio, criterion, usable=None):
    """Agreement of every pair by a double loop, −inf where there is none."""
    video, audio = video.double().numpy(), audio.double().numpy()
    n = len(video)
    scores = np.full((n, n), -np.inf)
    for i in range(n):
        for j in range(n):
            if i != j and (usable is None or (usable[i] and usable[j])):
                scores[i, j] = FOLDS[criterion](video[i] @ video[j], audio[i] @ audio[j])
    return torch.from_numpy(scores)


def dense(video, audio):
    scores = torch.minimum(video.double() @ video.double().T, audio.double() @ audio.double().T)
    return scores.fill_diagonal_(-torch.inf)


def check(mined, scores, k, queries=None):
    """The same set as the oracle's but for ties within 1e-6, in order, no row twice."""
    queries = torch.arange(len(scores)) if queries is None else queries
    scores = scores[queries]
    answered = scores.isfinite().any(dim=1)
    assert (mined.rows[~answered] == -1).all()
    assert (mined.agreement[~answered] == -torch.inf).all()
    rows, agreement, scores = mined.rows[answered], mined.agreement[answered], scores[answered]
    own = scores.gather(1, rows)
    assert own.isfinite().all()
    torch.testing.assert_close(agreement.double(), own, rtol=0, atol=1e-6)
    best = scores.topk(k, dim=1).values
    torch.testing.assert_close(agreement.double(), best, rtol=0, atol=1e-6)
    assert (agreement[:, 1:] <= agreement[:, :-1]).all()
    equal = agreement[:, 1:] == agreement[:, :-1]
    assert (rows[:, 1:] > rows[:, :-1])[equal].all()
    assert all(len(set(row)) == k for row in rows.tolist())


@pytest.fixture(params=["bfloat16", "float32"])
def small_blocks(request, monkeypatch):
    """Tiles small enough that a sweep happens in tests, in either precision."""
    monkeypatch.setattr(module, "_BLOCK", 64)
    low = request.param == "bfloat16"
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda device: low)
    return request.param


@pytest.fixture(autouse=True, params=[1, 3])
def threads(request):
    """One tile at a time, and several."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


@pytest.fixture
def lost(monkeypatch):
    """Numbers of queries that were mined by whole rows."""
    numbers = []
    whole = module._Task._whole_rows

    def counted(self, places):
        numbers.append(len(places))
        whole(self, places)

    monkeypatch.setattr(module._Task, "_whole_rows", counted)
    return numbers


@given(
    kind=st.sampled_from(["random", "clustered", "duplicates", "tight"]),
    n=st.integers(2, 24),
    criterion=st.sampled_from(CRITERIA),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_equals_a_double_loop(kind, n, criterion, data):
    video, audio = banks(kind, n, dim=data.draw(st.integers(1, 9)), seed=n)
    hidden = data.draw(st.sets(st.integers(0, n - 1), max_size=n - 2))
    usable = torch.tensor([row not in hidden for row in range(n)])
    k = data.draw(st.integers(1, n - len(hidden) - 1))
    mined = mine(video, audio, k, agreement=criterion, usable=usable)
    check(mined, naive(video, audio, criterion, usable), k)


@pytest.mark.parametrize("kind", ["random", "clustered", "concentrated", "tight", "duplicates"])
@pytest.mark.parametrize("size", [300, 129])
def test_a_sweep_equals_float64(small_blocks, kind, size):
    video, audio = banks(kind, size)
    check(mine(video, audio, 5, memory=2**21), dense(video, audio), 5)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_in_a_sweep(small_blocks, criterion):
    video, audio = banks("clustered", 200)
    usable = torch.rand(200, generator=torch.Generator().manual_seed(3)) > 0.2
    mined = mine(video, audio, 4, agreement=criterion, usable=usable)
    check(mined, naive(video, audio, criterion, usable), 4)


def test_a_sweep_is_what_mines_ordinary_banks(small_blocks, lost):
    video, audio = banks("random", 640, dim=32)
    mine(video, audio, 4)
    assert sum(lost) < 32


def test_more_near_ties_than_a_shortlist_holds(small_blocks, lost):
    video, audio = banks("duplicates", 400)
    video, audio = video[torch.arange(400) % 2], audio[torch.arange(400) % 2]
    mined = mine(video, audio, 6)
    assert sum(lost) == 400
    # All 199 copies tie: the lowest rows but the own one.
    for row in (0, 5, 399):
        same = [r for r in range(row % 2, 400, 2) if r != row]
        assert mined.rows[row].tolist() == same[:6]


def test_near_ties_that_only_a_part_of_a_tile_has_lose_nobody(monkeypatch, lost):
    monkeypatch.setattr(module, "_BLOCK", 768)
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda device: True)
    # 96 narrow clusters: of 96 columns one is of a row's own, of 768 eight are.
    generator = torch.Generator().manual_seed(5)
    of = torch.randperm(1536, generator=generator) % 96
    basis = torch.eye(128)

    def bank():
        noise = 0.003 * torch.randn(1536, 128, generator=generator)
        return F.normalize(0.95 * basis[127] + 0.3 * basis[of] + noise, dim=1)

    video, audio = bank(), bank()
    check(mine(video, audio, 2), dense(video, audio), 2)
    assert sum(lost) == 0


@pytest.mark.parametrize("kind", ["random", "clustered", "tight", "duplicates"])
def test_neither_memory_nor_splitting_nor_blocks_change_a_bit(monkeypatch, small_blocks, kind):
    video, audio = banks(kind, 333)
    usable = torch.arange(333) % 7 != 0
    whole = mine(video, audio, 5, usable=usable)
    monkeypatch.setattr(module, "_LEAST_MEMORY", 2**15)
    others = [mine(video, audio, 5, usable=usable, memory=m) for m in (2**16, 2**18, 2**22)]
    parts = [
        mine(video, audio, 5, usable=usable, queries=part)
        for part in torch.arange(333).flip(0).split([100, 1, 0, 232])
    ]
    monkeypatch.setattr(module, "_BLOCK", 96)
    others.append(mine(video, audio, 5, usable=usable))
    for other in others:
        assert torch.equal(other.rows, whole.rows)
        assert torch.equal(other.agreement, whole.agreement)
    assert torch.equal(torch.cat([part.rows for part in parts]), whole.rows.flip(0))
    assert torch.equal(torch.cat([part.agreement for part in parts]), whole.agreement.flip(0))


def test_both_precisions_find_the_same(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 64)
    video, audio = banks("concentrated", 300)
    found = []
    for low in (True, False):
        monkeypatch.setattr(module, "multiplies_bfloat16", lambda device, low=low: low)
        found.append(mine(video, audio, 7))
    assert torch.equal(found[0].rows, found[1].rows)
    assert torch.equal(found[0].agreement, found[1].agreement)


@pytest.mark.parametrize("n", [2, 3, 40])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_all_other_rows(n, criterion):
    video, audio = banks("random", n)
    mined = mine(video, audio, n - 1, agreement=criterion)
    check(mined, naive(video, audio, criterion), n - 1)


def test_opposite_rows_and_repeated_queries(small_blocks):
    video, audio = banks("random", 200)
    queries = torch.tensor([7, 7, 199, 0, 7])
    # Every agreement of this query is negative.
    video[7] = -F.normalize(video.mean(dim=0), dim=0)
    audio[1:], audio[0] = audio[1:].abs(), -audio[0].abs()
    mined = mine(video, audio, 3, queries=queries)
    check(mined, dense(video, audio), 3, queries)


def test_rows_of_the_same_content_count_but_the_row_itself_does_not():
    video, audio = banks("random", 10)
    video[9], audio[9] = video[2], audio[2]
    mined = mine(video, audio, 1)
    assert mined.rows[2].item() == 9
    assert mined.rows[9].item() == 2
    assert not (mined.rows == torch.arange(10)[:, None]).any()


def test_memory_is_bounded(monkeypatch, small_blocks):
    """No tensor that mining makes is larger than its share of the memory."""
    video, audio = banks("random", 2000)
    memory, largest = 2**20, [0]
    # What other threads make cannot be watched from this one.
    monkeypatch.setattr("earsight.selection.threads._MOST", 1)

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for x in result if isinstance(result, tuple | list) else [result]:
                if isinstance(x, torch.Tensor):
                    largest[0] = max(largest[0], x.untyped_storage().nbytes())
            return result

    with Watch():
        mine(video, audio, 5, memory=memory)
        some = largest[0]
        mine(video, audio, 5, memory=memory, queries=torch.arange(1500))
    assert some <= memory
    assert largest[0] <= memory


def test_progress_ends_with_all(small_blocks):
    video, audio = banks("random", 300)
    told = []
    mine(video, audio, 3, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (300, 300)


@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 1.0, 30.0]))
@settings(max_examples=30, deadline=None)
def test_error_bounds_hold(seed, scale):
    video, audio = (scale * x for x in banks("clustered", 60, dim=24, seed=seed))
    compared = Banks.of(video, audio, "min")
    true = torch.minimum(video.double() @ video.double().T, audio.double() @ audio.double().T)
    low = tuple(x.bfloat16() for x in compared.vectors)
    rounding = Rounding.of(compared, torch.bfloat16)
    products = torch.minimum(*(x.float() @ x.float().T for x in low))
    off = (products.double() - true).abs()
    assert (off <= torch.minimum(rounding.product[:, None], rounding.product)).all()
    pairs = torch.cartesian_prod(torch.arange(60), torch.arange(60))
    exact = compared.exact(pairs[:, 0], pairs[:, 1]).view(60, 60)
    assert torch.equal(exact, exact.T)
    assert (exact.double() - true).abs().max() <= rounding.exact


def test_tree_sum_of_any_width():
    for dim in (1, 2, 3, 7, 64, 100):
        terms = torch.randint(-9, 9, (5, dim)).float()
        assert torch.equal(_tree_sum(terms), terms.sum(dim=1))


@pytest.mark.parametrize("blocks", range(1, 12))
def test_rounds_visit_every_pair_of_blocks_once(blocks):
    visited = [pair for tiles in mirrored_rounds(blocks) for pair in tiles]
    assert sorted(tuple(sorted(pair)) for pair in visited) == [
        (i, j) for i in range(blocks) for j in range(i, blocks)
    ]
    assert [i == j for i, j in visited[:blocks]] == [True] * blocks


def test_spread_fills_blocks_alike():
    rows = spread(torch.arange(70), 32).view(3, 32)
    assert (rows >= 0).sum(dim=1).tolist() == [24, 23, 23]
    assert rows[rows >= 0].tolist() == list(range(70))


def test_survivors_are_in_order_of_queries():
    blocks = torch.randint(0, 100, (6, 32, 3), dtype=torch.int16)
    floor = torch.tensor([0, 50, 90, 99, 200, 70], dtype=torch.int16)
    query, column, score = survivors(blocks, blocks.amax(dim=1), floor)
    flat = blocks.view(6, -1)
    assert torch.equal(flat[query, column], score)
    assert len(query) == (flat >= floor[:, None]).sum()
    assert (query.diff() >= 0).all()


def test_bad_input():
    video, audio = banks("random", 12)
    usable = torch.arange(12) < 4
    with pytest.raises(ValueError, match="4 of 12 rows are usable"):
        mine(video, audio, 4, usable=usable)
    with pytest.raises(ValueError, match="k must be from 1"):
        mine(video, audio, 0)
    with pytest.raises(ValueError, match="shape"):
        mine(video, audio[:5], 2)
    with pytest.raises(ValueError, match="float32"):
        mine(video.double(), audio.double(), 2)
    with pytest.raises(ValueError, match="usable must be"):
        mine(video, audio, 2, usable=usable[:3])
    with pytest.raises(ValueError, match="memory"):
        mine(video, audio, 2, memory=10)
    with pytest.raises(ValueError, match="queries must be rows from 0 to 11"):
        mine(video, audio, 2, queries=torch.tensor([12]))
    with pytest.raises(ValueError, match="int64"):
        mine(video, audio, 2, queries=torch.tensor([1.0]))
    audio[3, 2], audio[5, 1] = torch.nan, torch.inf
    with pytest.raises(ValueError, match="2 rows of the audio bank"):
        mine(video, audio, 2)


def test_unusable_queries_are_not_answered():
    video, audio = banks("random", 12)
    mined = mine(video, audio, 2, usable=torch.arange(12) != 3, queries=torch.tensor([3, 4]))
    assert mined.rows[0].tolist() == [-1, -1]
    assert mined.agreement[0].tolist() == [-torch.inf, -torch.inf]
    assert mined.rows[1].min() >= 0


def test_a_sweep_looks_at_half_of_the_tiles(monkeypatch, small_blocks):
    visits = []
    tile = Sweep._tile

    def counted(self, at):
        visits.append(at)
        return tile(self, at)

    monkeypatch.setattr(Sweep, "_tile", counted)
    video, audio = banks("random", 640)
    mine(video, audio, 4)
    assert len(visits) == 10 * 11 / 2


@pytest.mark.parametrize("asked", [40, 150])
def test_few_queries_meet_every_block_of_columns_once(monkeypatch, small_blocks, asked):
    visits = []
    tile = Sweep._tile
    monkeypatch.setattr(Sweep, "_tile", lambda self, at: visits.append(at) or tile(self, at))
    video, audio = banks("random", 640)
    queries = torch.arange(asked)
    check(mine(video, audio, 4, queries=queries), dense(video, audio), 4, queries)
    rows = -(-asked // 64)
    assert sorted(visits) == [(row, column) for row in range(rows) for column in range(10)]
