import numpy as np
import pytest

from earsight.corpus.status import content_of, first_fault, reasons


def content(rows):
    """``(span, video (start, duration, frames, fps) or None, audio (start, duration) or None)``."""
    none = (0.0, 0.0, 0, 0.0)
    return content_of(
        {
            "readable": np.array([row is not None for row in rows]),
            "start": np.array([0.0 if row is None else row[0][0] for row in rows]),
            "end": np.array([0.0 if row is None else row[0][1] for row in rows]),
            "video_stream": np.array([0 if row and row[1] else -1 for row in rows]),
            "video_start": np.array([((row and row[1]) or none)[0] for row in rows]),
            "video_duration": np.array([((row and row[1]) or none)[1] for row in rows]),
            "video_frames": np.array([((row and row[1]) or none)[2] for row in rows]),
            "video_fps": np.array([((row and row[1]) or none)[3] for row in rows]),
            "audio_stream": np.array([1 if row and row[2] else -1 for row in rows]),
            "audio_start": np.array([((row and row[2]) or none)[0] for row in rows]),
            "audio_duration": np.array([((row and row[2]) or none)[1] for row in rows]),
        }
    )


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (None, "unreadable"),
        (((0, 3), (0, 3, 48, 16.0), (0, 3)), "ok"),
        (((0, 3), None, (0, 3)), "no-video"),
        (((0, 0), None, None), "no-video"),
        (((0, 3), (0, 3, 48, 16.0), None), "no-audio"),
        (((0, 3), (0, 0.04, 1, 25.0), (0, 3)), "still"),
        (((0, 3), (0, 0.0, 1, 0.0), (0, 3)), "still"),  # a picture of unknown duration
        (((0, 3), (0, 0.04, 1, 25.0), None), "no-audio"),  # the first that applies
        (((0, 3), (0, 0.08, 2, 25.0), (0, 3)), "too-short"),
        (((0, 4), (0, 2, 32, 16.0), (1.5, 2.5)), "too-short"),  # half a second of both
        (((0, 4), (0, 2, 32, 16.0), (3.0, 1.0)), "too-short"),  # never at once
        (((0, 1), (0, 1, 16, 16.0), (0, 0.9995)), "ok"),  # rounding
        (((0, 1), (0, 1, 16, 16.0), (0, 0.99)), "too-short"),
        (((10, 20), (0, 30, 480, 16.0), (0, 9)), "no-audio"),  # the sound ends before the segment
        (((10, 20), (0, 9, 144, 16.0), (0, 30)), "no-video"),
        (((10, 20), (0, 30, 3, 0.1), (0, 30)), "still"),  # a slide show
        (((0, 30), (0, 30, 3, 0.05), (0, 30)), "ok"),  # all three frames, whatever the rate says
        (((10, 20), (0, 10, 160, 16.0), (0, 30)), "no-video"),  # ends where the segment begins
    ],
)
def test_first_that_applies(row, status):
    assert first_fault(content([row]), 1.0).tolist() == [status]


def test_a_task_asks_for_what_it_uses():
    rows = [
        ((0, 3), None, (0, 3)),
        ((0, 3), (0, 3, 48, 16.0), None),
        ((0, 3), (0, 0.5, 8, 16.0), (0, 3)),
        ((0, 3), (0, 3, 48, 16.0), (0, 0.5)),
        None,
    ]
    sound = first_fault(content(rows), 1.0, picture=False).tolist()
    assert sound == ["ok", "no-audio", "ok", "too-short", "unreadable"]
    picture = first_fault(content(rows), 1.0, sound=False).tolist()
    assert picture == ["no-video", "ok", "too-short", "ok", "unreadable"]


def test_reasons_are_sentences():
    status = np.array(["ok", "unreadable", "too-short", "still"], dtype=object)
    error = np.array(["", "has no header", "", ""], dtype=object)
    got = reasons(status, error, 1.5).tolist()
    assert got[:2] == ["", "has no header"]
    assert "1.5 s" in got[2]
    assert all(got[1:])


def test_seconds_are_those_within_the_span():
    held = content([((10, 20), (12, 100, 1600, 16.0), (0, 15))])
    assert (held.video[0], held.audio[0], held.both[0], held.frames[0]) == (8, 5, 3, 128)
