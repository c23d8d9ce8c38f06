"""Shards are used as any corpus is: to train, go on, evaluate, embed, report and look at."""

import dataclasses
import os
import shutil
import uuid
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
import torch

import forked
from earsight import api
from earsight.corpus.clips import EvaluationClips, TrainingClips
from earsight.corpus.loader import load
from earsight.corpus.manifest import MEMBER_FIELDS, read
from earsight.corpus.manifest import write as write_manifest
from earsight.corpus.shards.prepare import prepare
from earsight.corpus.split import usable
from earsight.media.members import open_member, parse_member
from earsight.media.nearby import FOLDER
from earsight.media.types import Coding
from earsight.search.index import read_index
from earsight.training.resume import last_checkpoint
from earsight.training.setup import clip_settings, open_data

QUICK = Coding(preset="ultrafast", crf=18, short_side=96, rate=16000)
RATE = "audio.rate=16000"


def config_of(corpus, small, *settings):
    return api.configure("tiny", settings=[*small, f"data.corpus={corpus}", RATE, *settings])


def batches(config, data, *, workers=0, count=4):
    clips = TrainingClips(data.train, clip_settings(config), batch=4, views=2, source=data.source)
    return list(load(clips, range(count), config.data, workers=workers))


@pytest.fixture
def folder(shards, tmp_path):
    """A copy that may be changed."""
    copy = tmp_path / "shards"
    shutil.copytree(shards.folder, copy)
    return copy


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_clips_are_drawn_as_from_the_files(shards, manifest, small, workers):
    theirs, ours = (config_of(corpus, small) for corpus in (manifest, shards.folder))
    found, expected = (
        batches(config, open_data(config), workers=workers) for config in (ours, theirs)
    )
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.row, other.row)
        assert torch.allclose(one.start, other.start, atol=1e-9)
        assert not one.failures
        for mine, his in zip(one.views, other.views, strict=True):
            assert torch.allclose(mine["audio"], his["audio"], atol=2e-3)
            error = (mine["video"].double() - his["video"].double()).square().mean()
            assert 10 * torch.log10(255**2 / error) > 25  # crops are enlarged


@pytest.mark.parametrize("cache", ["memory", "disk", "device"])
def test_shards_are_cached_as_files_are(shards, small, cache, tmp_path):
    place = (f"data.cache_folder={tmp_path}",) if cache == "disk" else ()
    plain, cached = (
        config_of(shards.folder, small, *more) for more in ((), (f"data.cache={cache}", *place))
    )
    found, expected = (batches(config, open_data(config)) for config in (cached, plain))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.views[0]["audio"], other.views[0]["audio"])
        if cache != "device":
            assert torch.equal(one.views[0]["video"], other.views[0]["video"])


def test_a_run_goes_on_from_the_prepared_form_of_its_corpus(shards, manifest, small, tmp_path):
    run = tmp_path / "run"
    first = config_of(manifest, small, "train.epochs=1", "optimizer.milestones=[1,54]")
    api.pretrain(first, run, quiet=True)
    settings = [f"data.corpus={shards.folder}", "train.epochs=2"]
    config = api.run_config(
        run, preset=None, config=None, corpus=None, settings=settings, resume=True
    )
    api.pretrain(config, run, resume=True, quiet=True)
    assert str(shards.folder) in (run / "config.yaml").read_text()
    whole = tmp_path / "whole"
    api.pretrain(config_of(manifest, small, "train.epochs=2"), whole, quiet=True)
    mixed, plain = (
        torch.load(next(iter(sorted(r.glob("checkpoints/*"), reverse=True)))) for r in (run, whole)
    )
    assert torch.equal(mixed["keys"], plain["keys"])
    lines = (run / "metrics.jsonl").read_text()
    assert '"failures": 0' in lines or "failures" in lines


def test_segments_in_which_nothing_changes_count_as_they_did(tmp_path):
    """A recording of a screen: 50 frames in 5 s, then one at the end, and sound throughout."""
    film = tmp_path / "media" / "screen.mkv"
    film.parent.mkdir()
    with av.open(str(film), "w") as container:
        pictures = container.add_stream("libx264", rate=10)
        pictures.width = pictures.height = 64
        pictures.pix_fmt = "yuv420p"
        pictures.codec_context.time_base = Fraction(1, 10)
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for tick in (*range(50), 399):
            frame = av.VideoFrame.from_ndarray(
                np.full((64, 64, 3), 4 * (tick % 60), np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = tick, Fraction(1, 10)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        for at in range(0, 16000 * 40, 1000):
            heard = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), "fltp", "mono")
            heard.sample_rate, heard.pts = 16000, at
            container.mux(sound.encode(heard))
        container.mux(sound.encode())
    api.scan([str(film.parent)], tmp_path / "c.parquet", segment="10s", workers=0)
    prepare(tmp_path / "c.parquet", tmp_path / "s", coding=QUICK, workers=0)
    files, made = read(tmp_path / "c.parquet"), read(tmp_path / "s")
    assert len(files) == 4
    assert usable(made).mask.tolist() == usable(files).mask.tolist() == [True] * 4


