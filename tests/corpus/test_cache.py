"""Clips from a cache are those from the files, bit for bit; on a device all but the resizing."""

import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from earsight import api
from earsight.corpus import cache, cache_fill, demo
from earsight.corpus.cache import cache_on_disk, fingerprint
from earsight.corpus.cache_fill import Order as CacheOrder
from earsight.corpus.cache_fill import spans_of
from earsight.corpus.clips import EvaluationClips, TrainingClips
from earsight.corpus.loader import load
from earsight.corpus.parallel import Lost
from earsight.corpus.store import FileStore, SharedStore
from earsight.media.types import Limits, MediaError
from earsight.training.setup import clip_settings, open_data

BATCHES = 6


def config_of(corpus, small, *settings):
    drawn = ("video.flip=0.5", "audio.rate=16000", "data.holdout=0.1", "video.crop_area=[0.2,1.0]")
    return api.configure("tiny", settings=[*small, f"data.corpus={corpus}", *drawn, *settings])


def batches(config, data, *, workers=0):
    clips = TrainingClips(data.train, clip_settings(config), batch=5, views=2, source=data.source)
    return list(load(clips, range(BATCHES), config.data, workers=workers))


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Sound without noise bands, which is the same wherever decoding begins."""
    folder = tmp_path_factory.mktemp("videos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "ENCODING", replace(demo.ENCODING, audio_noise=False))
        demo.render_demo(folder, clips=32, held_out=12, seed=0, workers=1)
    return folder


@pytest.fixture(scope="module")
def corpus(media, tmp_path_factory):
    manifest = tmp_path_factory.mktemp("corpus") / "corpus.parquet"
    api.scan([str(media)], manifest, labels=media / "labels.csv", workers=0)
    return manifest


@pytest.fixture(scope="module")
def from_files(corpus, small):
    config = config_of(corpus, small)
    data = open_data(config)
    return config, data, batches(config, data)


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_cache_gives_what_the_files_give(cache, workers, from_files, tmp_path, corpus, small):
    _, _, expected = from_files
    folder = (f"data.cache_folder={tmp_path}",) if cache == "disk" else ()
    config = config_of(corpus, small, f"data.cache={cache}", *folder)
    data = open_data(config)
    for ours, theirs in zip(batches(config, data, workers=workers), expected, strict=True):
        assert torch.equal(ours.row, theirs.row)
        assert torch.equal(ours.start, theirs.start)
        for one, other in zip(ours.views, theirs.views, strict=True):
            assert torch.equal(one["video"], other["video"])
            assert torch.equal(one["audio"], other["audio"])
            assert one["video"].stride() == other["video"].stride()


def psnr(one, other):
    error = (one.double() - other.double()).square().mean()
    return float(10 * torch.log10(255**2 / error)) if error else np.inf


@pytest.mark.parametrize("cache", ["memory", "device"])
def test_held_out_clips_are_cached_too(cache, from_files, corpus, small):
    config, files, _ = from_files
    data = open_data(config_of(corpus, small, f"data.cache={cache}"))
    rows = np.arange(len(data.held_out))

    def read(from_data):
        clips = EvaluationClips(
            from_data.held_out,
            clip_settings(config),
            rows=rows,
            batch=8,
            clips=3,
            source=from_data.source,
        )
        return [clips[number] for number in range(len(clips))]

    for ours, theirs in zip(read(data), read(files), strict=True):
        for one, other in zip(ours.views, theirs.views, strict=True):
            assert torch.equal(one["audio"], other["audio"])
            assert psnr(one["video"], other["video"]) > (35 if cache == "device" else 1000)


def test_a_device_has_the_same_draws_and_sound_and_nearly_the_same_pictures(
    from_files, corpus, small
):
    _, _, expected = from_files
    config = config_of(corpus, small, "data.cache=device")
    data = open_data(config)
    for ours, theirs in zip(batches(config, data, workers=2), expected, strict=True):
        assert torch.equal(ours.row, theirs.row)
        assert torch.equal(ours.start, theirs.start)
        for one, other in zip(ours.views, theirs.views, strict=True):
            assert torch.equal(one["audio"], other["audio"])
            assert one["video"].shape == other["video"].shape
            assert psnr(one["video"], other["video"]) > 30


def test_a_device_takes_its_clips_from_a_cache_on_disk(corpus, small, tmp_path, monkeypatch):
    folder = f"data.cache_folder={tmp_path / 'decoded'}"
    config = config_of(corpus, small, "data.cache=device", folder)
    first = open_data(config).source
    assert torch.equal(
        first.frames, open_data(config_of(corpus, small, "data.cache=device")).source.frames
    )
    monkeypatch.setattr(cache, "fill", None)
    again = open_data(config).source
    assert torch.equal(again.frames, first.frames)
    assert torch.equal(again.sound, first.sound)


def test_a_second_run_reads_no_file(corpus, small, media, tmp_path):
    moved = tmp_path / "videos"
    shutil.copytree(media, moved)
    manifest = tmp_path / "corpus.parquet"
    api.scan([str(moved)], manifest, labels=moved / "labels.csv", workers=0)
    config = config_of(manifest, small, "data.cache=disk")
    first = batches(config, open_data(config))
    for file in moved.glob("**/*.mp4"):
        file.write_bytes(bytes(file.stat().st_size))
    again = batches(config, open_data(config))
    assert (tmp_path / "corpus.parquet.cache").is_dir()
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.views[0]["video"], other.views[0]["video"])
        assert not other.failures


def test_what_cannot_be_read_fails_as_its_file_would(corpus, small, media, tmp_path):
    moved = tmp_path / "videos"
    shutil.copytree(media, moved)
    manifest = tmp_path / "corpus.parquet"
    api.scan([str(moved)], manifest, labels=moved / "labels.csv", workers=0)
    broken = sorted(moved.glob("train/*.mp4"))[:2]
    for file in broken:
        file.write_bytes(b"no film")
    plain = config_of(manifest, small, "data.max_failures=0.5")
    cached = config_of(manifest, small, "data.max_failures=0.5", "data.cache=memory")
    expected = batches(plain, open_data(plain))
    found = batches(cached, open_data(cached))
    failures = [batch.failures for batch in found]
    assert failures == [batch.failures for batch in expected]
    assert any(failures)
    assert all(torch.equal(a.row, b.row) for a, b in zip(found, expected, strict=True))


def test_losses_are_those_from_files(corpus, small, tmp_path):
    def losses(name, *settings):
        config = config_of(corpus, small, "train.epochs=1", *settings)
        api.pretrain(config, tmp_path / name, quiet=True)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        dropped = ("time", "clips_per_second", "wait")
        return [line.split('"time"')[0] for line in lines if dropped and '"train"' in line]

    assert losses("files") == losses("memory", "data.cache=memory")


def order_of(config, data, **changed):
    order = CacheOrder(
        instances=data.train,
        video=config.video,
        audio=config.audio,
        limits=Limits(),
        workers=0,
    )
    return replace(order, **changed)


def test_the_name_of_a_cache_tells_what_is_in_it(from_files):
    config, data, _ = from_files
    train = data.train
    spans = spans_of(train, config.video, config.audio)
    name = fingerprint(train, spans, Limits())
    backwards = train.take(np.arange(len(train))[::-1])
    same = spans_of(backwards, config.video, config.audio)
    assert fingerprint(backwards, same, Limits()) == name
    changed = replace(train, mtime_ns=train.mtime_ns + 1)
    assert fingerprint(changed, spans, Limits()) != name
    slower = spans_of(train, config.video, replace(config.audio, rate=8000))
    assert fingerprint(train, slower, Limits()) != name
    fewer = train.take(np.arange(len(train) - 1))
    left = spans_of(fewer, config.video, config.audio)
    assert fingerprint(fewer, left, Limits()) != name


def test_what_was_refused_is_read_again_where_limits_are_raised(from_files, tmp_path):
    config, data, _ = from_files
    few = data.train.take(np.arange(2))
    strict = order_of(config, data, instances=few, limits=Limits(pixels=100))
    assert len(cache_on_disk(strict, tmp_path).index.reasons) == 2
    raised = order_of(config, data, instances=few)
    assert not cache_on_disk(raised, tmp_path).index.reasons


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_what_failed_for_a_passing_reason_is_read_from_its_file(
    kind, corpus, small, from_files, tmp_path, monkeypatch
):
    kept, away = cache_fill.keep, str(from_files[1].train.path[3])

    def unreachable(span, limits):
        if span.path == away:
            raise MediaError("cannot be read: the server is away", passing=True)
        return kept(span, limits)

    monkeypatch.setattr(cache_fill, "keep", unreachable)
    place = [f"data.cache_folder={tmp_path}"] if kind == "disk" else []
    config = config_of(corpus, small, f"data.cache={kind}", *place, "data.workers=0")
    found = open_data(config)
    if kind == "disk":
        monkeypatch.setattr(cache, "fill", None)
        found = open_data(config)
    assert set(found.source.index.reasons) == found.source.index.passing
    assert len(found.source.index.passing) == 1
    expected, read = from_files[2], batches(config, found)
    assert any(3 in batch.row for batch in read)
    for one, other in zip(expected, read, strict=True):
        assert not other.failures
        assert torch.equal(one.row, other.row)
        assert torch.equal(one.views[0]["video"], other.views[0]["video"])
        assert torch.equal(one.views[0]["audio"], other.views[0]["audio"])


def test_what_ended_a_decoder_is_not_read_again(from_files, monkeypatch, tmp_path):
    config, data, _ = from_files
    few = data.train.take(np.arange(2))
    lost = [(at, Lost(reason="crashed its decoder")) for at in range(2)]
    monkeypatch.setattr(cache_fill, "each", lambda *_, **__: lost)
    index = cache_on_disk(order_of(config, data, instances=few), tmp_path).index
    assert set(index.reasons.values()) == {"crashed its decoder"}
    assert not index.passing


def test_a_file_that_cannot_be_kept_is_named_and_the_others_are_kept(
    from_files, monkeypatch, tmp_path
):
    config, data, _ = from_files
    few = data.train.take(np.arange(2))
    kept = cache_fill.keep

    def odd(span, limits):
        if span.path == few.path[0]:
            raise TypeError("no such pixels")
        return kept(span, limits)

    monkeypatch.setattr(cache_fill, "keep", odd)
    index = cache_on_disk(order_of(config, data, instances=few), tmp_path).index
    assert index.reasons == {int(few.key[0]): "cannot be kept (TypeError: no such pixels)"}
    assert len(index.key) == 1


def test_memory_is_reckoned_for_every_process_of_the_machine(from_files, monkeypatch):
    config, data, _ = from_files
    order = order_of(config, data)
    monkeypatch.setattr(cache, "_free_memory", lambda: 2.5 * order.estimate())
    cache.cache_in_memory(replace(order, copies=2))
    with pytest.raises(ValueError, match="one for each of 3 processes"):
        cache.cache_in_memory(replace(order, copies=3))


def test_a_cache_cut_short_leaves_nothing(from_files, tmp_path):
    config, data, _ = from_files

    def stop(done, of):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache_on_disk(order_of(config, data, progress=stop), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("name", ["clips.bin", "index.npz", "about.json"])
def test_a_damaged_cache_is_made_anew(from_files, tmp_path, name):
    config, data, _ = from_files
    order = order_of(config, data, instances=data.train.take(np.arange(2)))
    first = cache_on_disk(order, tmp_path)
    (folder,) = tmp_path.iterdir()
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / name).write_bytes(whole[name][: len(whole[name]) // 2])
    again = cache_on_disk(order, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert (folder / "clips.bin").read_bytes() == whole["clips.bin"]
    for key in map(int, first.index.key):
        assert np.array_equal(again.kept(key).pixels[0], first.kept(key).pixels[0])


def test_a_cache_that_does_not_fit_is_refused(from_files, tmp_path):
    config, data, _ = from_files
    vast = replace(data.train, width=data.train.width * 10**6, height=data.train.height * 10**6)
    with pytest.raises(ValueError, match=r"data\.cache_folder"):
        cache_on_disk(order_of(config, data, instances=vast), tmp_path)


def test_pictures_of_several_sizes_are_refused_on_a_device(corpus, small, media, tmp_path):
    import av

    moved = tmp_path / "videos"
    shutil.copytree(media, moved)
    odd = sorted(moved.glob("**/*.mp4"))[0]
    with av.open(str(odd)) as source:
        frames = [frame.reformat(width=96, height=48) for frame in source.decode(video=0)]
        rate = source.streams.video[0].average_rate
    with av.open(str(moved / "odd.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.float32), "fltp", "mono")
        silence.sample_rate, silence.pts = 16000, 0
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    manifest = tmp_path / "corpus.parquet"
    api.scan([str(moved)], manifest, workers=0)
    with pytest.raises(ValueError, match="several"):
        open_data(config_of(manifest, small, "data.cache=device"))


def test_stores_give_back_what_was_put_in(tmp_path):
    rng = np.random.default_rng(0)
    blocks = [rng.integers(0, 256, size, dtype=np.uint8) for size in (1, 0, 64, 1000, 77)]
    for store in (SharedStore(), FileStore(tmp_path / "bytes")):
        places = [store.append(block) for block in blocks]
        if isinstance(store, FileStore):
            store.close()
            store = pickle.loads(pickle.dumps(store))
        for block, place in zip(blocks, places, strict=True):
            assert np.array_equal(store.read(place, len(block)), block)
