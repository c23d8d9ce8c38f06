import re
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from earsight.corpus.discover import EXTENSIONS
from earsight.media import probe as probe_module
from earsight.media.decode import decode
from earsight.media.probe import probe
from earsight.media.types import (
    CUT_SHORT,
    AudioRequest,
    ClipRequest,
    Limits,
    MediaError,
    VideoRequest,
)

IRREGULAR = tuple(int(t) for t in np.cumsum([1, 1, 5, 2, 1, 9, 1, 1, 3, 2] * 4) - 1)

# Of each real video: frames, width, height, rotation, seconds of video and of audio.
REAL: dict[str, tuple[int, int, int, int, float, float]] = {
    "action_demo.mp4": (280, 340, 256, 0, 10.0, 0.0),
    "audioset_sample.mp4": (125, 256, 144, 0, 10.0, 10.0),
    "dog.mp4": (150, 256, 256, 0, 5.0, 0.0),
    "flipping_a_pancake.mkv": (310, 426, 240, 0, 10.333, 10.374),
    "h265_video.mp4": (10, 128, 128, 0, 1.0, 0.0),
    "loader_340x256.mp4": (390, 340, 256, 0, 13.013, 13.056),
    "music_1.mp4": (1, 256, 230, 0, 0.04, 3.0),
    "music_2.mp4": (1, 256, 230, 0, 0.04, 3.0),
    "music_3.mp4": (1, 256, 230, 0, 0.04, 3.0),
    "nasa_13013.mp4": (390, 480, 270, 0, 13.013, 13.056),
    "nasa_13013_rotated.mp4": (17, 270, 480, 90, 0.567, 0.0),
    "vggsound_sample.mp4": (299, 1280, 720, 0, 9.977, 10.008),
}


@pytest.mark.parametrize("name", list(REAL))
def test_real_videos(real: Path, name: str, request: pytest.FixtureRequest) -> None:
    if name.endswith("mkv"):
        request.getfixturevalue("exact_matroska")
    frames, width, height, rotation, seconds, heard = REAL[name]
    info = probe(real / name)
    assert info.video is not None
    video = info.video
    assert (video.frames, video.width, video.height) == (frames, width, height)
    assert video.rotation == rotation
    assert video.duration == pytest.approx(seconds, abs=0.001)
    assert video.start == pytest.approx(0, abs=1e-6)
    assert frames == 1 or video.fps == pytest.approx(frames / seconds, rel=0.02)
    assert (info.audio is not None) == (heard > 0)
    if info.audio is not None:
        assert info.audio.duration == pytest.approx(heard, abs=0.001)
    assert info.duration == pytest.approx(max(seconds, heard), abs=0.001)


def test_every_real_video_is_covered(real: Path) -> None:
    assert {path.name for path in real.iterdir() if path.suffix in (".mp4", ".mkv")} == set(REAL)


def test_the_chosen_streams_are_noted(real: Path) -> None:
    info = probe(real / "nasa_13013.mp4")
    assert (info.video_streams, info.audio_streams) == (2, 2)
    assert info.video is not None
    assert info.audio is not None
    # Both are marked as default; the larger picture wins.
    assert (info.video.stream, info.audio.stream) == (3, 4)
    assert info.notes == (
        "stream 3 chosen of 2 video streams",
        "stream 4 chosen of 2 audio streams",
    )
    assert probe(real / "loader_340x256.mp4").notes == ()


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi", "mov", "flv"])
def test_facts_of_a_written_file(make: Any, media: Path, suffix: str) -> None:
    path = make.write(
        media / f"facts.{suffix}",
        make.Video(ticks=range(45), gop=15, b_frames=0 if suffix == "avi" else 2),
        make.Audio(seconds=2.0, rate=44100, channels=2),
    )
    info = probe(path)
    assert info.video is not None
    assert info.audio is not None
    assert (info.video.codec, info.audio.codec) == ("h264", "aac")
    assert (info.video.width, info.video.height) == (128, 96)
    assert info.video.pixel_format == "yuv420p"
    assert info.video.frames == 45
    assert info.video.fps == pytest.approx(20, rel=0.001)
    assert info.video.duration == pytest.approx(2.25, abs=0.01)
    keyframes = np.array(info.video.keyframes) - info.video.start
    np.testing.assert_allclose(keyframes, [0.0, 0.75, 1.5], atol=2e-3)
    assert (info.audio.rate, info.audio.channels) == (44100, 2)
    assert info.audio.duration == pytest.approx(2.0, abs=0.05)
    assert (info.video_streams, info.audio_streams) == (1, 1)


