import errno
import os
import pickle
import random
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from earsight.media.decode import decode
from earsight.media.open import Deadline, open_media
from earsight.media.packets import packets_of
from earsight.media.probe import probe
from earsight.media.types import AudioRequest, ClipRequest, Limits, MediaError, VideoRequest
from earsight.media.verify import verify

ENTRANCES = [probe, verify]


def refuse(path: Path, match: str, limits: Limits | None = None) -> None:
    """All ways into a file refuse it, with the same one sentence."""
    for entrance in ENTRANCES:
        with pytest.raises(MediaError, match=match):
            entrance(path, limits)
    request = ClipRequest(
        path=str(path),
        video=(VideoRequest(start=0, fps=10, frames=2),),
        audio=(AudioRequest(start=0, duration=1, rate=16000),),
    )
    with pytest.raises(MediaError, match=match) as caught:
        decode(request, limits)
    assert "\n" not in str(caught.value)
    assert str(path.name) not in str(caught.value)


@pytest.fixture(scope="module")
def good(make: Any, media: Path) -> Path:
    return Path(make.write(media / "good.mp4", make.Video(), make.Audio()))


@pytest.mark.parametrize("kind", ["mkv", "ts", "avi"])
def test_another_container_by_the_name_of_mp4(kind: str, make: Any, tmp_path: Path) -> None:
    written = make.write(tmp_path / f"film.{kind}", make.Video(), make.Audio())
    request = ClipRequest(
        path=str(written),
        video=(VideoRequest(start=0.3, fps=10, frames=4, size=(32, 32)),),
        audio=(AudioRequest(start=0.3, duration=0.5, rate=24000),),
    )
    expected = decode(request)
    renamed = written.rename(tmp_path / "film.mp4")
    found = decode(replace(request, path=str(renamed)))
    assert np.array_equal(found.video[0], expected.video[0])
    np.testing.assert_allclose(found.audio[0], expected.audio[0], atol=1e-3)


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    refuse(path, "is empty")


def test_text_by_the_name_of_media(tmp_path: Path) -> None:
    for name in ("letter.mp4", "letter.mkv", "letter.avi", "letter.mp3", "letter"):
        path = tmp_path / name
        path.write_text("Dear reader,\nthis is not a film.\n" * 200)
        refuse(path, "is not a media file")


def test_noise_by_the_name_of_media(tmp_path: Path) -> None:
    for seed in range(4):
        path = tmp_path / f"noise{seed}.mp4"
        path.write_bytes(random.Random(seed).randbytes(20000))
        refuse(path, "not a media file|cannot be decoded|holds neither|no frame|nothing")


def test_zeros(tmp_path: Path) -> None:
    path = tmp_path / "zeros.mp4"
    path.write_bytes(bytes(10000))
    refuse(path, "holds only zeros")


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{target}\n#EXT-X-ENDLIST\n",
        "\ufeff#EXTM3U\n#EXTINF:5,\n{target}\n",
        "ffconcat version 1.0\nfile '{target}'\n",
        "[playlist]\nFile1={target}\n",
    ],
)
@pytest.mark.parametrize("name", ["list.mp4", "list.m3u8", "list.mkv"])
def test_playlists_are_not_followed(tmp_path: Path, good: Path, text: str, name: str) -> None:
    asked: list[bytes] = []
    server = _listen(asked)
    for target in (f"http://127.0.0.1:{server.getsockname()[1]}/a.ts", f"file://{good}", good.name):
        path = tmp_path / name
        path.write_text(text.format(target=target))
        refuse(path, "is a playlist")
    server.close()
    assert not asked


def _listen(asked: list[bytes]) -> Any:
    import socket

    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        try:
            while True:
                connection, _ = server.accept()
                asked.append(connection.recv(100))
                connection.close()
        except OSError:
            return

    threading.Thread(target=accept, daemon=True).start()
    return server


