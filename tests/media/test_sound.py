from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from earsight.media import session as session_module
from earsight.media.decode import decode
from earsight.media.sound import native_span, resample, to_mono
from earsight.media.types import AudioRequest, ClipRequest, Limits, MediaError, VideoRequest

# PNS fills bands with noise of the decoder's own making, which no seek can reproduce.
AAC = {"aac_pns": "0", "b": "96000"}


def heard(path: Path, start: float, duration: float, rate: int) -> NDArray[np.float32]:
    request = AudioRequest(start=start, duration=duration, rate=rate)
    return decode(ClipRequest(path=str(path), audio=(request,))).audio[0]


@pytest.fixture(scope="module", params=["sound.wav", "sound.flac", "sound.mkv", "sound.mov"])
def exact(request: Any, make: Any, media: Path) -> tuple[Path, NDArray[np.float32]]:
    """A file without loss, and its samples."""
    codec = "flac" if request.param.endswith("flac") else "pcm_s16le"
    samples = make.sound(2.0, 24000)
    path = make.write(media / request.param, make.Audio(codec=codec, samples=samples))
    return path, samples[0]


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(start=st.floats(-0.5, 2.2), duration=st.sampled_from([0.2, 1.0]))
@example(start=0.2499170628799272, duration=0.2)
@example(start=0.5832562435406226, duration=0.2)
def test_samples_are_those_of_the_wanted_time(
    exact: tuple[Path, NDArray[np.float32]], start: float, duration: float
) -> None:
    path, samples = exact
    first, count = round(start * 24000), round(duration * 24000)
    expected = [samples[i] if 0 <= i < len(samples) else 0.0 for i in range(first, first + count)]
    np.testing.assert_allclose(heard(path, start, duration, 24000), expected, atol=1e-4)


LOSSY: dict[str, dict[str, Any]] = {
    "aac.mp4": {"options": AAC},
    "aac-44100.mp4": {"rate": 44100, "options": AAC},
    "aac.mkv": {"rate": 44100, "options": AAC},
    "aac.ts": {"rate": 44100, "options": AAC},
    "stereo.mp4": {"channels": 2, "options": AAC},
    "opus.mkv": {"codec": "libopus", "rate": 48000},
    "opus.webm": {"codec": "libopus", "rate": 48000},
    "mp3.mp3": {"codec": "libmp3lame", "rate": 24000},
    "vorbis.ogg": {"codec": "vorbis", "rate": 44100, "channels": 2, "options": {"strict": "-2"}},
}


@pytest.fixture(scope="module", params=list(LOSSY))
def lossy(request: Any, make: Any, media: Path) -> tuple[Path, int]:
    if request.param.endswith(("mkv", "webm")):
        request.getfixturevalue("exact_matroska")
    settings_of: dict[str, Any] = {"rate": 24000, **LOSSY[request.param]}
    path = make.write(media / request.param, make.Audio(seconds=4.0, **settings_of))
    return path, settings_of["rate"]


def test_seeking_gives_what_decoding_from_the_beginning_gives(lossy: tuple[Path, int]) -> None:
    path, rate = lossy
    whole = heard(path, 0.0, 4.0, rate)
    for start in (0.1, 0.93, 1.5, 2.71, 3.3):
        part = heard(path, start, 0.5, rate)
        first = round(start * rate)
        np.testing.assert_allclose(part, whole[first : first + len(part)], atol=1e-3)
    assert whole.std() > 0.05


def test_sound_is_where_it_was_put(make: Any, lossy: tuple[Path, int]) -> None:
    """The clicks and tones of the original, found at their places to within a millisecond."""
    path, rate = lossy
    channels = LOSSY[path.name].get("channels", 1)
    original = make.sound(4.0, rate, channels).mean(0)
    part = heard(path, 1.0, 1.0, rate)
    # Encoders delay the sound by up to two blocks where the container cannot say so.
    reach = rate // 10 if path.suffix in (".ts", ".mp3") else rate // 500
    start = rate - reach
    lags = [
        float(np.dot(part, original[start + lag : start + lag + len(part)]))
        for lag in range(2 * reach)
    ]
    best = int(np.argmax(lags))
    similar = lags[best] / np.dot(part, part)
    assert similar == pytest.approx(1, abs=0.2)
    if path.suffix not in (".ts", ".mp3"):
        assert abs(best - reach) <= rate // 1000


