"""A run's encoders on files and arrays of any length."""

import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

import earsight
from earsight import api
from earsight.corpus.loose import loose_instances
from earsight.corpus.requests import window_starts
from earsight.media.decode import decode
from earsight.media.types import AudioRequest, ClipRequest, VideoRequest
from earsight.search.embed import Span, WindowEmbedder
from earsight.search.spaces import space_between


@pytest.fixture(scope="module")
def embedder(finished):
    return earsight.load(finished, device="cpu")


@pytest.fixture(scope="module")
def films(media):
    return sorted((media / "test").glob("*.mp4"))[:5]


def write_sound(path, seconds, rate=8000):
    wave = (np.sin(np.arange(round(seconds * rate)) / 5) * 8000).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], layout="mono")
        frame.rate, frame.time_base = rate, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("length", "seconds", "hop", "starts"),
    [
        (10.0, 2.0, 2.0, [0, 2, 4, 6, 8]),
        (9.0, 2.0, 2.0, [0, 2, 4, 6, 7]),
        (1.0, 2.0, 2.0, [0]),
        (3.0, 2.0, 0.5, [0, 0.5, 1]),
    ],
)
def test_windows_cover_a_stretch_to_its_end(length, seconds, hop, starts):
    assert window_starts(length, seconds, hop).tolist() == starts


def test_a_file_embeds_alike_in_any_company(embedder, films):
    together = embedder.embed_all(films)
    for film, found in zip(films, together, strict=True):
        alone = embedder.embed(film)
        assert set(alone.vectors) == {"video", "audio"}
        for name, x in alone.vectors.items():
            torch.testing.assert_close(x, found.vectors[name], atol=1e-5, rtol=0)
            torch.testing.assert_close(x.norm(dim=1), torch.ones(len(x)))


def test_a_long_file_is_cut_into_windows_and_its_mean_is_one(embedder, films):
    short = embedder.embed(films[0], window=0.5, hop=0.25)
    assert len(short) > 4
    assert np.allclose(np.diff(short.start)[:-1], 0.25)
    mean = short.mean()
    assert mean.vectors["video"].shape[0] == 1
    expected = torch.nn.functional.normalize(short.vectors["video"].mean(0), dim=0)
    torch.testing.assert_close(mean.vectors["video"][0], expected)


def test_workers_change_nothing(embedder, films):
    one, two = (embedder.embed_all(films, workers=n) for n in (0, 2))
    for first, second in zip(one, two, strict=True):
        assert all(torch.equal(x, second.vectors[name]) for name, x in first.vectors.items())


def test_arrays_embed_nearly_as_their_file(embedder, films):
    config = embedder.loaded.config
    fps, seconds = 16, 1.0
    pixels = decode(
        ClipRequest(
            path=str(films[0]),
            video=(VideoRequest(start=0.0, fps=fps, frames=48, size=(64, 64)),),
            audio=(AudioRequest(start=0.0, duration=3.0, rate=config.audio.rate),),
        )
    )
    by_file = embedder.embed(films[0], window=seconds)
    frames, sound = np.ascontiguousarray(pixels.video[0]), pixels.audio[0]
    seen = embedder.embed_video(frames, fps=fps, window=seconds)
    heard = embedder.embed_audio(sound, rate=config.audio.rate, window=seconds)
    tensors = embedder.embed_video(torch.from_numpy(frames), fps=fps, window=seconds)
    assert torch.equal(seen.vectors["video"], tensors.vectors["video"])
    alike = (seen.vectors["video"][0] * by_file.vectors["video"][0]).sum()
    assert alike > 0.98
    alike = (heard.vectors["audio"][0] * by_file.vectors["audio"][0]).sum()
    assert alike > 0.999


def test_sound_at_another_rate_is_resampled(embedder):
    rate = embedder.loaded.config.audio.rate
    time = np.arange(2 * 48000) / 48000
    high = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    low = np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate).astype(np.float32)
    found = embedder.embed_audio(np.stack([high, high]), rate=48000)
    expected = embedder.embed_audio(low, rate=rate)
    assert (found.vectors["audio"][0] * expected.vectors["audio"][0]).sum() > 0.99


def test_similarity_stays_within_the_spaces(embedder, films):
    one, two = embedder.embed_all(films[:2])
    found = embedder.similarity(one, two, "video-audio")
    assert found.shape == (len(one), len(two))
    assert float(embedder.similarity(one, one, "video-video").diagonal().min()) > 0.999
    with pytest.raises(ValueError, match="trains no space"):
        space_between(frozenset(), "video", "audio")
    momentum = frozenset({("video", "audio_key"), ("audio", "video_key")})
    asked = space_between(momentum, "audio", "video")
    assert (asked.query, asked.gallery) == ("audio", "video_key")