def test_a_file_cut_short(tmp_path: Path, make: Any, good: Path) -> None:
    data = good.read_bytes()
    for share in (0.02, 0.3, 0.9):
        path = tmp_path / "short.mp4"
        path.write_bytes(data[: int(len(data) * share)])
        refuse(path, "is cut short or damaged")


def test_a_file_cut_short_behind_its_index(tmp_path: Path, make: Any) -> None:
    if not hasattr(av.stream, "Discard"):
        pytest.skip("this PyAV does not show the index")
    whole = make.write(
        tmp_path / "whole.mp4", make.Video(), make.Audio(), options={"movflags": "faststart"}
    )
    data = whole.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    path = tmp_path / "short.mp4"
    path.write_bytes(data[: int(len(data) * 0.7)])
    for entrance in ENTRANCES:
        with pytest.raises(MediaError, match="is cut short"):
            entrance(path)


def test_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "folder.mp4"
    path.mkdir()
    refuse(path, "is a folder")


def test_a_pipe_is_not_even_opened(tmp_path: Path) -> None:
    path = tmp_path / "pipe.mp4"
    os.mkfifo(path)
    refuse(path, "is a pipe, socket or device")
    refuse(Path("/dev/zero"), "is a pipe, socket or device")


def test_nothing_there(tmp_path: Path) -> None:
    refuse(tmp_path / "none.mp4", "does not exist")
    loop = tmp_path / "loop.mp4"
    loop.symlink_to(loop)
    refuse(loop, "cannot be opened: too many levels of symbolic links")
    refuse(tmp_path / ("x" * 300), "cannot be opened: file name too long")
    with pytest.raises(MediaError, match="a name that no file can have"):
        probe("nul\0.mp4")


def test_permission_denied(tmp_path: Path, good: Path) -> None:
    path = tmp_path / "secret.mp4"
    path.write_bytes(good.read_bytes())
    path.chmod(0)
    script = (
        "import os, sys\n"
        "from earsight.media.probe import probe\n"
        "from earsight.media.types import MediaError\n"
        "if os.geteuid() == 0:\n"
        "    os.seteuid(65534)\n"
        "try:\n"
        "    probe(sys.argv[1])\n"
        "except MediaError as error:\n"
        "    print(error)\n"
    )
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == good.owner() and folder.name.startswith(("pytest", "test_")):
            folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "cannot be opened: permission denied\n"


def test_names_of_all_kinds(tmp_path: Path, good: Path) -> None:
    names = [
        "http:example.mp4",
        "concat:a|b.mp4",
        "file:x.mp4",
        "with space #1 100%.mp4",
        "číslo 東京 🎬.mp4",
        "x" * 240 + ".mp4",
        "-i.mp4",
        os.fsdecode(b"latin-\xe9.mp4"),
    ]
    for name in names:
        path = tmp_path / name
        path.write_bytes(good.read_bytes())
        assert probe(path).video is not None
        here = ClipRequest(path=str(path), video=(VideoRequest(start=0, fps=1, frames=1),))
        assert decode(here).video[0].any()


