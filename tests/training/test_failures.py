import pytest

from earsight.corpus.batch import Failure
from earsight.training.failures import FailureCount, FailureShareError


def failure(key):
    return Failure(key=key, path=f"{key}.mp4", reason="broken")


def test_a_file_is_named_once_and_counted_always():
    count = FailureCount(0.5)
    first = list(count.add([failure("a"), failure("b")], 8))
    assert [line.split()[3] for line in first] == ["a", "b"]
    assert list(count.add([failure("a")], 8)) == []
    assert (count.failed, count.drawn) == (3, 19)


def test_too_large_a_share_stops_the_run():
    count = FailureCount(0.01)
    list(count.add([failure("a"), failure("b")], 8))
    with pytest.raises(FailureShareError, match=r"3 of 19 .*data\.max_failures=0\.01"):
        list(count.add([failure("c")], 8))


def test_a_restored_count_goes_on():
    count, restored = FailureCount(0.5), FailureCount(0.5)
    list(count.add([failure("a")], 4))
    restored.load(count.state())
    assert list(restored.add([failure("a")], 4)) == []
    assert (restored.failed, restored.drawn) == (2, 10)
