"""Batches from real files, with and without workers."""

import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from earsight.config import AudioConfig, DataConfig, VideoConfig
from earsight.corpus import loader
from earsight.corpus.clips import ClipSettings, EvaluationClips, LoaderError, TrainingClips
from earsight.corpus.demo import render_demo
from earsight.corpus.heartbeat import Heartbeat
from earsight.corpus.instances import instances
from earsight.corpus.loader import check_shared_memory, load
from earsight.corpus.manifest import read
from earsight.corpus.sampling import shuffled_partners
from earsight.corpus.scan import scan
from earsight.corpus.windows import WindowBatch, WindowClips, cut_windows

VIDEO = VideoConfig(frames=4, fps=8, size=32)
AUDIO = AudioConfig(duration=1.0, stretch=(1.0, 1.0))


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    render_demo(folder, clips=12, held_out=2, seed=0, workers=1)
    return folder


@pytest.fixture
def rows(media, tmp_path):
    copied = tmp_path / "media"
    shutil.copytree(media, copied)
    scan([str(copied)], tmp_path / "corpus.parquet", workers=0)
    return instances(read(tmp_path / "corpus.parquet"))


def settings(**data):
    return ClipSettings(video=VIDEO, audio=AUDIO, data=DataConfig(**data), seed=3)


def same(one, two):
    assert one.row.tolist() == two.row.tolist()
    assert one.index.tolist() == two.index.tolist()
    assert one.start.tolist() == two.start.tolist()
    for a, b in zip(one.views, two.views, strict=True):
        assert torch.equal(a["video"], b["video"])
        assert torch.equal(a["audio"], b["audio"])


def test_a_batch_has_the_shapes_it_promises(rows):
    batch = TrainingClips(rows, settings(), batch=5, views=2)[0]
    assert len(batch.views) == 2
    assert batch.views[0]["video"].shape == (5, 3, 4, 32, 32)
    assert batch.views[0]["video"].dtype == torch.uint8
    assert batch.views[0]["video"].is_contiguous()
    assert batch.views[0]["audio"].shape == (5, 24000)
    assert not torch.equal(batch.views[0]["video"], batch.views[1]["video"])
    assert batch.index.tolist() == [0, 1, 2, 3, 4]
    assert batch.has_audio.all()
    assert batch.failures == ()


def test_workers_change_nothing(rows):
    numbers = range(2, 6)
    alone = list(
        load(TrainingClips(rows, settings(), batch=3, views=1), numbers, DataConfig(), workers=0)
    )
    helped = list(
        load(TrainingClips(rows, settings(), batch=3, views=1), numbers, DataConfig(), workers=2)
    )
    assert len(alone) == len(helped) == 4
    for one, two in zip(alone, helped, strict=True):
        same(one, two)


def test_an_unreadable_file_is_replaced_named_and_always_alike(rows):
    broken = rows.path[3]
    Path(broken).write_bytes(b"no video")
    clips = TrainingClips(rows, settings(), batch=len(rows), views=1)
    batch = clips[0]
    assert [failure.path for failure in batch.failures] == [broken]
    assert batch.failures[0].reason
    assert 3 not in batch.row.tolist()
    same(batch, clips[0])
    (helped,) = load(clips, range(1), DataConfig(), workers=1)
    same(batch, helped)


@pytest.mark.parametrize("workers", [0, 1])
def test_no_readable_file_at_all_ends_with_a_sentence(rows, workers):
    for path in rows.path:
        Path(path).write_bytes(b"no video")
    clips = TrainingClips(rows, settings(), batch=2, views=1)
    with pytest.raises(
        LoaderError, match=r"^21 files in a row could not be read, the last .*--deep.*prepare"
    ):
        list(load(clips, range(1), DataConfig(), workers=workers))


def test_evaluation_leaves_out_what_it_cannot_read_and_names_it(rows):
    Path(rows.path[1]).write_bytes(b"no video")
    clips = EvaluationClips(rows, settings(), rows=np.arange(4), batch=3, clips=2)
    assert len(clips) == 2
    first, second = list(load(clips, range(2), DataConfig(), workers=0))
    assert first.row.tolist() == [0, 2]
    assert [failure.path for failure in first.failures] == [rows.path[1]]
    assert second.row.tolist() == [3]
    assert len(second.views) == 2


