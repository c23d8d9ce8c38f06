import os
from dataclasses import replace

import numpy as np
import pyarrow as pa

from earsight.corpus.assemble import assemble
from earsight.corpus.discover import Found
from earsight.corpus.facts import fact_table
from earsight.corpus.instances import changed_files, encode, instances, missing_files
from earsight.corpus.keys import key_of
from earsight.corpus.manifest import Corpus, ScanSettings
from earsight.media.types import AudioInfo, MediaInfo, VideoInfo


def corpus_of(folder, labels):
    video = VideoInfo(
        stream=2,
        codec="h264",
        width=64,
        height=48,
        rotation=0,
        fps=16.0,
        frames=400,
        start=0.5,
        duration=25.0,
        pixel_format="yuv420p",
    )
    audio = AudioInfo(stream=1, codec="aac", rate=24000, channels=1, start=0.0, duration=15.0)
    files = [Found("a.mp4", "#1", 1, 1), Found("b.mp4", "#1", 1, 1), Found("in/c.mp4", "in", 1, 1)]
    infos = [
        MediaInfo(duration=25.5, video=video, audio=audio),
        MediaInfo(duration=25.5, video=video, audio=None),
        MediaInfo(duration=15.0, video=None, audio=audio),
    ]
    scan = ScanSettings(segment=10.0)
    table = assemble(fact_table(files, infos), scan, None).table
    table = table.append_column("label:x", pa.array(labels, pa.string()))
    return Corpus(table=table, roots={"#1": str(folder), "in": str(folder / "far")}, settings=scan)


def test_arrays_of_what_was_chosen(tmp_path):
    corpus = corpus_of(tmp_path, list("1102023"))
    assert len(corpus) == 7
    got = instances(corpus, np.arange(7) != 3)
    assert len(got) == 6
    a, c = str(tmp_path / "a.mp4"), str(tmp_path / "far/c.mp4")
    assert got.path == [a] * 3 + [str(tmp_path / "b.mp4")] * 2 + [c]
    assert got.group.tolist() == ["a.mp4"] * 3 + ["b.mp4"] * 2 + ["in/c.mp4"]
    assert got.key[1] == key_of("a.mp4", 10, 20)
    assert got.key[5] == key_of("in/c.mp4")
    assert got.start.tolist() == [0, 10, 20, 10, 20, 0]
    assert got.end.tolist() == [10, 20, 25.5, 20, 25.5, 15]
    assert got.video_start.tolist() == [0.5] * 5 + [0]
    assert got.video_end.tolist() == [25.5] * 5 + [0]
    assert got.audio_end.tolist() == [15] * 3 + [0, 0, 15]
    assert got.has_audio.tolist() == [True, True, False, False, False, True]
    assert got.has_video.tolist() == [True] * 5 + [False]
    assert got.video_stream.tolist() == [2] * 5 + [-1]
    assert got.audio_stream.tolist() == [1] * 3 + [-1, -1, 1]
    assert got.width.tolist() == [64] * 5 + [0]
    assert got.height.dtype == got.width.dtype == np.int64
    assert got.fps[0] == 16
    assert got.labels["x"].tolist() == [1, 1, 0, 0, 2, 3]
    assert got.vocabulary == {"x": ("0", "1", "2", "3")}


def test_take(tmp_path):
    got = instances(corpus_of(tmp_path, list("1102023"))).take(np.array([4, 0]))
    assert got.path == [str(tmp_path / "b.mp4"), str(tmp_path / "a.mp4")]
    assert got.start.tolist() == [10, 0]
    assert got.labels["x"].tolist() == [0, 1]


def test_codes_are_those_of_the_whole_corpus():
    texts = np.array(["b", None, "a", "b"], dtype=object)
    codes, words = encode(texts, np.array([True, True, False, False]))
    assert (codes.tolist(), words) == ([1, -1], ("a", "b"))


def test_numbers_are_in_their_order():
    codes, words = encode(np.array(["10", "2", "1"], dtype=object))
    assert words == ("1", "2", "10")
    assert codes.tolist() == [2, 1, 0]


def test_several_labels_in_a_cell():
    codes, words = encode(np.array(["b; a", None, "c", "a", ";"], dtype=object))
    assert words == ("a", "b", "c")
    assert codes.dtype == np.uint8
    assert codes.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]]


def test_no_label_at_all():
    codes, words = encode(np.array([None, None], dtype=object))
    assert (codes.tolist(), words) == ([-1, -1], ())


def test_files_that_moved_are_found_out(tmp_path):
    (tmp_path / "a.mp4").write_text("x")
    (tmp_path / "far").mkdir()
    got = instances(corpus_of(tmp_path, list("1102023")))
    assert missing_files(got) == [str(tmp_path / "b.mp4"), str(tmp_path / "far/c.mp4")]
    assert missing_files(replace(got.take(np.array([0])))) == []


def test_files_of_another_size_have_changed_and_copies_with_new_times_have_not(tmp_path):
    (tmp_path / "a.mp4").write_text("x")
    got = instances(corpus_of(tmp_path, list("1102023")))
    there = str(tmp_path / "a.mp4")
    os.utime(there, (1, 1))
    assert changed_files(replace(got, size=np.ones_like(got.size))) == []
    assert changed_files(replace(got, size=2 * np.ones_like(got.size))) == [there]
