from pathlib import Path
from typing import Any

import pytest

from earsight.media import packets as packets_module
from earsight.media.decode import decode
from earsight.media.open import Deadline, open_media
from earsight.media.packets import PacketReader, Window
from earsight.media.streams import choose
from earsight.media.types import AudioRequest, ClipRequest, Limits, VideoRequest


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stream indices of all packets that are read from now on."""
    seen: list[int] = []
    original = packets_module.packets_of

    def counting(*args: Any) -> Any:
        for packet in original(*args):
            seen.append(packet.stream_index)
            yield packet

    monkeypatch.setattr(packets_module, "packets_of", counting)
    return seen


def test_only_the_neighbourhood_is_read(
    make: Any, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make.write(
        media / "long.mp4", make.Video(ticks=range(400), b_frames=2), make.Audio(seconds=20)
    )
    seen = counted(monkeypatch)
    decode(
        ClipRequest(
            path=str(path),
            video=(VideoRequest(start=10, fps=16, frames=8),),
            audio=(AudioRequest(start=10, duration=1, rate=24000),),
        )
    )
    # 0.5 s of pictures with one or two groups of 12 before them, and 1 s of sound.
    assert seen.count(0) < 45
    assert seen.count(1) < 60


@pytest.mark.parametrize("short", ["video", "audio"])
def test_a_stream_that_ended_long_ago_is_not_awaited(
    make: Any, media: Path, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = range(20 if short == "video" else 1200)
    seconds = 1.0 if short == "audio" else 60.0
    path = make.write(
        media / f"short-{short}.mkv", make.Video(ticks=ticks, size=(32, 32)), make.Audio(seconds)
    )
    seen = counted(monkeypatch)
    clip = decode(
        ClipRequest(
            path=str(path),
            video=(VideoRequest(start=20, fps=10, frames=2),),
            audio=(AudioRequest(start=20, duration=1, rate=24000),),
        )
    )
    assert clip.video[0].any()
    assert clip.audio[0].any() == (short == "video")
    everything = 1200 if short == "audio" else round(60 * 24000 / 1024)
    assert len(seen) < everything


def test_streams_passed_over_are_read_again_at_the_next_attempt(
    make: Any, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make.write(media / "attempts.mp4", make.Video(ticks=range(100)), make.Audio(seconds=5))
    states: list[tuple[str, bool]] = []
    attempts: list[bool] = []
    original = packets_module.PacketReader._collect

    def failing_first(self: Any, *args: Any) -> Any:
        attempts.append(True)
        found = original(self, *args)
        return None if len(attempts) == 1 else found

    def noting(stream: Any, ignore: bool) -> None:
        states.append((stream.type, ignore))

    monkeypatch.setattr(packets_module.PacketReader, "_collect", failing_first)
    monkeypatch.setattr(packets_module, "_ignore", noting)
    with open_media(path) as container:
        chosen = choose(container, Limits())
        assert chosen.video is not None
        assert chosen.audio is not None
        ticks = round(3 / chosen.video.time_base), 3 * 24000
        reader = PacketReader(container, chosen, Deadline(9))
        found = reader.read(Window(ticks[0], ticks[0]), Window(ticks[1], ticks[1] + 2400))
    assert len(attempts) == 2
    assert states.count(("video", False)) == states.count(("audio", False)) == 2
    assert found.video
    assert found.audio
