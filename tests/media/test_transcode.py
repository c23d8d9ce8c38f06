"""Films made anew: the same pictures and sound, at their times, upright and small."""

import io
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earsight.media.decode import decode
from earsight.media.members import Member
from earsight.media.probe import probe
from earsight.media.transcode import Stretch, _resampled, transcode
from earsight.media.types import AudioRequest, ClipRequest, Coding, MediaError, VideoRequest

FAST = Coding(preset="veryfast", short_side=96)


def stretch_of(path, video=None, audio=None):
    """All of a file, or parts of its streams."""
    info = probe(path)
    whole = {}
    for name, stream, part in (("video", info.video, video), ("audio", info.audio, audio)):
        if stream is not None and part is not False:
            whole[name] = part or (stream.start, stream.start + stream.duration)
            whole[f"{name}_stream"] = stream.stream
    return Stretch(path=str(path), fps=info.video.fps if info.video else 0.0, **whole)


def store(made, tmp_path):
    """The path of a file made, within an archive."""
    archive = tmp_path / "00000.tar"
    archive.write_bytes(made.content)
    return Member(
        archive=str(archive),
        name="clip.mp4",
        offset=0,
        length=len(made.content),
        checksum=zlib.crc32(made.content),
    ).text


def frames_of(made):
    """Times and pictures, in the plainest way."""
    with av.open(io.BytesIO(made.content)) as container:
        return [
            (float(frame.pts * frame.time_base), frame.to_ndarray(format="rgb24"))
            for frame in container.decode(video=0)
        ]


def test_frames_of_a_slow_film_are_kept_with_their_times(make, media, tmp_path):
    ticks = [0, 2, 3, 7, 8, 9, 14, 15, 20, 30]
    path = make.write(media / "slow.mp4", make.Video(ticks=ticks, tick=Fraction(1, 20)))
    made = transcode(stretch_of(path), FAST)
    found = frames_of(made)
    assert [make.number_of(image) for _, image in found] == list(range(10))
    np.testing.assert_allclose([time for time, _ in found], np.array(ticks) / 20, atol=1e-4)
    np.testing.assert_allclose(made.times, np.array(ticks) / 20, atol=1e-4)
    assert made.width, made.height == (128, 96)
    assert probe(store(made, tmp_path)).video.frames == 10


@pytest.mark.parametrize("fps", [4.0, 7.5, 16.0])
def test_fast_films_show_what_was_shown_then(make, media, fps):
    path = make.write(media / "fast.mp4", make.Video(ticks=range(60), tick=Fraction(1, 30)))
    made = transcode(stretch_of(path), Coding(fps=fps, short_side=96))
    found = frames_of(made)
    shown = [int(k / fps * 30 + 1e-6) for k in range(len(found))]
    assert [make.number_of(image) for _, image in found] == shown
    np.testing.assert_allclose([t for t, _ in found], np.arange(len(found)) / fps, atol=1e-4)
    assert len(found) == round(2 * fps)
    assert made.fps == fps


def test_keyframes_come_as_often_as_asked_for(make, media, tmp_path):
    path = make.write(media / "keys.mp4", make.Video(ticks=range(60), tick=Fraction(1, 15)))
    made = transcode(stretch_of(path), Coding(keyframe_every=5, short_side=96))
    np.testing.assert_allclose(made.keyframes, np.arange(0, 60, 5) / 15, atol=1e-4)
    found = probe(store(made, tmp_path)).video
    np.testing.assert_allclose(found.keyframes, made.keyframes, atol=1e-4)


def test_a_stretch_begins_anew_and_stays_in_step(make, media, tmp_path):
    video = make.Video(ticks=range(80), tick=Fraction(1, 20), gop=30, b_frames=2)
    path = make.write(media / "step.mp4", video, make.Audio(seconds=4.0, codec="flac"))
    low, high = 1.225, 2.6
    made = transcode(stretch_of(path, video=(low, high), audio=(low, high)), Coding(fps=30))
    prepared = store(made, tmp_path)
    info = probe(prepared)
    assert info.video.start == info.audio.start == 0
    assert info.audio.duration == pytest.approx(high - low, abs=1e-4)
    # What is shown at the beginning began before it.
    assert [make.number_of(x) for _, x in frames_of(made)] == list(range(24, 52))
    for start in (0.0, 0.4, 1.0):
        ours, theirs = (
            decode(
                ClipRequest(
                    path=str(where),
                    video=(VideoRequest(start=start + shift, fps=10, frames=3, size=(96, 128)),),
                    audio=(AudioRequest(start=start + shift, duration=0.3, rate=24000),),
                )
            )
            for where, shift in ((prepared, 0.0), (path, low))
        )
        assert make.psnr(ours.video[0], theirs.video[0]) > 35
        # Where a clip begins between two samples, the nearest stands for it.
        np.testing.assert_allclose(ours.audio[0], theirs.audio[0], atol=2e-3)


