"""Work on an open file, begun again where its header or its index turns out not to suffice."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from earsight.media.members import suffix_of
from earsight.media.open import Deadline, Unprobed, open_media
from earsight.media.packets import PacketReader, Unsearchable
from earsight.media.streams import Chosen, check_header, check_rate, choose
from earsight.media.types import Limits, MediaError

Result = TypeVar("Result")

_TOLD_BY_HEADER = frozenset({".mp4", ".m4v", ".m4a", ".mov"})
"""Files whose header tells all that is needed, as a rule."""


@dataclass(frozen=True, kw_only=True)
class OpenFile:
    """A file while it is read.

    Attributes:
        chosen: its streams, and where its time begins.
        reader: of their packets.
        deadline: to be asked about at every packet.
        probing: whether FFmpeg had a look at the streams when the file was opened.
        searching: whether it is searched by time; else one read is made, from the beginning.
    """

    chosen: Chosen
    reader: PacketReader
    deadline: Deadline
    probing: bool
    searching: bool


def read_file(
    path: str,
    work: Callable[[OpenFile], Result],
    *,
    video: bool,
    audio: bool,
    video_stream: int | None,
    audio_stream: int | None,
    limits: Limits,
) -> Result:
    """What ``work`` makes of an open file.

    It may be called up to three times: with a file opened by its header alone, then probed, then
    read without searching.

    Args:
        path: the file.
        work: may raise Unprobed or Unsearchable to be called again.
        video: whether pictures are wanted.
        audio: whether sound is.
        video_stream: container index of the video stream; None for the default one.
        audio_stream: container index of the audio stream; None for the default one.
        limits: what the file may cost.

    Raises:
        MediaError: the file cannot be read, or lacks a wanted stream.
    """
    deadline = Deadline(limits.seconds)
    probing = suffix_of(path) not in _TOLD_BY_HEADER
    searching = True
    while True:
        try:
            with open_media(path, limits, probing=probing) as container:
                chosen = choose(container, limits, video_stream, audio_stream)
                _check_streams(chosen, video=video, audio=audio, probing=probing)
                reader = PacketReader(container, chosen, deadline, searching=searching)
                return work(
                    OpenFile(
                        chosen=chosen,
                        reader=reader,
                        deadline=deadline,
                        probing=probing,
                        searching=searching,
                    )
                )
        except Unprobed:
            assert not probing
            probing = True
        except Unsearchable:
            assert searching
            searching = False


def _check_streams(chosen: Chosen, *, video: bool, audio: bool, probing: bool) -> None:
    if video and chosen.video is None:
        raise MediaError("has no picture: it holds no video stream")
    if audio and chosen.audio is None:
        raise MediaError("has no sound: it holds no audio stream")
    if not probing:
        check_header(chosen)
    check_rate(chosen)
