"""Who keeps which rows; what ranks exchange is tested in tests/methods/test_shared_bank.py."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from earsight.selection.memory_bank import _BLOCK, MemoryBank, random_unit_vectors
from earsight.selection.owners import Owners


@given(size=st.integers(1, 300), ranks=st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_every_row_has_one_owner(size, ranks):
    everyone = [Owners(size=size, rank=rank, ranks=ranks) for rank in range(ranks)]
    rows = torch.arange(size)
    kept = [rows[owners.own] for owners in everyone]
    assert torch.equal(torch.cat(kept), rows)
    assert max(len(some) for some in kept) == everyone[0].block == -(-size // ranks)
    for rank, some in enumerate(kept):
        assert everyone[0].rows_of(rank) == everyone[rank].own
        assert (everyone[0].owner(some) == rank).all()


def test_alone_nothing_is_copied():
    owners, table, rows = Owners(size=5), torch.rand(5, 3), torch.tensor([4, 4, 0])
    (fetched,), places = owners.fetch([table], rows)
    assert fetched is table
    assert places is rows
    assert owners.whole(table) is table
    assert owners.whole_on_main(table) is table
    assert not owners.shared


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_parts_of_a_bank_begin_as_the_whole(ranks):
    size = 2 * _BLOCK + 5
    whole = MemoryBank(size, 3, seed=4, modalities=("video",))
    parts = [
        MemoryBank(size, 3, seed=4, modalities=("video",), rank=rank, ranks=ranks)
        for rank in range(ranks)
    ]
    assert torch.equal(torch.cat([part.video for part in parts]), whole.video)
    assert all(len(part) == size for part in parts)
    assert max(len(part.video) for part in parts) == -(-size // ranks)


@given(begin=st.integers(0, 40), length=st.integers(0, 40))
@settings(max_examples=25, deadline=None)
def test_directions_of_some_rows_are_those_of_all(begin, length):
    every = random_unit_vectors(7, "x", 80, 5)
    part = slice(begin, begin + length)
    assert torch.equal(random_unit_vectors(7, "x", 80, 5, part=part), every[part])
    rounded = random_unit_vectors(7, "x", 80, 5, part=part, dtype=torch.float16)
    assert torch.equal(rounded, every[part].half())


@pytest.mark.parametrize("ranks", [1, 2, 4, 9])
def test_each_rank_loads_its_rows_of_a_whole_bank(ranks):
    whole = MemoryBank(7, 3, seed=0)
    row = torch.tensor([1, 6, 1, 3])
    x = torch.nn.functional.normalize(torch.randn(2, 4, 3, generator=torch.Generator()), dim=-1)
    whole.update(row, {"video": x[0], "audio": x[1]})
    every = {name: [] for name in ("video", "audio")}
    for rank in range(ranks):
        part = MemoryBank(7, 3, seed=1, rank=rank, ranks=ranks)
        part.load_state_dict(whole.state_dict())
        taken = MemoryBank(7, 3, seed=1, rank=rank, ranks=ranks)
        assert taken.take(whole.state_dict(), torch.arange(7)) == 7
        assert torch.equal(part.visited, whole.visited)
        for name, targets in every.items():
            targets.append(part.targets(name))
            assert torch.equal(taken.targets(name), part.targets(name))
    assert all(torch.equal(torch.cat(x), whole.targets(name)) for name, x in every.items())


@given(row=st.lists(st.integers(0, 6), min_size=1, max_size=9), ranks=st.integers(1, 8))
@settings(max_examples=25, deadline=None)
def test_parts_move_as_the_whole_does(row, ranks):
    row = torch.tensor(row)
    g = torch.Generator().manual_seed(len(row))
    x = torch.nn.functional.normalize(torch.randn(len(row), 16, generator=g), dim=-1)
    x[len(row) // 2, 3] = torch.nan if len(row) % 2 else x[len(row) // 2, 3]
    whole = MemoryBank(7, 16, seed=0, modalities=("audio",))
    parts = [
        MemoryBank(7, 16, seed=0, modalities=("audio",), rank=rank, ranks=ranks)
        for rank in range(ranks)
    ]
    for bank in (whole, *parts):
        bank.update(row, {"audio": x})
    assert torch.equal(torch.cat([part.audio for part in parts]), whole.audio)
    assert all(torch.equal(part.visited, whole.visited) for part in parts)