def test_silence_before_a_late_stream_and_after_its_end(make: Any, media: Path) -> None:
    path = make.write(
        media / "both.mp4",
        make.Video(ticks=range(80)),
        make.Audio(seconds=1.0, start=1.0, options=AAC),
    )
    whole = heard(path, 0.0, 4.0, 24000)
    assert np.abs(whole[: round(0.95 * 24000)]).max() < 1e-3
    assert np.abs(whole[round(1.05 * 24000) : round(1.95 * 24000)]).max() > 0.2
    assert np.abs(whole[round(2.1 * 24000) :]).max() < 1e-3
    assert not heard(path, 2.5, 1.0, 24000).any()
    assert not heard(path, 100.0, 1.0, 24000).any()


@pytest.mark.parametrize(("rate", "wanted"), [(44100, 24000), (16000, 24000), (48000, 16000)])
def test_other_rates_keep_time_and_shape(media: Path, make: Any, rate: int, wanted: int) -> None:
    t = np.arange(2 * rate) / rate
    tone = (0.5 * np.sin(2 * np.pi * 440 * t))[None].astype(np.float32)
    path = make.write(media / f"{rate}.wav", make.Audio(codec="pcm_s16le", rate=rate, samples=tone))
    for start in (0.3, 0.7131):
        got = heard(path, start, 1.0, wanted)
        assert len(got) == wanted
        # Rounded to whole samples of the file and of the request.
        shifts = np.linspace(-1, 1, 81) / wanted
        times = start + np.arange(wanted) / wanted
        errors = [
            np.abs(got - 0.5 * np.sin(2 * np.pi * 440 * (times + shift))).max() for shift in shifts
        ]
        assert min(errors) < 1e-3
        assert abs(shifts[int(np.argmin(errors))]) <= 0.51 / wanted