def test_a_name_with_a_colon_in_the_working_folder(
    tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pipe:0").write_bytes(good.read_bytes())
    assert probe("pipe:0").video is not None


def test_too_many_pixels_streams_or_seconds(make: Any, media: Path, good: Path) -> None:
    refuse(good, "pictures of 128 × 96 pixels, more than the limit of 5000", Limits(pixels=5000))
    refuse(good, "has 2 streams, more than the limit of 1", Limits(streams=1))
    refuse(good, "lasts 2 s, longer than the limit of 1 s", Limits(duration=1))
    with pytest.raises(MediaError) as caught:
        probe(good, Limits(pixels=5000))
    assert not caught.value.passing
    assert probe(good, Limits(pixels=128 * 96, streams=2, duration=3)).video is not None


def test_pixels_above_the_limit_that_the_header_does_not_admit(make: Any, media: Path) -> None:
    path = make.write(media / "liar.mp4", make.Video(size=(640, 480), ticks=range(3)))
    data = path.read_bytes()
    small = (64).to_bytes(2, "big") + (48).to_bytes(2, "big")
    large = (640).to_bytes(2, "big") + (480).to_bytes(2, "big")
    assert data.count(large) == 1
    path.write_bytes(data.replace(large, small))
    request = ClipRequest(path=str(path), video=(VideoRequest(start=0, fps=1, frames=1),))
    with pytest.raises(MediaError):
        decode(request, Limits(pixels=10000))
    for entrance in ENTRANCES:
        with pytest.raises(MediaError):
            entrance(path, Limits(pixels=10000))


def test_a_deadline(good: Path) -> None:
    for entrance in ENTRANCES:
        with pytest.raises(MediaError, match="longer to read than the limit") as caught:
            entrance(good, Limits(seconds=1e-6))
        assert caught.value.passing
        assert pickle.loads(pickle.dumps(caught.value)).passing
    Deadline(10).check()


@pytest.mark.parametrize(
    ("code", "match"),
    [
        (errno.ENOMEM, "needs more memory to be decoded than there is"),
        (errno.EIO, "cannot be read: input/output error"),
    ],
)
def test_a_file_is_not_called_damaged_where_opening_lacks_memory_or_its_disk(
    good: Path, monkeypatch: pytest.MonkeyPatch, code: int, match: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        av.error.err_check(-code)

    for probing in (True, False):
        monkeypatch.setattr(av, "open", fail)
        with pytest.raises(MediaError, match=match) as caught, open_media(good, probing=probing):
            pass
        assert caught.value.passing
        monkeypatch.undo()
        with open_media(good, probing=probing) as container:
            assert container.streams


def test_streams_that_turn_up_while_reading_end_nothing_early() -> None:
    class Packet:
        def __init__(self, size: int) -> None:
            self.size = size

    class Container:
        def demux(self, *streams: Any) -> Any:
            yield from (Packet(5), Packet(0), Packet(7))
            raise IndexError("list index out of range")

    container: Any = Container()
    assert [packet.size for packet in packets_of(container, [], Deadline(9))] == [5, 7]


def test_files_are_closed_whatever_happens(good: Path) -> None:
    def opened() -> int:
        return sum(link.resolve() == good.resolve() for link in Path("/proc/self/fd").iterdir())

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    with open_media(good):
        assert opened() == 1
    assert opened() == 0
    with pytest.raises(RuntimeError), open_media(good):
        raise RuntimeError
    assert opened() == 0
    probe(good)
    with pytest.raises(MediaError):
        probe(good, Limits(seconds=1e-6))
    assert opened() == 0


def test_nothing_is_written_to_the_terminal(
    tmp_path: Path, good: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "damaged.mp4"
    data = bytearray(good.read_bytes())
    start = data.index(b"mdat") + 4
    data[start + 500 : start + 900] = bytes(400)
    path.write_bytes(bytes(data))
    with pytest.raises(MediaError):
        verify(path)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_damaged_files_raise_nothing_but_media_errors(tmp_path: Path, good: Path) -> None:
    """Random bytes over a file's header and data: each entrance answers or refuses."""
    original = good.read_bytes()
    refused = 0
    for seed in range(60):
        dice = random.Random(seed)
        data = bytearray(original)
        for _ in range(dice.randint(1, 30)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        path = tmp_path / "fuzzed.mp4"
        path.write_bytes(bytes(data))
        request = ClipRequest(
            path=str(path),
            video=(VideoRequest(start=0.5, fps=10, frames=4),),
            audio=(AudioRequest(start=0.5, duration=1, rate=16000),),
        )
        for entrance in (probe, verify, lambda _, request=request: decode(request)):
            try:
                entrance(path)
            except MediaError:
                refused += 1
    assert refused > 20
