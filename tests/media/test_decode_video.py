from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earsight.media import decode as decode_module
from earsight.media import frames as frames_module
from earsight.media import session as session_module
from earsight.media.decode import decode
from earsight.media.types import ClipRequest, MediaError, VideoRequest

IRREGULAR = tuple(int(t) for t in np.cumsum([1, 1, 5, 2, 1, 9, 1, 1, 3, 2] * 4) - 1)

VARIANTS: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "b-frames.mp4": {"b_frames": 3},
    "open-gop.mp4": {"b_frames": 3, "options": {"x264-params": "open-gop=1:scenecut=0"}},
    "later-start.mp4": {"ticks": range(30, 70), "b_frames": 2},
    "fragments.mp4": {"b_frames": 2},
    "later-start.mkv": {"ticks": range(30, 70), "b_frames": 2},
    "variable.mp4": {"ticks": IRREGULAR, "tick": Fraction(1, 30), "b_frames": 2},
    "variable.mkv": {"ticks": IRREGULAR, "tick": Fraction(1, 30), "b_frames": 2},
    "transport.ts": {"b_frames": 2},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"qscale": "2"}, "b_frames": 2},
    "hevc.mp4": {"codec": "libx265", "b_frames": 3},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "flash.flv": {"b_frames": 2},
}


@pytest.fixture(scope="module", params=list(VARIANTS))
def numbered(request: Any, make: Any, media: Path) -> tuple[Path, list[float]]:
    """A file, and the times of its frames from the file's zero."""
    path = media / request.param
    options = {"movflags": "frag_keyframe+empty_moov"} if "fragments" in path.name else None
    make.write(path, make.Video(**VARIANTS[request.param]), options=options)
    return path, [time for time, _ in make.every_frame(path)]


def shown(times: list[float], wanted: list[float]) -> list[int]:
    """The definition: the last frame whose time is at most the wanted one, else the first."""
    return [max([i for i, time in enumerate(times) if time <= t + 1e-3], default=0) for t in wanted]


def numbers(make: Any, path: Path, start: float, fps: float, frames: int) -> list[int]:
    request = VideoRequest(start=start, fps=fps, frames=frames, size=(48, 64))
    clip = decode(ClipRequest(path=str(path), video=(request,)))
    return [make.number_of(image) for image in clip.video[0]]


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(start=st.floats(-0.2, 2.5), fps=st.sampled_from([4.0, 10.0, 16.0, 20.0, 45.0]))
def test_frames_are_those_shown_at_the_wanted_times(
    make: Any, numbered: tuple[Path, list[float]], start: float, fps: float
) -> None:
    path, times = numbered
    wanted = [start + i / fps for i in range(6)]
    # A time within a tick of a frame's own may fall on either side.
    if min(abs(t - time) for t in wanted for time in times) < 3e-3:
        return
    assert numbers(make, path, start, fps, 6) == shown(times, wanted)


def test_the_frame_at_exactly_its_own_time(make: Any, numbered: tuple[Path, list[float]]) -> None:
    path, times = numbered
    for i in (0, 1, 11, 12, 13, 39):
        assert numbers(make, path, times[i], 1.0, 1) == [i]


def test_the_last_frame_is_repeated_past_the_end(
    make: Any, numbered: tuple[Path, list[float]]
) -> None:
    path, times = numbered
    assert numbers(make, path, times[-1] + 50, 10, 3) == [39] * 3
    assert numbers(make, path, times[-2], 1 / (times[-1] - times[-2]), 4) == [38, 39, 39, 39]


