"""Embedding clips: once each, within the caps, and what cannot be had is named."""

import base64
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from earsight.report.gallery import Embedder, Gallery, show


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