def test_files_with_one_modality(embedder, films, tmp_path):
    sound, blink = tmp_path / "sound.wav", tmp_path / "blink.wav"
    write_sound(sound, 3.0)
    write_sound(blink, 0.023)
    assert set(embedder.embed(sound).vectors) == {"audio"}
    assert len(embedder.embed_audio(blink)) == 1
    assert bool(embedder.embed_audio(blink).vectors["audio"].isfinite().all())
    with pytest.raises(ValueError, match="has no picture"):
        embedder.embed_video(sound)
    silent = tmp_path / "silent.mp4"
    with av.open(str(films[0])) as source, av.open(str(silent), "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    assert set(embedder.embed(silent).vectors) == {"video"}
    assert set(embedder.embed(silent, missing="silence").vectors) == {"video", "audio"}
    with pytest.raises(ValueError, match="has no sound"):
        embedder.embed(silent, missing="error")
    mixed = embedder.embed_all([films[0], silent, sound])
    assert [set(one.vectors) for one in mixed] == [{"video", "audio"}, {"video"}, {"audio"}]


def test_what_cannot_be_embedded_is_said(embedder, films, tmp_path):
    bad = tmp_path / "bad.mp4"
    shutil.copy(films[0], bad)
    bad.write_bytes(bad.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"bad\.mp4"):
        embedder.embed(bad)
    with pytest.raises(ValueError, match="fps: give"):
        embedder.embed_video(np.zeros((4, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="must be \\(T, H, W, 3\\) uint8"):
        embedder.embed_video(np.zeros((4, 8, 8), np.uint8), fps=4)
    with pytest.raises(ValueError, match="finite numbers"):
        embedder.embed_audio(np.full(8000, np.nan), rate=8000)
    with pytest.raises(ValueError, match="positive seconds"):
        embedder.embed(films[0], window=0.0)


def test_bare_encoders_give_features_and_blocks(embedder):
    config = embedder.loaded.config
    clips = torch.zeros(2, 3, config.video.frames, config.video.size, config.video.size)
    assert embedder.video(clips).shape[0] == 2
    assert len(embedder.video.forward_features(clips)) == 4


def test_a_supervised_run_embeds_by_its_features(corpus, small, tmp_path):
    plain = [s for s in small if not s.startswith(("method", "optimizer"))]
    own = ["method.label=shape", "method.modality=audio", f"data.corpus={corpus}"]
    config = api.configure("tiny-supervised", settings=[*plain, *own])
    api.pretrain(config, tmp_path / "run", quiet=True)
    embedder = api.load(tmp_path / "run", device="cpu")
    sound = tmp_path / "sound.wav"
    write_sound(sound, 2.0)
    found = embedder.embed(sound)
    assert set(found.vectors) == {"audio"}
    assert found.vectors["audio"].shape[1] == embedder.audio.dim
    with pytest.raises(ValueError, match="no video encoder"):
        _ = embedder.video


def write_long(path, minutes, fps=1, rate=8000):
    """A film whose picture brightens by the minute, with a tone that rises: small, and cheap."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=fps)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        for second in range(60 * minutes):
            grey = np.full((32, 48, 3), 20 * (second // 60), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            at = np.arange(rate) / rate
            wave = 16000 * np.sin(2 * np.pi * 100 * (1 + second // 60) * at)
            sound = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], "s16", "mono")
            sound.sample_rate, sound.pts = rate, second * rate
            container.mux(audio.encode(sound))
        for stream in (video, audio):
            container.mux(stream.encode(None))


def test_a_file_of_ten_minutes_is_embedded_to_its_end(embedder, tmp_path):
    write_long(tmp_path / "long.mkv", minutes=10)
    found = embedder.embed(tmp_path / "long.mkv", window=20.0)
    assert (set(found.vectors), len(found)) == ({"video", "audio"}, 30)
    assert found.start.tolist()[:2] == [0.0, 20.0]
    assert found.end[-1] == pytest.approx(600, abs=1)
    for name, x in found.vectors.items():
        assert bool(x.isfinite().all()), name
        # Windows of one minute are alike; those of others differ.
        assert float(x[0] @ x[1]) > float(x[0] @ x[-1]), name
    alone = embedder.embed_audio(tmp_path / "long.mkv", window=20.0)
    torch.testing.assert_close(alone.vectors["audio"], found.vectors["audio"], atol=1e-5, rtol=0)


def test_a_file_of_silence_is_embedded_as_silence(embedder, tmp_path):
    rate = embedder.loaded.config.audio.rate
    with av.open(str(tmp_path / "silence.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 3 * rate), np.int16), layout="mono")
        frame.rate, frame.time_base = rate, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert set(embedder.embed(tmp_path / "silence.wav").vectors) == {"audio"}
    found = embedder.embed_audio(tmp_path / "silence.wav")
    silence = embedder.embed_audio(np.zeros(3 * rate, np.float32), rate=rate)
    torch.testing.assert_close(found.vectors["audio"], silence.vectors["audio"], atol=1e-5, rtol=0)


def test_parts_embed_as_the_whole(embedder, films):
    """One loader over several parts gives what each part alone gives, to the bit."""
    files = loose_instances(films)
    by_parts = WindowEmbedder(
        loaded=embedder.loaded, device=embedder.device, span=Span(seconds=1.0), workers=2
    )
    parts = [range(2), range(2, 3), range(3, len(films))]
    for rows, found in zip(parts, by_parts.embed_parts(files, parts), strict=True):
        alone = by_parts.embed(files.take(np.arange(rows.start, rows.stop)))
        assert found.row.tolist() == (alone.row + rows.start).tolist()
        for name, x in alone.vectors.items():
            assert torch.equal(found.vectors[name], x)


def test_the_last_window_ends_where_the_sound_does(finished):
    embedder = api.load(finished, device="cpu")
    found = embedder.embed_audio(np.zeros(int(2.5 * 8000), np.float32), rate=8000, window=1.0)
    assert found.end == pytest.approx([1.0, 2.0, 2.5])
