from collections import deque

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from earsight.selection.dictionary import Dictionary


def entries(dictionary):
    """Rows and keys of both modalities, the oldest first."""
    order = (dictionary.head + torch.arange(len(dictionary))) % len(dictionary)
    keys = [dictionary.keys(name)[order, 0].tolist() for name in ("video", "audio")]
    return list(zip(dictionary.rows[order].tolist(), *keys, strict=True))


@given(size=st.integers(1, 9), batches=st.lists(st.integers(0, 21), max_size=8))
@settings(max_examples=60, deadline=None)
def test_it_is_a_queue_for_batches_of_any_size(size, batches):
    dictionary, wanted, number = Dictionary(size, 2), deque([(-1, 0.0, 0.0)] * size, size), 0
    for count in batches:
        rows = torch.arange(number, number + count)
        keys = {"video": rows[:, None] + torch.zeros(2), "audio": -rows[:, None] + torch.zeros(2)}
        dictionary.enqueue(rows, keys)
        wanted.extend((n, float(n), -float(n)) for n in range(number, number + count))
        number += count
        assert entries(dictionary) == list(wanted)


def test_its_state_is_all_there_is():
    one, other = Dictionary(5, 3), Dictionary(5, 3)
    one.enqueue(torch.arange(7), {"video": torch.randn(7, 3), "audio": torch.randn(7, 3)})
    other.load_state_dict(one.state_dict())
    more = {"video": torch.randn(2, 3), "audio": torch.randn(2, 3)}
    for dictionary in (one, other):
        dictionary.enqueue(torch.tensor([8, 9]), more)
    assert entries(one) == entries(other)
    assert set(one.state_dict()) == {"video", "audio", "rows", "head"}
