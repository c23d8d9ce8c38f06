"""Embedding clips: once each, within the caps, and what cannot be had is named."""

import base64
import io
import os
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from earsight.corpus.clip_file import write_clip
from earsight.corpus.demo import ENCODING
from earsight.media.probe import probe
from earsight.report.gallery import Embedder, Gallery, show
from earsight.report.preview import SECONDS, make_preview


def test_a_file_is_embedded_once(clips: list[Path]) -> None:
    embedder = Embedder()
    first, again = embedder.embed(clips[0]), embedder.embed(clips[0], (1.5, 2.5))
    encoded = base64.b64encode(clips[0].read_bytes()).decode()
    assert first.source == f"data:video/mp4;base64,{encoded}"
    assert (first.tag, first.fragment, first.same_as, first.left_out) == ("video", "", None, None)
    assert (again.source, again.same_as, again.anchor) == (None, first.anchor, None)
    assert again.fragment == "#t=1.500,2.500"
    assert embedder.embed(clips[1]).anchor != first.anchor
    assert embedder.used == 100 + 101


def test_sound_files_get_an_audio_player(tmp_path: Path) -> None:
    path = tmp_path / "ring.WAV"
    path.write_bytes(b"RIFF")
    medium = Embedder().embed(path)
    assert medium.tag == "audio"
    assert medium.source is not None
    assert medium.source.startswith("data:audio/wav;base64,")


def test_caps(clips: list[Path]) -> None:
    small = Embedder(item_bytes=102)
    assert small.embed(clips[2]).left_out is None
    assert "more than" in str(small.embed(clips[3]).left_out)
    assert "more than" in str(small.embed(clips[3]).left_out)
    assert list(small.left_out) == [clips[3]]
    full = Embedder(total_bytes=205)
    assert [full.embed(path).left_out is None for path in clips[:3]] == [True, True, False]
    assert "already holds" in full.left_out[clips[2]]
    assert full.embed(clips[0]).same_as is not None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.mp4", "no such file"),
        ("old.avi", "do not play .avi"),
        ("bare", "without a suffix"),
        ("folder.mp4", "no such file"),
        ("pipe.mp4", "no such file"),
        ("null\0.mp4", "no such file|null"),
    ],
)
def test_what_cannot_be_had_is_named(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "old.avi").write_bytes(b"x")
    (tmp_path / "bare").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.mp4")
    embedder = Embedder()
    medium = embedder.embed(tmp_path / name)
    assert medium.source is None
    assert medium.left_out is not None
    assert any(part in medium.left_out for part in reason.split("|"))
    assert list(embedder.left_out) == [tmp_path / name]


def test_large_and_unusual_files_are_shown_by_previews(media: Path, tmp_path: Path) -> None:
    clip = sorted((media / "test").glob("*.mp4"))[0]
    odd = tmp_path / "clip.avi"
    odd.write_bytes(clip.read_bytes())
    embedder = Embedder(item_bytes=100)
    first, again = embedder.embed(clip, (0.0, 1.0)), embedder.embed(clip, (0.0, 1.0))
    other, unusual = embedder.embed(clip, (1.0, 2.0)), embedder.embed(odd, (0.0, 1.0))
    assert again.same_as == first.anchor
    assert (first.fragment, again.fragment) == ("", ""), "a preview is the clip alone"
    assert len({first.anchor, other.anchor, unusual.anchor}) == embedder.previews == 3
    assert embedder.left_out == {}
    for medium in (first, other, unusual):
        assert medium.source is not None
        content = base64.b64decode(medium.source.removeprefix("data:video/mp4;base64,"))
        path = tmp_path / "preview.mp4"
        path.write_bytes(content)
        info = probe(path)
        assert info.video is not None
        assert info.audio is not None
        assert (info.video.codec, info.audio.codec) == ("h264", "aac")
        assert info.duration == pytest.approx(1.0, abs=0.1)


def test_previews_are_no_longer_and_no_larger_than_they_may(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    pictures = np.zeros((96, 3, 240, 320), np.uint8)
    write_clip(path, pictures, np.zeros(12 * 24_000, np.float32), replace(ENCODING, fps=8))
    content, kind = make_preview(path, None)
    (tmp_path / "preview.mp4").write_bytes(content)
    info = probe(tmp_path / "preview.mp4")
    assert kind == "video/mp4"
    assert info.video is not None
    assert (info.video.height, info.video.width) == (160, 214)
    assert info.duration == pytest.approx(SECONDS, abs=0.1)


def test_a_sound_alone_becomes_a_sound(tmp_path: Path) -> None:
    path = tmp_path / "ring.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.zeros(16_000, np.int16).tobytes())
    content, kind = make_preview(path, (0.5, 1.5))
    assert kind == "audio/wav"
    with wave.open(io.BytesIO(content)) as file:
        assert file.getnframes() / file.getframerate() == 1.0


def test_nothing_is_embedded_where_that_is_asked_for(clips: list[Path]) -> None:
    embedder = Embedder(media=False)
    medium = embedder.embed(clips[0])
    assert (medium.shown, medium.source, medium.left_out) == (False, None, None)
    assert (embedder.held, embedder.left_out) == (0, {})


def test_shown_in_order(clips: list[Path], gallery_of: Callable[[list[Path]], Gallery]) -> None:
    gallery = gallery_of(clips)
    shown = list(show(gallery, Embedder()))
    assert [item.query for item in shown] == list(gallery.queries)
    for item in shown:
        assert tuple(n.neighbour for n in item.neighbours) == item.query.neighbours
    media = [m for item in shown for m in (item.medium, *(n.medium for n in item.neighbours))]
    holders = {m.anchor for m in media if m.source is not None}
    assert len(holders) == len({q.path for q in gallery.queries} | set(clips[:6]))
    assert all(m.same_as in holders for m in media if m.source is None)
