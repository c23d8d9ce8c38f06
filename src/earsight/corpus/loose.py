"""Single files as instances, without a scan."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earsight.corpus.instances import Instances
from earsight.corpus.keys import key_of
from earsight.media.members import file_behind
from earsight.media.probe import probe
from earsight.media.types import AudioInfo, Limits, MediaError, MediaInfo, VideoInfo

Streams = Sequence[VideoInfo | AudioInfo | None]


def loose_instances(paths: Sequence[str | Path], limits: Limits | None = None) -> Instances:
    """Whole files as instances, in the order given; keys are of the paths as they stand.

    Raises:
        MediaError: a file cannot be read; names it.
    """
    texts = [str(path) for path in paths]
    infos = [_probed(text, limits or Limits()) for text in texts]
    stats = [Path(file_behind(text)).stat() for text in texts]
    seen, heard = [one.video for one in infos], [one.audio for one in infos]
    return Instances(
        key=np.array([key_of(text) for text in texts], np.uint64),
        path=texts,
        size=np.array([one.st_size for one in stats], np.int64),
        mtime_ns=np.array([one.st_mtime_ns for one in stats], np.int64),
        group=np.array(texts, object),
        start=np.zeros(len(texts)),
        end=np.array([one.duration for one in infos], np.float64),
        width=np.array(_facts(seen, "width", 0), np.int64),
        height=np.array(_facts(seen, "height", 0), np.int64),
        fps=np.array(_facts(seen, "fps", 0.0), np.float64),
        video_stream=np.array(_facts(seen, "stream", -1), np.int64),
        video_start=np.array(_facts(seen, "start", 0.0), np.float64),
        video_end=_ends(seen),
        audio_stream=np.array(_facts(heard, "stream", -1), np.int64),
        audio_start=np.array(_facts(heard, "start", 0.0), np.float64),
        audio_end=_ends(heard),
        has_video=np.array([one is not None for one in seen]),
        has_audio=np.array([one is not None for one in heard]),
        labels={},
        vocabulary={},
    )


def _probed(path: str, limits: Limits) -> MediaInfo:
    try:
        return probe(path, limits)
    except MediaError as error:
        raise MediaError(f"{path} {error}") from error


def _facts(streams: Streams, name: str, none: float) -> list[float]:
    """A fact of each stream, ``none`` where there is no stream."""
    return [none if one is None else getattr(one, name) for one in streams]


def _ends(streams: Streams) -> NDArray[np.float64]:
    return np.array([0.0 if one is None else one.start + one.duration for one in streams])