def test_an_instance_without_pictures_is_named_and_takes_them_from_no_other(rows):
    has_video = np.ones(len(rows), bool)
    has_video[1] = False
    mixed = replace(rows, has_video=has_video)
    batch = EvaluationClips(mixed, settings(), rows=np.arange(3), batch=3, clips=1)[0]
    assert batch.row.tolist() == [0, 2]
    assert batch.views[0]["video"].shape[0] == 2
    ((path, reason),) = [(failure.path, failure.reason) for failure in batch.failures]
    assert (path, reason) == (rows.path[1], "has no picture within the instance")
    trained = TrainingClips(mixed, settings(), batch=len(rows), views=1)[0]
    assert 1 not in trained.row.tolist()
    assert "video" in trained.views[0]
    sound = replace(settings(), modalities=("audio",))
    heard = EvaluationClips(mixed, sound, rows=np.arange(3), batch=3, clips=1)[0]
    assert heard.row.tolist() == [0, 1, 2]
    assert set(heard.views[0]) == {"audio"}


def test_instances_without_sound_are_given_silence(rows):
    silent = replace(rows, has_audio=np.zeros(len(rows), bool))
    batch = TrainingClips(silent, settings(), batch=3, views=1)[0]
    assert batch.views[0]["audio"].shape == (3, 24000)
    assert not batch.views[0]["audio"].any()
    assert not batch.has_audio.any()


def test_too_little_shared_memory_is_told_before_a_worker_dies(rows, monkeypatch):
    clips = TrainingClips(rows, settings(), batch=4, views=1)
    small = shutil._ntuple_diskusage(100, 90, 10)
    monkeypatch.setattr(loader.shutil, "disk_usage", lambda _: small)
    with pytest.raises(LoaderError, match=r"shared memory.*data\.workers=0"):
        check_shared_memory(clips, DataConfig(), workers=2)


def test_a_decode_that_hangs_is_named(rows):
    clips = TrainingClips(rows, settings(timeout=0.2), batch=4, views=1)
    beat = Heartbeat(1)
    late = RuntimeError("DataLoader timed out after 1 seconds")
    beat._row[0], beat._since[0] = 4, time.time() - 10
    with pytest.raises(LoaderError, match=rf"hangs.*{rows.path[4]}"):
        loader._explain(late, clips, clips.settings.data, beat)
    beat._since[0] = time.time()
    loader._explain(late, clips, clips.settings.data, beat)


@pytest.fixture
def beats(monkeypatch):
    """The heartbeats of all loads, in their order."""
    made = []
    monkeypatch.setattr(
        loader, "Heartbeat", lambda workers: made.append(Heartbeat(workers)) or made[-1]
    )
    return made


def test_workers_that_have_decoded_all_are_idle(rows, beats):
    clips = TrainingClips(rows, settings(), batch=2, views=1)
    list(load(clips, range(2), DataConfig(), workers=1))
    windows = cut_windows(rows, seconds=1.0, hop=1.0)
    batch = WindowBatch(at=np.arange(2), modalities=("video", "audio"))
    list(load(WindowClips(rows, settings(), windows, [batch]), range(1), DataConfig(), workers=1))
    assert [(beat._since > 0).tolist() for beat in beats] == [[True], [True]]
    assert [beat.stuck(-1) for beat in beats] == [[], []]


