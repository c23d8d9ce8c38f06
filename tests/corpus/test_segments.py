import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earsight.corpus.segments import cut

seconds = st.floats(0, 200, allow_nan=False)


def naive(duration, segment):
    """The rule of the design, one file at a time, in whole microseconds."""
    length, step = round(duration * 1e6), round(segment * 1e6)
    if length <= 2 * step:
        return [(0, length)]
    starts = list(range(0, length - step + 1, step))
    rest = length - (starts[-1] + step)
    if 2 * rest >= step:
        starts.append(starts[-1] + step)
    return list(zip(starts, [*starts[1:], length], strict=True))


@given(st.lists(seconds, min_size=1, max_size=6), st.floats(0.5, 60))
@settings(max_examples=150, deadline=None)
def test_as_the_rule_says(durations, segment):
    spans = cut(np.array(durations), segment)
    for file, duration in enumerate(durations):
        at = spans.file == file
        expected = naive(duration, segment)
        np.testing.assert_allclose(spans.start[at] * 1e6, [s for s, _ in expected], atol=0.1)
        np.testing.assert_allclose(spans.end[at] * 1e6, [e for _, e in expected], atol=0.1)


@given(seconds, st.floats(0.5, 60))
@settings(max_examples=150, deadline=None)
def test_covers_the_file_without_gaps(duration, segment):
    spans = cut(np.array([duration]), segment)
    assert spans.start[0] == 0
    assert spans.end[-1] == pytest.approx(duration, abs=1e-6)
    np.testing.assert_array_equal(spans.start[1:], spans.end[:-1])
    if len(spans.file) > 1:
        lengths = spans.end - spans.start
        np.testing.assert_allclose(lengths[:-1], segment, atol=2e-6)
        assert segment / 2 - 2e-6 <= lengths[-1] < 1.5 * segment + 2e-6


@pytest.mark.parametrize(
    ("duration", "ends"),
    [
        (20.0, [20.0]),  # two segments: not longer than two
        (20.000001, [10.0, 20.000001]),
        (24.999999, [10.0, 24.999999]),  # less than half joins the last
        (25.0, [10.0, 20.0, 25.0]),  # half is an instance
        (30.0, [10.0, 20.0, 30.0]),
        (0.0, [0.0]),
    ],
)
def test_edges(duration, ends):
    np.testing.assert_allclose(cut(np.array([duration]), 10.0).end, ends)


def test_without_segments_every_file_is_whole():
    spans = cut(np.array([3.0, 0.0, 7200.0]), None)
    np.testing.assert_array_equal(spans.file, [0, 1, 2])
    np.testing.assert_array_equal(spans.end, [3.0, 0.0, 7200.0])
    assert not spans.key_start.any()
    assert not spans.key_end.any()


def test_no_files():
    assert len(cut(np.array([]), 10.0).file) == 0


@given(st.floats(21, 200), st.floats(-0.2, 0.2))
@settings(max_examples=60, deadline=None)
def test_a_duration_that_is_probed_differently_moves_no_key(duration, change):
    one, other = cut(np.array([duration]), 10.0), cut(np.array([duration + change]), 10.0)
    if len(one.file) == len(other.file):
        np.testing.assert_array_equal(one.key_start, other.key_start)
        np.testing.assert_array_equal(one.key_end, other.key_end)
        assert len(np.unique(one.key_end)) == len(one.file)
