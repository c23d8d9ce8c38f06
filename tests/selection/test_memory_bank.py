import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from earsight.selection.memory_bank import _BLOCK, MemoryBank, random_unit_vectors


def naive_update(targets, row, embedding, momentum):
    result = targets.double().numpy().copy()
    embedding = embedding.double().numpy()
    for r in set(row.tolist()):
        mean = np.mean([embedding[i] for i in range(len(row)) if row[i] == r], axis=0)
        mean /= np.linalg.norm(mean)
        moved = momentum * result[r] + (1 - momentum) * mean
        result[r] = moved / np.linalg.norm(moved)
    return torch.from_numpy(result)


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@given(
    row=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_update_equals_naive_loop(row, momentum, seed):
    bank = MemoryBank(6, 8, seed=seed, momentum=momentum)
    row = torch.tensor(row)
    embeddings = {"video": unit(len(row), 8, seed=seed), "audio": unit(len(row), 8, seed=seed + 1)}
    wanted = {
        name: naive_update(bank.targets(name), row, x, momentum) for name, x in embeddings.items()
    }
    bank.update(row, embeddings)
    for name in embeddings:
        torch.testing.assert_close(bank.targets(name).double(), wanted[name], rtol=0, atol=1e-6)
    assert bank.visited.tolist() == [r in set(row.tolist()) for r in range(6)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_what_a_naive_loop_computes_once(dtype):
    bank = MemoryBank(6, 8, seed=0, dtype=dtype)
    assert torch.equal(bank.video, MemoryBank(6, 8, seed=0).video.to(dtype))
    row = torch.tensor([5, 0, 5, 2])
    for number in range(3):
        x = {"video": unit(4, 8, seed=number), "audio": unit(4, 8, seed=number + 9)}
        wanted = {n: naive_update(bank.targets(n), row, y, 0.5).to(dtype) for n, y in x.items()}
        bank.update(row, x)
        for name, targets in wanted.items():
            assert bank.targets(name).dtype == dtype
            assert torch.equal(bank.targets(name), targets)


@pytest.mark.parametrize(
    ("dtype", "momentum", "degrees"),
    [
        (torch.float16, 0.5, 0.03),
        (torch.bfloat16, 0.5, 0.2),
        (torch.float16, 0.99, 0.2),
        (torch.bfloat16, 0.99, 3.0),
    ],
)
def test_half_precision_strays_little_over_many_updates(dtype, momentum, degrees):
    stored = {
        d: MemoryBank(40, 128, seed=0, momentum=momentum, dtype=d) for d in (dtype, torch.float32)
    }
    centre, row = unit(40, 128), torch.arange(40)
    for number in range(200):
        x = F.normalize(centre + 0.5 * unit(40, 128, seed=number), dim=1)
        for bank in stored.values():
            bank.update(row, {"video": x, "audio": x})
    whole, half = (F.normalize(stored[d].video.double(), dim=1) for d in (torch.float32, dtype))
    angle = (whole * half).sum(dim=1).clamp(max=1).arccos().rad2deg()
    assert degrees / 20 < angle.max() < degrees


def test_untouched_rows_keep_their_bits():
    bank = MemoryBank(50, 8, seed=0)
    before = bank.video.clone()
    bank.update(torch.tensor([3, 3, 7]), {"video": unit(3, 8), "audio": unit(3, 8)})
    same = (bank.video == before).all(dim=1)
    assert same.sum() == 48
    assert not same[3]
    assert not same[7]


def test_ranks_that_see_the_same_batch_keep_the_same_bits():
    first = MemoryBank(20, 32, seed=0)
    second = copy.deepcopy(first)
    row = torch.randint(0, 20, (64,), generator=torch.Generator().manual_seed(1))
    embeddings = {"video": unit(64, 32, seed=2), "audio": unit(64, 32, seed=3)}
    first.update(row, embeddings)
    second.update(row, embeddings)
    assert torch.equal(first.video, second.video)
    assert torch.equal(first.audio, second.audio)


def test_embeddings_that_are_not_finite_change_nothing():
    bank = MemoryBank(5, 4, seed=0)
    before = bank.video.clone()
    video = unit(3, 4)
    audio = unit(3, 4, seed=1)
    audio[0, 2] = torch.nan
    audio[1, 0] = torch.inf
    bank.update(torch.tensor([1, 2, 2]), {"video": video, "audio": audio})
    assert torch.equal(bank.video[1], before[1])
    assert bank.visited.tolist() == [False, False, True, False, False]
    wanted = naive_update(before, torch.tensor([2]), video[2:], 0.5)
    torch.testing.assert_close(bank.video.double(), wanted, rtol=0, atol=1e-6)
    assert bank.audio.isfinite().all()


def test_fetching_from_a_bank_of_ones_own_copies_nothing():
    bank = MemoryBank(5, 4, seed=0, modalities=("audio",))
    rows = torch.tensor([[0, 4, 4], [1, 2, 3]])
    for whole in (False, True):
        targets, places = bank.fetch(["audio"], rows, whole=whole)
        assert places is rows
        assert targets["audio"].data_ptr() == bank.audio.data_ptr()
    assert bank.whole("audio") is bank.audio
    assert set(bank.state_dict()) == {"audio", "visited"}
    assert len(bank) == 5


def test_state_dict_round_trip():
    bank = MemoryBank(6, 4, seed=0)
    bank.update(torch.tensor([2]), {"video": unit(1, 4), "audio": unit(1, 4)})
    other = MemoryBank(6, 4, seed=1)
    assert not torch.equal(other.video, bank.video)
    other.load_state_dict(bank.state_dict())
    assert torch.equal(other.video, bank.video)
    assert torch.equal(other.audio, bank.audio)
    assert torch.equal(other.visited, bank.visited)


@pytest.mark.parametrize("dim", [2, 7, 128])
def test_first_targets_are_uniform_directions(dim):
    vectors = random_unit_vectors(0, "bank/video", 20_000, dim).double()
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(20_000).double(), rtol=0, atol=1e-6)
    error = 1 / (20_000 * dim) ** 0.5
    assert vectors.mean(0).abs().max() < 5 * error
    covariance = vectors.T @ vectors / 20_000
    assert (covariance - torch.eye(dim) / dim).abs().max() < 5 * 2**0.5 / dim / 20_000**0.5


def test_first_targets_are_functions_of_their_row():
    small, large = (random_unit_vectors(5, "x", size, 6) for size in (10, _BLOCK + 3))
    assert torch.equal(small, large[:10])
    assert len(large.unique(dim=0)) == _BLOCK + 3
    bank = MemoryBank(10, 6, seed=5)
    assert not torch.equal(bank.video, bank.audio)
    assert not torch.equal(bank.video, MemoryBank(10, 6, seed=6).video)


def test_rows_of_another_bank_are_taken_by_their_numbers():
    bank, other = MemoryBank(4, 8, seed=0), MemoryBank(3, 8, seed=1)
    other.update(torch.tensor([2]), {"video": unit(1, 8), "audio": unit(1, 8)})
    before = bank.video.clone()
    state = {f"bank.{name}": x for name, x in other.state_dict().items()}
    assert bank.take(state, torch.tensor([2, -1, 0, -1]), prefix="bank.") == 2
    assert torch.equal(bank.video[[0, 2]], other.video[[2, 0]])
    assert torch.equal(bank.video[[1, 3]], before[[1, 3]])
    assert bank.visited.tolist() == [True, False, False, False]


def test_targets_are_taken_from_a_bank_of_another_precision():
    whole, half = MemoryBank(3, 8, seed=0), MemoryBank(3, 8, seed=1, dtype=torch.bfloat16)
    assert whole.take(half.state_dict(), torch.arange(3)) == 3
    assert torch.equal(whole.video, half.video.float())
    other = MemoryBank(3, 8, seed=2)
    assert half.take(other.state_dict(), torch.arange(3)) == 3
    assert torch.equal(half.audio, other.audio.bfloat16())


def test_a_bank_of_other_modalities_or_sizes_is_not_taken():
    bank, rows = MemoryBank(4, 8, seed=0), torch.tensor([0, 1, 2, 3])
    before = copy.deepcopy(bank.state_dict())
    assert bank.take(MemoryBank(4, 6, seed=1).state_dict(), rows) == 0
    only = MemoryBank(4, 8, seed=1, modalities=("video",)).state_dict()
    assert bank.take(only, rows) == 0
    assert all(torch.equal(before[name], x) for name, x in bank.state_dict().items())