def test_a_load_that_waits_looks_at_its_own_workers(rows, beats, monkeypatch):
    """Training and a method's pool load the same clips, one while the other is under way."""

    class Slow:
        """A DataLoader that is late with its second batch."""

        def __init__(self, *_, **__):
            self.left = ["one", None, "two"]

        def __iter__(self):
            return self

        def __next__(self):
            item = self.left.pop(0)
            if item is None:
                raise RuntimeError("DataLoader timed out after 1 seconds")
            return item

    monkeypatch.setattr(loader, "DataLoader", Slow)
    clips = TrainingClips(rows, settings(), batch=2, views=1)
    training, pool = (load(clips, range(2), DataConfig(), workers=1) for _ in range(2))
    assert [next(training), next(pool)] == ["one", "one"]
    beats[1]._row[0] = 4
    assert next(training) == "two"
    with pytest.raises(LoaderError, match=rf"hangs.*{rows.path[4]}"):
        next(pool)


def test_a_time_out_that_a_worker_tells_of_is_no_slow_loader(rows):
    clips = TrainingClips(rows, settings(), batch=4, views=1)
    told = RuntimeError("Caught Odd in DataLoader worker process 0.\nOdd: the request timed out")
    with pytest.raises(RuntimeError, match="the request timed out"):
        loader._explain(told, clips, clips.settings.data, Heartbeat(1))


def test_shuffled_pairs_keep_the_pictures_and_move_the_sound(rows):
    plain = TrainingClips(rows, settings(), batch=7, views=1)
    mixed = TrainingClips(rows, settings(pairs="shuffled"), batch=7, views=1)
    sounds = {}
    for number in range(2 * len(rows) // 7):
        true, shuffled = plain[number], mixed[number]
        assert torch.equal(true.row, shuffled.row)
        assert torch.equal(true.views[0]["video"], shuffled.views[0]["video"])
        partner = shuffled_partners(3, true.row.numpy(), true.index.numpy(), len(rows))
        own = partner == true.row.numpy()
        moved = (true.views[0]["audio"] != shuffled.views[0]["audio"]).any(1).numpy()
        assert not moved[own].any()
        for row, other, index in zip(true.row.tolist(), partner, true.index.tolist(), strict=True):
            sounds.setdefault((index // len(rows), row), int(other))
    for epoch in (0, 1):
        drawn = [other for (number, _), other in sounds.items() if number == epoch]
        assert sorted(drawn) == list(range(len(rows)))
    first, second = ([sounds[epoch, row] for row in range(len(rows))] for epoch in (0, 1))
    assert first != second


def test_workers_leave_the_process_group_and_can_still_be_ended(rows):
    """Launchers signal the whole group to stop; the batches of the last step are still needed."""
    clips = TrainingClips(rows, settings(), batch=2, views=1)
    before = set(multiprocessing.active_children())
    # How soon a worker that has ended is missed.
    batches = load(clips, range(20), DataConfig(timeout=5.0), workers=1)
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - before
    assert os.getpgid(worker.pid) == worker.pid
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == -signal.SIGTERM
    with pytest.raises(LoaderError, match="a worker that decodes ended"):
        list(batches)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="asks /proc what is blocked")
def test_workers_are_deaf_to_ctrl_c_from_their_start():
    """Before they say so themselves, which is after all that they import and are given."""
    context = multiprocessing.get_context("spawn")
    with loader._shielded():
        worker = context.Process(target=time.sleep, args=(60,))
        worker.start()
    status = Path(f"/proc/{worker.pid}/status").read_text()
    worker.kill()
    worker.join()
    (blocked,) = (int(x.split()[1], 16) for x in status.splitlines() if x.startswith("SigBlk"))
    assert blocked >> (signal.SIGINT - 1) & 1
    assert blocked >> (signal.SIGTERM - 1) & 1
    here = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert not here & {signal.SIGINT, signal.SIGTERM}


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_take_contiguous_parts_of_a_micro_batch(rows, ranks):
    whole = TrainingClips(rows, settings(), batch=6, views=1)
    parts = [
        TrainingClips(rows, settings(), batch=6, views=1, rank=r, ranks=ranks) for r in range(ranks)
    ]
    for number in (0, 3):
        taken = [part[number] for part in parts]
        assert torch.cat([batch.row for batch in taken]).equal(whole[number].row)
        assert torch.cat([batch.index for batch in taken]).equal(whole[number].index)
        assert torch.cat([batch.start for batch in taken]).equal(whole[number].start)
