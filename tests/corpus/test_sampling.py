from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earsight.config import AudioConfig, VideoConfig
from earsight.corpus.requests import evaluation_requests
from earsight.corpus.sampling import (
    Order,
    replacement,
    training_requests,
)

few = settings(max_examples=40, deadline=None)


def make_instances(n=6, start=0.0, end=10.0, width=320, height=240, has_audio=True, has_video=True):
    """Instances of one long file each, as plain arrays."""

    def full(value, dtype=float):
        return np.full(n, value, dtype)

    return SimpleNamespace(
        path=[f"{i}.mp4" for i in range(n)],
        start=full(start),
        end=full(end),
        width=full(width, int),
        height=full(height, int),
        video_stream=full(0, int),
        audio_stream=full(1, int),
        video_start=full(0.0),
        video_end=full(end),
        audio_start=full(0.0),
        audio_end=full(end),
        has_video=full(has_video, bool),
        has_audio=full(has_audio, bool),
    )


def draw(instances, index, seed=0, views=1, video=None, audio=None):
    index = np.asarray(index)
    return training_requests(
        instances,
        index % len(instances.path),
        index,
        seed=seed,
        views=views,
        video=video or VideoConfig(),
        audio=audio or AudioConfig(),
    )


@few
@given(st.integers(0, 2**31), st.integers(1, 300), st.integers(1, 40))
def test_every_pass_draws_every_row_once(seed, size, block):
    rows = Order(seed=seed, size=size, block=block).rows(np.arange(3 * size))
    for number in range(3):
        part = rows[number * size : (number + 1) * size]
        assert sorted(part) == list(range(size))
    if size > 20 and block == 1:
        assert rows[:size].tolist() != rows[size : 2 * size].tolist()


def test_order_is_a_function_of_the_sample_alone():
    order = Order(seed=1, size=37)
    whole = order.rows(np.arange(100))
    parts = np.concatenate([order.rows(np.arange(a, a + 10)) for a in range(0, 100, 10)])
    assert whole.tolist() == parts.tolist()


def test_a_sample_is_drawn_alike_in_any_batch():
    instances = make_instances()
    together = draw(instances, np.arange(30), views=2)
    alone = [draw(instances, [i], views=2)[0] for i in range(30)]
    assert together == alone


@few
@given(
    st.integers(0, 2**31),
    st.floats(0.3, 30),
    st.integers(16, 2000),
    st.integers(16, 2000),
    st.integers(1, 32),
)
def test_requests_lie_within_the_instance(seed, length, width, height, frames):
    start = 3.0
    instances = make_instances(n=4, start=start, end=start + length, width=width, height=height)
    video, audio = VideoConfig(frames=frames), AudioConfig()
    for request in draw(instances, np.arange(8), seed=seed, video=video, audio=audio):
        picture, sound = request.video[0], request.audio[0]
        assert start <= picture.start <= start + max(0.0, length - video.duration) + 1e-9
        assert start <= sound.start <= start + max(0.0, length - audio.stretch[1]) + 1e-9
        x0, y0, x1, y1 = picture.box
        assert -1e-9 <= x0 < x1 <= 1 + 1e-9
        assert -1e-9 <= y0 < y1 <= 1 + 1e-9
        if length > video.duration + audio.stretch[1] + 1:
            assert abs(sound.start - picture.start) <= max(audio.jitter, audio.stretch[1]) + 1e-9


def test_crops_have_the_area_and_shape_asked_for():
    video = VideoConfig(crop_area=(0.2, 0.6), crop_ratio=(0.8, 1.25))
    instances = make_instances(width=400, height=300)
    requests = draw(instances, np.arange(2000), video=video)
    boxes = np.array([r.video[0].box for r in requests])
    across, down = (boxes[:, 2] - boxes[:, 0]) * 400, (boxes[:, 3] - boxes[:, 1]) * 300
    area, ratio = across * down / (400 * 300), across / down
    assert 0.2 - 1e-9 <= area.min() < 0.22
    assert 0.58 < area.max() <= 0.6 + 1e-9
    assert 0.8 - 1e-9 <= ratio.min() < 0.82
    assert 1.2 < ratio.max() <= 1.25 + 1e-9