def test_streams_that_begin_apart_stay_apart(make, media, tmp_path):
    audio = make.Audio(seconds=1.0, codec="flac", start=0.75)
    path = make.write(media / "apart.mp4", make.Video(), audio)
    made = transcode(stretch_of(path), FAST)
    info = probe(store(made, tmp_path))
    assert info.video.start == 0
    assert info.audio.start == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_pictures_are_turned_upright(make, media, tmp_path, rotation, mirrored):
    name = f"turned-{rotation}-{mirrored}.mp4"
    path = make.write(media / name, make.Video(rotation=rotation, mirrored=mirrored))
    made = transcode(stretch_of(path), Coding(fps=30))
    high, wide = made.height, made.width
    assert {high, wide} == {96, 128}
    requests = [
        ClipRequest(
            path=where, video=(VideoRequest(start=0.5, fps=20, frames=4, size=(high, wide)),)
        )
        for where in (store(made, tmp_path), str(path))
    ]
    ours, theirs = (decode(request).video[0] for request in requests)
    assert make.psnr(ours, theirs) > 35


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((128, 96), 96, (128, 96)),
        ((128, 96), 256, (128, 96)),
        ((128, 96), 48, (64, 48)),
        ((99, 131), 256, (98, 130)),
        ((300, 100), 50, (150, 50)),
        ((2, 90), 16, (2, 90)),
    ],
)
def test_sizes(make, media, tmp_path, size, short_side, expected):
    path = media / f"size-{size[0]}x{size[1]}.mkv"
    video = make.Video(size=size, codec="ffv1", pixel_format="yuv444p", ticks=range(4))
    path = make.write(path, video)
    made = transcode(stretch_of(path), Coding(fps=30, short_side=short_side))
    assert (made.width, made.height) == expected
    assert frames_of(made)[0][1].shape == (*expected[::-1], 3)


@pytest.mark.parametrize(
    ("codec", "layout"),
    [("libx264", "yuv420p10le"), ("libx264", "yuvj420p"), ("ffv1", "gray"), ("ffv1", "bgra")],
)
def test_colours_of_other_formats(make, media, tmp_path, codec, layout):
    path = media / f"colours-{layout}.mkv"
    video = make.Video(codec=codec, pixel_format=layout, ticks=range(6), size=(160, 112))
    path = make.write(path, video)
    made = transcode(stretch_of(path), Coding(fps=30))
    requests = [
        ClipRequest(path=where, video=(VideoRequest(start=0.1, fps=20, frames=2, size=(112, 160)),))
        for where in (store(made, tmp_path), str(path))
    ]
    ours, theirs = (decode(request).video[0] for request in requests)
    assert make.psnr(ours, theirs) > 32


def test_sound_is_that_of_decoding(make, media, tmp_path):
    path = make.write(media / "sound.wav", make.Audio(rate=44100, channels=2, codec="pcm_s16le"))
    made = transcode(stretch_of(path), Coding(rate=16000))
    assert made.width == 0
    request = AudioRequest(start=0.0, duration=2.0, rate=16000)
    ours, theirs = (
        decode(ClipRequest(path=where, audio=(request,))).audio[0]
        for where in (store(made, tmp_path), str(path))
    )
    np.testing.assert_array_equal(ours, theirs)


def test_equal_input_gives_equal_bytes(make, media):
    path = make.write(media / "same.mp4", make.Video(), make.Audio())
    one, other = (transcode(stretch_of(path), FAST).content for _ in range(2))
    assert one == other


def test_a_film_without_a_picture_at_that_time_is_refused(make, media):
    path = media / "gone.mp4"
    path.write_bytes(make.write(media / "short.mp4", make.Video()).read_bytes()[:3000])
    with pytest.raises(MediaError):
        transcode(Stretch(path=str(path), video=(0.0, 1.0), fps=20.0), FAST)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=30),
    st.sampled_from([4.0, 10.0, 16.0]),
    st.integers(1, 40),
)
@settings(max_examples=80)
def test_resampling_shows_the_last_frame_begun(gaps, fps, count):
    begins = np.cumsum([0, *gaps]) / 30
    found = list(
        _resampled(iter(list(zip(begins, range(len(begins)), strict=True))), fps, count, 1e-3)
    )
    times = np.arange(count) / fps
    expected = np.searchsorted(begins, times + 1e-3, "right") - 1
    assert [number for _, number in found] == expected.tolist()
    np.testing.assert_allclose([time for time, _ in found], times)