def test_everything_else_reads_shards_too(shards, small, tmp_path):
    run = tmp_path / "run"
    config = config_of(shards.folder / "corpus.parquet", small, "train.epochs=1")
    api.pretrain(config, run, quiet=True)
    assert api.evaluate(run, "retrieve").rows
    report = api.embed(run, shards.folder, tmp_path / "index", workers=0)
    assert report.files == shards.report.clips
    assert not report.failures
    found = api.search(tmp_path / "index", Path(shards.corpus.absolutes()[1]), count=3)
    assert found.hits[0].path == shards.corpus.column("path")[1]
    api.report([run], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "data:video/mp4" in page
    assert "there is no such file" not in page
    check_library(read_index(tmp_path / "index"))


def check_library(index):
    """Files of an index are found in their shards."""
    pytest.importorskip("fastapi")
    from earsight.serve.library import open_library
    from earsight.serve.limits import RefusedError
    from earsight.serve.pictures import picture

    library = open_library(index)
    file = library.files[0]
    assert file.media_type == "video/mp4"
    member = parse_member(str(file.locate()))
    assert open_member(member).read(12)[4:8] == b"ftyp"
    assert picture(index, file, int(file.items[0]))[1][:2] == b"\xff\xd8"
    outside = dataclasses.replace(file, root=Path("/usr"))
    with pytest.raises(RefusedError, match="out of the folder"):
        outside.locate()


def test_a_damaged_clip_is_named_and_replaced(folder, small):
    config = config_of(folder, small, "data.max_failures=0.5")
    data = open_data(config)
    expected = batches(config, data)
    row = int(expected[0].row[0])
    corpus = read(folder)
    at = corpus.column("key").tolist().index(int(data.train.key[row]))
    archive, name = corpus.column("path")[at].split("/")
    content = bytearray((folder / archive).read_bytes())
    content[corpus.table.column("offset")[at].as_py() + 2000] ^= 255
    # Another place, so that this process has not seen it yet.
    moved = folder.with_name(f"moved-{uuid.uuid4()}")
    folder.rename(moved)
    (moved / archive).write_bytes(content)
    config = config_of(moved, small, "data.max_failures=0.5")
    found = batches(config, open_data(config))
    (failure, *_) = found[0].failures
    assert name in failure.path
    assert "checksum" in failure.reason
    assert len(found[0]) == 4
    assert int(found[0].row[0]) != row


def test_a_missing_shard_is_one_sentence(folder, small):
    (folder / "00001.tar").unlink()
    with pytest.raises(ValueError, match=r"shard 00001\.tar is missing, of \d+; copy it there"):
        open_data(config_of(folder, small))


def test_too_many_clips_that_could_not_be_prepared_are_told_of(folder, small):
    corpus = read(folder)
    table = corpus.table
    some = np.arange(len(corpus)) % 3 == 0
    for name in MEMBER_FIELDS.names[:3]:
        values = [
            None if out else x for out, x in zip(some, table.column(name).to_pylist(), strict=True)
        ]
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(values, table.schema.field(name).type))
    write_manifest(replace(corpus, table=table, roots={"#shards": "."}), folder / "corpus.parquet")
    with pytest.raises(ValueError, match="clips could not be prepared, such as"):
        open_data(config_of(folder, small))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("audio.rate=24000", "audio.rate: the corpus was prepared at 16000 .* --rate 24000"),
    ],
)
def test_settings_that_ask_for_more_are_refused(shards, small, setting, message):
    with pytest.raises(ValueError, match=message):
        open_data(config_of(shards.folder, small, setting))


def test_larger_pictures_than_prepared_are_refused(manifest, small, tmp_path):
    coding = Coding(preset="ultrafast", short_side=48, rate=16000)
    prepare(manifest, tmp_path / "s", coding=coding, workers=0)
    wanted = r"video\.size: .* short side of 48 pixels, and 56 .* --short-side 56"
    with pytest.raises(ValueError, match=wanted):
        open_data(config_of(tmp_path / "s", small, "video.size=56"))
    wanted = r"video\.short_side: .* and 64 .* --short-side 64"
    with pytest.raises(ValueError, match=wanted):
        open_data(
            config_of(
                tmp_path / "s",
                small,
                "video.short_side=64",
                "video.crop_area=[0.08,1.0]",
                "video.crop_ratio=[0.75,1.3333333333333333]",
            )
        )
    assert open_data(config_of(tmp_path / "s", small, "video.size=48"))


