from pathlib import Path
from typing import Any

import av
import pytest

from earsight.media.probe import probe
from earsight.media.types import MediaError
from earsight.media.verify import verify


def test_sound_files_pass(make: Any, media: Path) -> None:
    for name, streams in {
        "whole.mp4": (make.Video(b_frames=2), make.Audio()),
        "whole.mkv": (make.Video(b_frames=2), make.Audio(codec="libopus", rate=48000)),
        "whole.avi": (make.Video(codec="mpeg4"), make.Audio(codec="libmp3lame")),
        "whole.ts": (make.Video(), make.Audio()),
        "whole.wav": (make.Audio(codec="pcm_s16le"),),
    }.items():
        verify(make.write(media / name, *streams))


@pytest.mark.parametrize(
    "name",
    ["dog.mp4", "h265_video.mp4", "music_1.mp4", "nasa_13013_rotated.mp4", "loader_340x256.mp4"],
)
def test_real_videos_pass(real: Path, name: str) -> None:
    verify(real / name)


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_damage_in_the_middle_is_found_and_placed(make: Any, media: Path, kind: str) -> None:
    path = make.write(
        media / f"damaged-{kind}.mp4", make.Video(ticks=range(60)), make.Audio(seconds=3)
    )
    with av.open(str(path)) as container:
        stream = container.streams.best(kind)
        packets = [p for p in container.demux(stream) if p.size]
        middle = packets[len(packets) // 2]
        position, size = middle.pos, middle.size
    data = bytearray(path.read_bytes())
    data[position + 6 : position + size] = bytes(
        b ^ 0x5A for b in data[position + 6 : position + size]
    )
    path.write_bytes(bytes(data))
    # Probing reads the first frames only, and is content.
    assert probe(path).video is not None
    with pytest.raises(
        MediaError, match=rf"is damaged: its {kind} cannot be decoded at 1\.[3-7] s"
    ):
        verify(path)