def test_resampling_does_not_depend_on_where_reading_began(make: Any, media: Path) -> None:
    path = make.write(media / "long.mp4", make.Audio(seconds=5.0, rate=44100, options=AAC))
    whole = heard(path, 0.5, 4.0, 24000)
    part = heard(path, 3.0, 1.0, 24000)
    # 2.5 s are whole samples of both rates.
    np.testing.assert_allclose(part, whole[60000 : 60000 + 24000], atol=1e-3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_sound_alone_of_a_file_with_pictures(make: Any, media: Path, suffix: str) -> None:
    path = make.write(
        media / f"with-pictures.{suffix}",
        make.Video(ticks=range(120), gop=30, b_frames=2),
        make.Audio(seconds=6.0, options=AAC),
    )
    whole = heard(path, 0.0, 6.0, 24000)
    for start in (0.7, 2.6, 4.0, 5.2):
        first = round(start * 24000)
        part = heard(path, start, 0.5, 24000)
        np.testing.assert_allclose(part, whole[first : first + 12000], atol=1e-3)


def test_files_that_cannot_be_searched_are_read_from_the_beginning(
    make: Any, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make.write(media / "unsearchable.mp4", make.Audio(seconds=4.0, options=AAC))
    requests = tuple(AudioRequest(start=s, duration=0.5, rate=24000) for s in (3.0, 0.5))
    searched = decode(ClipRequest(path=str(path), audio=requests)).audio
    original = session_module.PacketReader._seek

    def failing(self: Any, video: Any, audio: Any, back: float) -> bool | None:
        return None if self._searching else original(self, video, audio, back)

    monkeypatch.setattr(session_module.PacketReader, "_seek", failing)
    read = decode(ClipRequest(path=str(path), audio=requests)).audio
    for got, expected in zip(read, searched, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-3)


def test_several_requests_share_a_pass(make: Any, media: Path) -> None:
    path = make.write(media / "shared.mp4", make.Audio(seconds=4.0, options=AAC))
    spans = [(2.0, 0.5, 24000), (1.9, 1.0, 16000), (0.0, 0.3, 24000), (3.9, 0.5, 24000)]
    requests = tuple(AudioRequest(start=s, duration=d, rate=r) for s, d, r in spans)
    together = decode(ClipRequest(path=str(path), audio=requests)).audio
    for (start, duration, rate), got in zip(spans, together, strict=True):
        np.testing.assert_allclose(got, heard(path, start, duration, rate), atol=1e-6)


def test_pictures_and_sound_are_aligned(make: Any, media: Path) -> None:
    path = make.write(
        media / "aligned.mp4", make.Video(ticks=range(80), b_frames=2), make.Audio(seconds=4.0)
    )
    clip = decode(
        ClipRequest(
            path=str(path),
            video=(VideoRequest(start=2.0, fps=20, frames=4, size=(48, 64)),),
            audio=(AudioRequest(start=1.5, duration=2.0, rate=24000),),
        )
    )
    assert [make.number_of(image) for image in clip.video[0]] == [40, 41, 42, 43]
    np.testing.assert_allclose(clip.audio[0], heard(path, 1.5, 2.0, 24000), atol=1e-6)


@pytest.mark.parametrize("name", ["aac.mp4", "aac-44100.mp4", "stereo.mp4"])
def test_opening_without_probing_changes_nothing(
    make: Any, media: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = media / f"probing-{name}"
    make.write(path, make.Video(), make.Audio(seconds=3.0, **LOSSY[name]))
    quick = heard(path, 0.8, 1.0, 16000)
    monkeypatch.setattr(session_module, "_TOLD_BY_HEADER", frozenset())
    np.testing.assert_array_equal(quick, heard(path, 0.8, 1.0, 16000))


@pytest.mark.parametrize(
    ("name", "scale"),
    [("u8", 128), ("s16", 2**15), ("s16p", 2**15), ("s32", 2**31), ("fltp", 1), ("dblp", 1)],
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_mono_is_the_mean_over_channels(name: str, scale: int, channels: int) -> None:
    values = np.linspace(-0.9, 0.9, 12 * channels).reshape(12, channels)
    stored = values * scale + (128 if name == "u8" else 0)
    dtype = {"u8": "u1", "s16": "i2", "s32": "i4", "flt": "f4", "dbl": "f8"}[name.rstrip("p")]
    coded = np.round(stored).astype(dtype) if scale > 1 else stored.astype(dtype)
    planes = list(coded.T) if name.endswith("p") else [coded.reshape(-1)]
    got = to_mono(planes, name, channels)
    expected = [sum(row) / channels for row in values.tolist()]
    np.testing.assert_allclose(got, expected, atol=1 / 128 if name == "u8" else 1e-4)


def test_unknown_samples_are_refused() -> None:
    with pytest.raises(MediaError, match="unknown kind"):
        to_mono([np.zeros(4)], "dsd", 1)


def test_resampling_keeps_the_first_sample_in_place() -> None:
    t = np.arange(44100) / 44100
    got = resample(np.sin(2 * np.pi * 300 * t).astype(np.float32), 44100, 24000)
    expected = np.sin(2 * np.pi * 300 * np.arange(24000) / 24000)
    np.testing.assert_allclose(got[100:-100], expected[100:-100], atol=1e-4)


def test_native_spans_cover_the_request() -> None:
    request = AudioRequest(start=0.5, duration=1.0, rate=24000)
    assert native_span(request, 24000, 0.25) == (18000, 42000)
    first, last = native_span(request, 48000, 0.0)
    assert first <= 24000 - 32
    assert last >= 72000 + 32


def test_damaged_sound_is_not_taken_for_silence(make: Any, media: Path) -> None:
    path = make.write(media / "damaged.mp4", make.Audio(seconds=3.0, options=AAC))
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(audio=0) if p.size]
        spans = [(p.pos, p.size) for p in packets]
    data = bytearray(path.read_bytes())
    for position, size in spans:
        data[position : position + size] = b"\xff" * size
    path.write_bytes(bytes(data))
    with pytest.raises(MediaError):
        heard(path, 1.0, 1.0, 24000)


def test_a_deadline_stops_reading(make: Any, media: Path) -> None:
    path = make.write(media / "slow.mp4", make.Video(), make.Audio())
    request = ClipRequest(
        path=str(path),
        video=(VideoRequest(start=0, fps=10, frames=4),),
        audio=(AudioRequest(start=0, duration=1, rate=24000),),
    )
    with pytest.raises(MediaError, match="longer to read than the limit of 1e-06 s"):
        decode(request, Limits(seconds=1e-6))
    assert decode(request, Limits(seconds=60)).audio[0].any()


@pytest.mark.usefixtures("exact_matroska")
def test_blocks_that_do_not_fall_on_whole_milliseconds(make: Any, media: Path) -> None:
    path = make.write(media / "jitter.mkv", make.Audio(seconds=6.0, rate=44100, options=AAC))
    with av.open(str(path)) as container:
        assert container.streams.audio[0].time_base == Fraction(1, 1000)
    whole = heard(path, 0.0, 6.0, 44100)
    for start in np.linspace(0.5, 5.0, 12):
        part = heard(path, float(start), 0.2, 44100)
        first = round(float(start) * 44100)
        np.testing.assert_allclose(part, whole[first : first + len(part)], atol=1e-3)
