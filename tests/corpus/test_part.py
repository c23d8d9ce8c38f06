"""Which part a file or a block belongs to, and whether all parts are there."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earsight.corpus.part import Part, check_parts, parse_part


@given(st.text(min_size=1).filter(lambda text: "\0" not in text), st.integers(1, 50))
def test_a_file_is_in_one_part_whatever_else_there_is(path, of):
    holders = [n for n in range(of) if Part(number=n, of=of).has_file(path)]
    assert len(holders) == 1
    assert Part(number=holders[0], of=of).has_file(f"./{path}") or path.startswith("/")


@given(st.integers(0, 1000), st.integers(1, 50))
def test_a_block_is_in_one_part(place, of):
    assert sum(Part(number=n, of=of).has(place) for n in range(of)) == 1


def test_files_are_divided_about_evenly():
    paths = [f"videos/{n:05d}.mp4" for n in range(4000)]
    counts = [sum(Part(number=n, of=4).has_file(path) for path in paths) for n in range(4)]
    assert sum(counts) == 4000
    assert max(counts) - min(counts) < 200  # five standard deviations and more


def test_parts_are_written_and_read_alike():
    part = Part(number=3, of=8)
    assert parse_part(str(part)) == parse_part(" 3 / 8") == part
    assert parse_part(part) is part
    assert parse_part(None) is None


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("3", "write i/n"),
        ("a/b", "write i/n"),
        ("1/2/3", "write i/n"),
        ("", "write i/n"),
        ("3/3", "the last is 2/3"),
        ("-1/3", "numbered from 0"),
        ("0/0", "write 0/1 for all"),
    ],
)
def test_what_is_no_part_is_refused_with_a_remedy(text, remedy):
    with pytest.raises(ValueError, match=f"shard: .*{re.escape(remedy)}"):
        parse_part(text)


def test_missing_parts_are_counted_and_named():
    parts = [Part(number=n, of=5) for n in (4, 0, 2, 2)]
    with pytest.raises(ValueError, match=r"2 of 5 parts are missing: 1/5, 3/5.*--shard 1/5"):
        check_parts(parts, "scan")
    with pytest.raises(ValueError, match=r"1 of 2 part is missing: 1/2; run `earsight embed`"):
        check_parts([Part(number=0, of=2)], "embed")
    many = [Part(number=0, of=40)]
    with pytest.raises(ValueError, match=r"39 of 40 .* 10/40 and 29 more"):
        check_parts(many, "scan")


def test_parts_of_an_earlier_division_do_no_harm():
    earlier = [Part(number=n, of=7) for n in range(3)]
    assert check_parts([*earlier, *(Part(number=n, of=2) for n in (0, 1))], "prepare") == 2
    with pytest.raises(ValueError, match=r"1 of 2 .*parts of 2 divisions.*1/2"):
        check_parts([*earlier, Part(number=0, of=2)], "prepare")