@pytest.mark.usefixtures("exact_matroska")
def test_times_count_from_the_earliest_start(make: Any, media: Path) -> None:
    path = make.write(
        media / "starts.mkv",
        make.Video(ticks=range(60, 100)),
        make.Audio(seconds=2.0, start=3.25),
    )
    info = probe(path)
    assert info.video is not None
    assert info.audio is not None
    assert info.video.start == pytest.approx(0, abs=1e-3)
    assert info.audio.start == pytest.approx(0.25, abs=0.025)
    assert info.duration == pytest.approx(2.25, abs=0.05)
    request = ClipRequest(
        path=str(path),
        video=(VideoRequest(start=info.video.start, fps=20, frames=2, size=(48, 64)),),
        audio=(AudioRequest(start=0, duration=2.0, rate=24000),),
    )
    clip = decode(request)
    assert [make.number_of(image) for image in clip.video[0]] == [0, 1]
    loud = np.flatnonzero(np.abs(clip.audio[0]) > 0.05)
    assert loud[0] / 24000 == pytest.approx(0.25, abs=0.025)


def test_variable_rates(make: Any, media: Path) -> None:
    path = make.write(
        media / "variable.mp4", make.Video(ticks=IRREGULAR, tick=Fraction(1, 30), b_frames=2)
    )
    info = probe(path)
    assert info.video is not None
    assert info.video.frames == 40
    span = IRREGULAR[-1] / 30
    assert info.video.duration == pytest.approx(span, abs=0.15)
    assert info.video.fps == pytest.approx(40 / info.video.duration, rel=0.02)


def test_a_still_picture_with_sound(make: Any, media: Path) -> None:
    info = probe(make.write(media / "still.mp4", make.Video(ticks=[0]), make.Audio(seconds=3)))
    assert info.video is not None
    assert info.video.frames == 1
    assert info.video.keyframes == (0.0,)
    assert info.duration == pytest.approx(3, abs=0.05)


def test_sound_alone_and_pictures_alone(make: Any, media: Path) -> None:
    heard = probe(make.write(media / "heard.wav", make.Audio(codec="pcm_s16le")))
    assert heard.video is None
    assert heard.audio is not None
    assert heard.audio.duration == pytest.approx(2.0)
    seen = probe(make.write(media / "seen.mp4", make.Video()))
    assert seen.audio is None
    assert seen.video is not None


def test_attached_pictures_are_no_video(make: Any, media: Path) -> None:
    path = media / "cover.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic.value
        sound = container.add_stream("aac", rate=24000)
        sound.codec_context.layout = "mono"
        frame = av.VideoFrame.from_ndarray(make.picture(1, 64, 64), format="rgb24")
        picture = list(cover.encode(frame.reformat(format="yuvj420p"))) + list(cover.encode(None))
        samples = av.AudioFrame.from_ndarray(make.sound(1.0, 24000), "fltp", "mono")
        samples.sample_rate = 24000
        for packet in picture + list(sound.encode(samples)) + list(sound.encode(None)):
            container.mux(packet)
    info = probe(path)
    assert info.video is None
    assert info.video_streams == 0
    assert info.audio is not None