@pytest.mark.parametrize("name", ["b-frames.mp4", "open-gop.mp4", "hevc.mp4"])
def test_leaving_out_unwanted_frames_changes_no_pixel(
    make: Any, media: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = media / f"exact-{name}"
    make.write(path, make.Video(**VARIANTS[name]))
    requests = [
        ClipRequest(
            path=str(path),
            video=(VideoRequest(start=start, fps=6.7, frames=6, size=(96, 128)),),
        )
        for start in (0.0, 0.33, 0.61, 0.97)
    ]
    skipping = [decode(request).video[0] for request in requests]
    monkeypatch.setattr(frames_module, "_NONREF_EXACT", frozenset())
    for request, lean in zip(requests, skipping, strict=True):
        np.testing.assert_array_equal(lean, decode(request).video[0])


def test_frames_are_in_fact_left_out(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, the test above would say nothing."""
    counted: dict[str, int] = {}
    original = frames_module._frames

    def counting(stream: Any, packets: Any, wanted: Any, deadline: Any) -> Any:
        counted["packets"], counted["frames"] = len(packets), 0
        for frame in original(stream, packets, wanted, deadline):
            counted["frames"] += 1
            yield frame

    monkeypatch.setattr(frames_module, "_frames", counting)
    request = VideoRequest(start=1.3, fps=2.0, frames=3)
    decode(ClipRequest(path=str(real / "loader_340x256.mp4"), video=(request,)))
    assert counted["frames"] < 0.8 * counted["packets"]


@pytest.mark.parametrize("name", ["plain.mp4", "b-frames.mp4", "variable.mp4", "later-start.mp4"])
def test_opening_without_probing_changes_nothing(
    make: Any, media: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = media / f"probing-{name}"
    make.write(path, make.Video(**VARIANTS[name]), make.Audio(start=0.25))
    request = ClipRequest(
        path=str(path), video=(VideoRequest(start=0.4, fps=9.0, frames=8, size=(96, 128)),)
    )
    quick = decode(request)
    monkeypatch.setattr(session_module, "_TOLD_BY_HEADER", frozenset())
    np.testing.assert_array_equal(quick.video[0], decode(request).video[0])


class Bits:
    """Reads H.264's parameter sets bit by bit."""

    def __init__(self, data: bytes) -> None:
        self.bits = "".join(f"{byte:08b}" for byte in data)
        self.at = 0

    def skip(self, count: int) -> int:
        self.at += count
        return int(self.bits[self.at - count : self.at], 2)

    def golomb(self) -> int:
        zeros = self.bits.index("1", self.at) - self.at
        return self.skip(2 * zeros + 1) - 1


def without_usability(sps: bytes) -> bytes:
    """A sequence parameter set of x264 (High or Main profile) without what follows its VUI flag."""
    bits = Bits(sps)
    bits.skip(8)
    profile = bits.skip(8)
    bits.skip(16)
    bits.golomb()
    if profile == 100:
        for _ in range(3):
            bits.golomb()
        bits.skip(2)
    bits.golomb()
    if bits.golomb() == 0:
        bits.golomb()
    bits.golomb()
    bits.skip(1)
    bits.golomb()
    bits.golomb()
    assert bits.skip(1)
    bits.skip(1)
    if bits.skip(1):
        for _ in range(4):
            bits.golomb()
    kept = bits.bits[: bits.at] + "01"
    assert bits.bits[bits.at] == "1"
    kept += "0" * (8 * len(sps) - len(kept))
    return int(kept, 2).to_bytes(len(sps), "big")


def test_order_not_told_by_the_header_is_found_by_probing(
    make: Any, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A fragmented file: elsewhere the demuxer works the order out from its table of times.
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    path = make.write(media / "untold.mp4", make.Video(b_frames=2), options=fragments)
    data = path.read_bytes()
    at = data.index(b"avcC") + 10
    length = int.from_bytes(data[at : at + 2], "big")
    sps = data[at + 2 : at + 2 + length]
    assert b"\0\0\3" not in without_usability(sps)[:12]
    path.write_bytes(data.replace(sps, without_usability(sps)))
    probing: list[bool] = []
    original = decode_module._decode

    def spying(*args: Any, **kwargs: Any) -> Any:
        probing.append(args[-1].probing)
        return original(*args, **kwargs)

    monkeypatch.setattr(decode_module, "_decode", spying)
    for start in range(0, 36, 5):
        assert numbers(make, path, start / 20, 20.0, 4) == list(range(start, start + 4))
    assert probing == [False, True] * 8
    probing.clear()
    told = make.write(media / "told.mp4", make.Video())
    assert numbers(make, told, 0.5, 20.0, 1) == [10]
    assert probing == [False]


def test_several_requests_share_one_pass(
    make: Any, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make.write(media / "several.mp4", make.Video(ticks=range(200), b_frames=2))
    starts = [7.0, 0.5, 0.9, 0.52, 9.95]
    reads: list[Any] = []
    original = session_module.PacketReader.read

    def counting(self: Any, video: Any, audio: Any) -> Any:
        reads.append(video)
        return original(self, video, audio)

    monkeypatch.setattr(session_module.PacketReader, "read", counting)
    requests = tuple(VideoRequest(start=s, fps=10.0, frames=4, size=(48, 64)) for s in starts)
    clip = decode(ClipRequest(path=str(path), video=requests))
    found = [[make.number_of(image) for image in video] for video in clip.video]
    frames = [[min(round(s * 20) + 2 * i, 199) for i in range(4)] for s in (7.0, 0.5, 0.9)]
    assert found[:3] == frames
    assert found[3] == [10, 12, 14, 16]
    assert found[4] == [199] * 4
    # 0.5, 0.52 and 0.9 lie together; 7.0 and 9.95 are far from each other.
    assert len(reads) == 3


def test_a_single_frame_stands_for_all_times(make: Any, media: Path) -> None:
    path = make.write(media / "still.mp4", make.Video(ticks=[0]), make.Audio(seconds=3))
    assert numbers(make, path, 0.0, 16, 3) == [0, 0, 0]
    assert numbers(make, path, 2.4, 16, 3) == [0, 0, 0]


def test_streams_are_chosen_by_index(make: Any, media: Path) -> None:
    path = make.write(media / "two.mkv", make.Video(first=0), make.Video(first=100, size=(64, 64)))
    request = VideoRequest(start=0.5, fps=10, frames=1, size=(48, 64))
    for stream, number in ((0, 10), (1, 110)):
        clip = decode(ClipRequest(path=str(path), video=(request,), video_stream=stream))
        assert make.number_of(clip.video[0][0]) == number
    with pytest.raises(MediaError, match="no such stream 7"):
        decode(ClipRequest(path=str(path), video=(request,), video_stream=7))


def test_size_that_changes_in_mid_stream(make: Any, media: Path) -> None:
    parts = [
        make.write(media / f"part{i}.ts", make.Video(size=size, first=20 * i, ticks=range(20)))
        for i, size in enumerate([(128, 96), (64, 96)])
    ]
    shifted = make.write(
        media / "part1.ts", make.Video(size=(64, 96), first=20, ticks=range(20, 40))
    )
    path = media / "changing.ts"
    path.write_bytes(parts[0].read_bytes() + shifted.read_bytes())
    assert numbers(make, path, 0.7, 10.0, 6) == [14, 16, 18, 20, 22, 24]


def test_a_missing_stream_is_named(make: Any, media: Path) -> None:
    silent = make.write(media / "silent.mp4", make.Video())
    from earsight.media.types import AudioRequest

    heard = AudioRequest(start=0, duration=1, rate=16000)
    with pytest.raises(MediaError, match="no sound"):
        decode(ClipRequest(path=str(silent), audio=(heard,)))
    blind = make.write(media / "blind.m4a", make.Audio())
    with pytest.raises(MediaError, match="no picture"):
        decode(ClipRequest(path=str(blind), video=(VideoRequest(start=0, fps=1, frames=1),)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames": 0},
        {"fps": 0.0},
        {"fps": float("inf")},
        {"start": float("nan")},
        {"size": (0, 4)},
        {"box": (0.5, 0.0, 0.5, 1.0)},
        {"box": (0.0, 0.0, 1.1, 1.0)},
    ],
)
def test_requests_without_sense_are_refused(wrong: dict[str, Any]) -> None:
    request = VideoRequest(**{"start": 0.0, "fps": 16.0, "frames": 2, **wrong})
    with pytest.raises(ValueError) as caught:
        decode(ClipRequest(path="never opened", video=(request,)))
    assert not isinstance(caught.value, MediaError)