def test_a_shape_that_never_fits_takes_the_largest_centred_box():
    video = VideoConfig(crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    request = draw(make_instances(width=400, height=100), [0], video=video)[0]
    assert request.video[0].box == pytest.approx((0.375, 0.0, 0.625, 1.0))


@pytest.mark.parametrize(("width", "height"), [(400, 300), (240, 640), (64, 64)])
def test_squares_are_cut_from_a_resized_short_side(width, height):
    video = VideoConfig(size=224, short_side=256)
    requests = draw(make_instances(width=width, height=height), np.arange(2000), video=video)
    boxes = np.array([r.video[0].box for r in requests])
    side = min(width, height) * 224 / 256
    assert (boxes[:, 2] - boxes[:, 0]) * width == pytest.approx(side)
    assert (boxes[:, 3] - boxes[:, 1]) * height == pytest.approx(side)
    for low, high, size in ((0, 2, width), (1, 3, height)):
        room = size - side
        first = boxes[:, low] * size
        assert 0 <= first.min() < 0.01 * room
        assert 0.99 * room < first.max() <= room
        assert boxes[:, high].max() <= 1 + 1e-9
        assert first.std() == pytest.approx(room / np.sqrt(12), rel=0.05)
    x, y = boxes[:, 0], boxes[:, 1]
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.1


def test_starts_of_views_lie_near_their_sample():
    instances = make_instances(start=2.0, end=62.0)
    video = VideoConfig(jitter=0.5)
    pairs = np.array(
        [[v.start for v in r.video] for r in draw(instances, np.arange(4000), views=2, video=video)]
    )
    assert pairs.min() >= 2.0
    assert pairs.max() <= 62.0 - video.duration
    inside = pairs[(pairs > 4).all(1) & (pairs < 58).all(1)]
    apart = inside[:, 1] - inside[:, 0]
    assert 0.9 < np.abs(apart).max() <= 1.0
    assert apart.std() == pytest.approx(np.sqrt(2 / 12), abs=0.02)
    assert pairs[:, 0].std() == pytest.approx(59 / np.sqrt(12), rel=0.05)
    held = draw(instances, np.arange(50), views=2, video=VideoConfig(jitter=0.0))
    assert all(r.video[0].start == r.video[1].start for r in held)


def test_sound_follows_the_jittered_pictures():
    requests = draw(
        make_instances(end=60.0),
        np.arange(300),
        views=2,
        video=VideoConfig(jitter=0.5, frames=16, fps=10.0),
        audio=AudioConfig(duration=1.6, stretch=(1.6, 1.6), jitter=0.0),
    )
    for request in requests:
        for picture, sound in zip(request.video, request.audio, strict=True):
            assert sound.start == pytest.approx(picture.start)


def test_flips_and_jitter_follow_their_settings():
    instances = make_instances(end=60.0)
    requests = draw(instances, np.arange(4000), video=VideoConfig(flip=0.25))
    assert np.mean([r.video[0].flip for r in requests]) == pytest.approx(0.25, abs=0.03)
    inside = [r for r in requests if 2 < r.video[0].start < 55]
    shift = np.array([r.audio[0].start - r.video[0].start for r in inside])
    assert np.abs(shift).max() <= 0.5 + 1e-9
    assert shift.std() == pytest.approx(1 / np.sqrt(12), abs=0.02)


def test_views_are_drawn_apart():
    request = draw(make_instances(), [5], views=2)[0]
    assert request.video[0].box != request.video[1].box
    assert request.audio[0].start != request.audio[1].start


def test_no_sound_is_asked_of_a_silent_file():
    request = draw(make_instances(has_audio=False), [0])[0]
    assert request.audio == ()
    assert request.audio_stream is None


def test_sound_alone_is_cut_as_far_as_it_reaches():
    instances = make_instances(n=40, start=2.0, end=12.0, width=0, height=0, has_video=False)
    instances.video_end = np.zeros(40)
    drawn = draw(instances, np.arange(40), audio=AudioConfig(jitter=0.0))
    assert all(request.video == () and request.video_stream is None for request in drawn)
    starts = np.array([request.audio[0].start for request in drawn])
    assert starts.min() >= 2.0
    assert starts.max() <= 12.0 - AudioConfig().stretch[1]
    assert starts.max() - starts.min() > 5
    video, audio = VideoConfig(), AudioConfig()
    three = evaluation_requests(instances, np.array([1]), clips=3, video=video, audio=audio)[0]
    assert three.video == ()
    assert [a.start for a in three.audio] == pytest.approx([2, 6, 10])


def test_evaluation_takes_evenly_spaced_centre_crops():
    instances = make_instances(start=2.0, end=12.0, width=400, height=300)
    video, audio = VideoConfig(), AudioConfig()
    one = evaluation_requests(instances, np.array([1]), clips=1, video=video, audio=audio)[0]
    assert one.video[0].start == pytest.approx(2 + 4.5)
    x0, y0, x1, y1 = one.video[0].box
    assert (x1 - x0) * 400 == pytest.approx(0.875 * 300)
    assert (y1 - y0) * 300 == pytest.approx(0.875 * 300)
    assert (x0 + x1, y0 + y1) == pytest.approx((1, 1))
    three = evaluation_requests(instances, np.array([1]), clips=3, video=video, audio=audio)[0]
    assert [v.start for v in three.video] == pytest.approx([2, 6.5, 11])
    assert [a.start for a in three.audio] == pytest.approx([2, 6.5, 10])
    assert three.audio[0].duration == audio.duration


def test_replacements_are_a_fixed_sequence():
    first = [replacement(0, 7, attempt, 100) for attempt in range(1, 6)]
    assert first == [replacement(0, 7, attempt, 100) for attempt in range(1, 6)]
    assert len(set(first)) > 1
