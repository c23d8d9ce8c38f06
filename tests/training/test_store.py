"""What ranks tell one another, over torch's store and where it does not answer."""

import threading
import time

import pytest
import torch
from torch.distributed import HashStore, PrefixStore

from earsight.training.store import RankError, SharedStore, agree


def meet(store, size, missing=(), seconds=10.0):
    """The names that ranks agree on, each in a thread, by rank."""
    names = {}

    def one(rank):
        try:
            names[rank] = agree(store, rank, size, seconds)
        except TimeoutError as error:
            names[rank] = str(error)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(size) if n not in missing]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return names


def test_ranks_agree_on_a_name_that_none_before_had():
    store = PrefixStore("x", HashStore())
    before = [set(meet(store, size).values()) for size in (3, 3, 2, 4)]
    assert [len(names) for names in before] == [1] * 4
    assert len(set().union(*before)) == 4


def test_ranks_that_left_are_not_taken_for_those_that_are_to_come():
    store = HashStore()
    meet(store, 2)
    assert meet(store, 2, missing=(0,), seconds=0.3) == {1: "some ranks did not come"}
    assert meet(store, 2, missing=(1,), seconds=0.3) == {0: "some ranks did not come"}
    assert len(set(meet(store, 2).values())) == 1


def test_what_is_told_is_heard():
    store = SharedStore(HashStore(), 5)
    assert not store.check(["a"])
    store.set("a", "1")
    assert store.check(["a"])
    assert store.get("a") == b"1"
    assert [store.add("n", 1), store.add("n", 2)] == [1, 3]
    assert store.set_first("first", "mine") == b"mine"
    assert store.set_first("first", "yours") == b"mine"


class Deaf:
    """A store whose machine is gone."""

    def __init__(self):
        self.asked, self.end = 0, threading.Event()

    def check(self, keys):
        self.asked += 1
        self.end.wait(30)
        return True


def test_a_store_that_does_not_answer_is_given_up_once():
    deaf = Deaf()
    store = SharedStore(deaf, 0.2)
    for _ in range(3):
        began = time.monotonic()
        with pytest.raises(RankError, match="no longer answers: it is gone, or the network is cut"):
            store.check(["a"])
    assert time.monotonic() - began < 0.1
    assert deaf.asked == 1
    deaf.end.set()


def test_what_a_store_raises_is_raised():
    class Broken:
        def get(self, key):
            raise torch.distributed.DistStoreError("no such key")

    with pytest.raises(torch.distributed.DistStoreError, match="no such key"):
        SharedStore(Broken(), 5).get("a")