def test_the_default_stream_is_taken(make: Any, media: Path) -> None:
    plain = make.write(media / "unmarked.mkv", make.Video(), make.Video(first=100, size=(256, 192)))
    path = media / "marked.mkv"
    with av.open(str(plain)) as source, av.open(str(path), "w") as copy:
        streams = {s.index: copy.add_stream_from_template(s) for s in source.streams.video}
        streams[0].disposition = av.stream.Disposition.default.value
        streams[1].disposition = 0
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                copy.mux(packet)
    info = probe(path)
    assert info.video is not None
    assert (info.video.stream, info.video.width) == (0, 128)
    assert info.notes == ("stream 0 chosen of 2 video streams",)


@pytest.mark.parametrize(
    "name", ["loader_340x256.mp4", "nasa_13013.mp4", "audioset_sample.mp4", "action_demo.mp4"]
)
def test_the_index_of_large_files_tells_the_same(
    real: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(av.stream, "Discard"):
        pytest.skip("this PyAV does not show the index")
    slow = probe(real / name)
    monkeypatch.setattr(probe_module, "_LARGE", 0)
    counted: list[int] = []
    original = probe_module._count_index

    def counting(tally: Any, stream: Any) -> None:
        counted.append(stream.index)
        original(tally, stream)

    monkeypatch.setattr(probe_module, "_count_index", counting)
    fast = probe(real / name)
    assert counted
    assert fast.video is not None
    assert slow.video is not None
    assert abs(fast.video.frames - slow.video.frames) <= 2
    assert fast.video.duration == pytest.approx(slow.video.duration, abs=0.1)
    assert fast.duration == pytest.approx(slow.duration, abs=0.1)
    assert fast.video.fps == pytest.approx(slow.video.fps, rel=0.02)
    assert len(fast.video.keyframes) == len(slow.video.keyframes)
    np.testing.assert_allclose(fast.video.keyframes, slow.video.keyframes, atol=0.15)


def test_a_stream_without_a_decodable_frame(make: Any, media: Path) -> None:
    path = make.write(media / "undecodable.mp4", make.Video(), make.Audio())
    with av.open(str(path)) as container:
        spans = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size in spans:
        data[position : position + size] = bytes(size)
    path.write_bytes(bytes(data))
    with pytest.raises(MediaError, match="video stream of which no frame can be decoded"):
        probe(path)


def test_limits_apply_to_decoded_pictures(make: Any, media: Path) -> None:
    path = make.write(media / "limits.mp4", make.Video())
    with pytest.raises(MediaError, match="12287"):
        probe(path, Limits(pixels=12287))
    assert probe(path, Limits(pixels=12288)).video is not None


def test_limits_apply_to_what_the_packets_tell(make: Any, media: Path) -> None:
    # A live recording has no length in its header; its last packet jumps far ahead.
    jump = make.Video(ticks=(*range(39), 20 * 10**9), codec="ffv1")
    path = make.write(media / "jump.mkv", jump, options={"live": "1"})
    with pytest.raises(MediaError, match=r"^lasts 1000000000 s, longer than the limit of 86400 s"):
        probe(path)


@pytest.mark.parametrize("suffix", ["wav", "ts", "mkv"])
def test_what_is_left_of_a_stream_that_breaks_off(make: Any, media: Path, suffix: str) -> None:
    sound = make.Audio(seconds=4.0, codec="pcm_s16le" if suffix == "wav" else "aac")
    path = make.write(media / f"cut.{suffix}", sound)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    assert probe(path).duration == pytest.approx(3.0, abs=0.25)


@pytest.mark.parametrize(
    ("written", "named", "codec"),
    [
        ("avi", "divx", "mpeg4"),
        ("m2v", "m2v", "mpeg2video"),
        ("mp4", "mpeg4", "libx264"),
        ("m4a", "m4b", "aac"),
        ("ogg", "ogm", "libopus"),
    ],
)
def test_rarer_extensions(make: Any, media: Path, written: str, named: str, codec: str) -> None:
    sound = codec in ("aac", "libopus")
    stream = make.Audio(codec=codec, rate=48000) if sound else make.Video(codec=codec)
    path = make.write(media / f"rare.{written}", stream).rename(media / f"rare-{codec}.{named}")
    assert named in EXTENSIONS
    info = probe(path)
    assert info.notes == ()
    assert info.duration == pytest.approx(2, abs=0.15)


def shortened(path: Path, share: float) -> Path:
    """The file with so much of its bytes, beside it."""
    data = path.read_bytes()
    cut = path.with_name(f"{path.stem}-cut{path.suffix}")
    cut.write_bytes(data[: round(len(data) * share)])
    return cut


@pytest.mark.parametrize("suffix", ["mkv", "webm", "avi", "flv"])
def test_files_that_end_before_their_header_says_are_noted(
    make: Any, media: Path, suffix: str
) -> None:
    codecs = ("libvpx", "libopus") if suffix == "webm" else ("libx264", "aac")
    path = make.write(
        media / f"long.{suffix}",
        make.Video(ticks=range(200), codec=codecs[0]),
        make.Audio(seconds=10.0, rate=48000, codec=codecs[1]),
    )
    assert probe(path).notes == ()
    cut = probe(shortened(path, 0.4))
    assert len(cut.notes) == 1
    assert re.fullmatch(
        r"is cut short: its header says 10\.[01] s, it holds [34]\.\d s", cut.notes[0]
    )
    assert cut.duration == pytest.approx(4, abs=0.5)


def test_real_videos_are_whole_until_they_are_cut(real: Path, tmp_path: Path) -> None:
    for path in real.iterdir():
        assert not any(CUT_SHORT in note for note in probe(path).notes)
    copy = Path(shutil.copy(real / "flipping_a_pancake.mkv", tmp_path / "a.mkv"))
    assert probe(shortened(copy, 0.5)).notes[0].startswith(CUT_SHORT)


@pytest.mark.parametrize("codec", ["pcm_s16le", "libmp3lame", "aac"])
def test_a_live_recording_tells_no_length_that_could_be_missed(
    make: Any, media: Path, codec: str
) -> None:
    sound = make.Audio(seconds=10.0, codec=codec)
    path = make.write(media / f"live-{codec}.mkv", sound, options={"live": "1"})
    assert probe(path).notes == ()
    assert probe(shortened(path, 0.4)).notes == ()


def test_a_stream_that_is_not_chosen_may_be_the_longest(make: Any, media: Path) -> None:
    pictures = (make.Video(), make.Video(ticks=range(300), first=7, size=(64, 48)))
    path = make.write(media / "uneven.mkv", *pictures)
    info = probe(path)
    assert info.duration == pytest.approx(2, abs=0.1)
    assert info.notes == ("stream 0 chosen of 2 video streams",)


@pytest.mark.usefixtures("exact_matroska")
def test_a_file_that_starts_late_is_whole(make: Any, media: Path) -> None:
    late = make.Video(ticks=range(400, 440))
    assert probe(make.write(media / "late.mkv", late)).notes == ()


def test_an_avi_may_end_in_frames_without_bytes(make: Any, media: Path) -> None:
    path = make.write(media / "still-end.avi", make.Video(ticks=(*range(20), 199)))
    data = path.read_bytes()
    last = data.rindex(b"00dc", 0, data.rindex(b"idx1"))
    size = (last - 8).to_bytes(4, "little")
    path.write_bytes(data[:4] + size + data[8:last])
    assert probe(path).notes == ()
    path.write_bytes(data[:last])
    assert probe(path).notes[0].startswith(CUT_SHORT)


def test_moved_files_tell_the_same(make: Any, media: Path, tmp_path: Path) -> None:
    path = make.write(media / "moved.mp4", make.Video(), make.Audio())
    copy = Path(shutil.copy(path, tmp_path / "other.bin"))
    assert probe(copy) == probe(path)
