import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earsight.corpus.keys import key_of, key_text, keys_of, normal_path, parse_keys


def test_keys_never_move():
    """Written once, by hand: every corpus ever scanned depends on them."""
    assert key_text(key_of("a/b.mp4")) == "f91a5d8e8dae1ef6"
    assert key_text(key_of("a/b.mp4", 10.0, 20.0)) == "48d9655ae98ed33a"
    assert key_text(key_of("train/é.mp4")) == "3993bbdc5a6ca4d1"


def test_composed_and_decomposed_names_have_one_key():
    composed = "caf\u00e9/\u00fcber.mp4"
    assert key_of(composed) == key_of(unicodedata.normalize("NFD", composed))
    assert key_of("./a//b.mp4") == key_of("a/b.mp4")
    assert normal_path("a/./b.mp4") == "a/b.mp4"


def test_spans_are_told_apart_by_microseconds():
    assert key_of("a", 0, 10) == key_of("a", 0, 10 + 1e-8)
    assert key_of("a", 0, 10) != key_of("a", 0, 10 + 1e-6)
    assert len(set(keys_of("a", [(0, 0), (0, 10), (10, 20)]))) == 3


def test_path_and_span_do_not_run_together():
    assert key_of("a1", 0, 1) != key_of("a", 10, 1)


def test_no_collisions_in_100_000_and_bits_are_even():
    keys = np.array(
        [
            key
            for file in range(1000)
            for key in keys_of(f"{file}.mp4", ((s, s + 1) for s in range(100)))
        ],
        np.uint64,
    )
    assert len(np.unique(keys)) == 100_000
    bits = (keys[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    # Each of 64 bits is 1 in half of the keys, within five standard deviations.
    assert np.abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / np.sqrt(len(keys))


@given(st.integers(0, 2**64 - 1))
@settings(max_examples=50, deadline=None)
def test_text_and_back(key):
    assert parse_keys([key_text(key), f" {key_text(key).upper()}"]) == [key, key]


@pytest.mark.parametrize("text", ["", "12", "g" * 16, "0x" + "1" * 14, "1" * 17, "_" * 16])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(ValueError, match="16 hexadecimal"):
        parse_keys([text])
