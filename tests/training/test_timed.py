"""Batches that are fetched before their turn."""

import pytest

from earsight.training.timed import Timed


def numbers(until, error):
    yield from range(until)
    if error is not None:
        raise error


def test_what_was_fetched_early_is_the_next():
    items = Timed(numbers(3, None))
    items.fetch()
    items.fetch()
    assert next(items) == 0
    assert next(items) == 1
    items.fetch()
    assert list(items) == [2]
    items.fetch()
    assert list(items) == []


def test_an_error_comes_in_its_turn():
    items = Timed(numbers(1, OSError("gone")))
    assert next(items) == 0
    items.fetch()
    with pytest.raises(OSError, match="gone"):
        next(items)


def test_time_is_told_once():
    items = Timed(numbers(1, None))
    items.fetch()
    assert items.take_waited() > 0
    next(items)
    assert items.take_waited() == 0