def test_frames_faster_than_prepared_are_refused(manifest, small, tmp_path):
    coding = Coding(preset="ultrafast", short_side=96, rate=16000, fps=5)
    prepare(manifest, tmp_path / "s", coding=coding, workers=0)
    with pytest.raises(ValueError, match=r"video\.fps: the corpus was prepared at 5 .* --fps 16"):
        open_data(config_of(tmp_path / "s", small, "video.fps=16"))
    assert open_data(config_of(tmp_path / "s", small, "video.fps=5"))
    # Sound alone asks nothing of the pictures.
    assert open_data(config_of(tmp_path / "s", small, "video.fps=16"), task="audio")


def test_films_slower_than_the_limit_may_be_asked_for_more(shards, small):
    """Nothing was cut off them: the files have no more frames than that, either."""
    assert open_data(config_of(shards.folder, small, "video.fps=25"))


@pytest.fixture
def elsewhere(shards):
    """The shards in fsspec's memory; their address."""
    fsspec = pytest.importorskip("fsspec")
    place = f"memory://{uuid.uuid4()}/shards"
    for path in shards.folder.iterdir():
        with fsspec.open(f"{place}/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    return place


@pytest.mark.parametrize("named", ["folder", "manifest"])
def test_shards_elsewhere_are_read_where_they_are(shards, elsewhere, small, named):
    place = elsewhere if named == "folder" else f"{elsewhere}/corpus.parquet"
    far, near = (config_of(corpus, small) for corpus in (place, shards.folder))
    found, expected = (batches(config, open_data(config)) for config in (far, near))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.views[0]["video"], other.views[0]["video"])
        assert torch.equal(one.views[0]["audio"], other.views[0]["audio"])


def test_a_missing_shard_elsewhere_is_one_sentence(elsewhere, small):
    fsspec = pytest.importorskip("fsspec")
    system, inside = fsspec.core.url_to_fs(f"{elsewhere}/00000.tar")
    system.rm(inside)
    with pytest.raises(ValueError, match=r"shard 00000\.tar is missing"):
        open_data(config_of(elsewhere, small))
    with pytest.raises(
        ValueError, match=r"-not/corpus\.parquet: cannot be reached, or holds no cor"
    ):
        open_data(config_of(f"{elsewhere}-not", small))


def test_copies_that_find_no_room_end_a_run_that_goes_on_later(
    shards, small, tmp_path, monkeypatch
):
    pytest.importorskip("fsspec")
    # To fsspec, such an address begins at the working folder.
    monkeypatch.chdir("/")
    run, place = tmp_path / "run", f"local:/{shards.folder}"
    config = config_of(place, small, "train.epochs=1")
    api.pretrain(config, run, quiet=True)
    before = last_checkpoint(run)
    (tmp_path / "full").write_text("")
    command = ["pretrain", "-o", str(run), "--resume", "train.epochs=2", "data.workers=1"]

    def resumed(folder):
        environment = {**os.environ, FOLDER: str(tmp_path / folder)}
        return forked.run(["-m", "earsight", *command], env=environment)

    done = resumed("full")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("earsight:")]
    assert f"no copy of {place}/0000" in line
    assert "Traceback" not in done.stderr
    assert last_checkpoint(run)["step"] == before["step"]
    done = resumed("room")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "room").glob("*.tar"))
    assert last_checkpoint(run)["step"] == 2 * before["step"]


def test_an_address_is_given_as_a_corpus_on_the_command_line(elsewhere):
    config = api.run_config(
        Path("run"), preset="tiny", config=None, corpus=Path(elsewhere), settings=[], resume=False
    )
    assert config.data.corpus == elsewhere


def test_a_manifest_here_cannot_point_elsewhere(shards, tmp_path):
    corpus = replace(shards.corpus, roots={"#shards": "http://127.0.0.1:9/shards"})
    write_manifest(corpus, tmp_path / "corpus.parquet")
    with pytest.raises(ValueError, match="media lie elsewhere"):
        read(tmp_path / "corpus.parquet")


def test_evaluation_clips_come_from_shards(shards, small):
    config = config_of(shards.folder, small)
    data = open_data(config)
    rows = np.arange(len(data.held_out))
    clips = EvaluationClips(data.held_out, clip_settings(config), rows=rows, batch=4, clips=2)
    assert sum(len(clips[n]) for n in range(len(clips))) == len(rows)


def test_the_demo_trains_on_shards_by_commands(manifest, small, tmp_path):
    def run(*words):
        return forked.run(["-m", "earsight", *map(str, words)], tmp_path)

    done = run("prepare", manifest, "-o", "shards", "--short-side", "96", "--workers", "1")
    assert done.returncode == 0, done.stderr
    settings = [*small, "train.epochs=1"]
    done = run("pretrain", "--preset", "tiny", "--corpus", "shards", "-o", "run", *settings)
    assert done.returncode == 0, done.stderr
    done = run("pretrain", "--preset", "tiny", "--corpus", "shards", "-o", "r", "audio.rate=48000")
    assert done.returncode == 2
    assert "--rate 48000" in done.stderr
