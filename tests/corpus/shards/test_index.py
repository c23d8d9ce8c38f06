"""The index of a shard: what was put in is what lies there; and others can read it."""

import io
import json
import subprocess
import sys
import tarfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earsight.corpus.shards.plan import make_plan
from earsight.corpus.shards.write import (
    Contents,
    ShardWriter,
    archive_name,
    read_contents,
    write_contents,
)
from earsight.media.members import Member, open_member
from earsight.media.transcode import Made

CLIPS = st.dictionaries(
    st.integers(0, 2**64 - 1),
    st.one_of(st.binary(max_size=3000), st.text(max_size=20)),
    max_size=12,
)


@given(CLIPS)
@settings(max_examples=60, deadline=None)
def test_what_was_put_in_lies_where_the_index_says(tmp_path_factory, clips):
    folder = tmp_path_factory.mktemp("shard")
    with (folder / archive_name(3)).open("wb") as file:
        writer = ShardWriter(file)
        for key, what in clips.items():
            if isinstance(what, str):
                writer.fail(key, what)
            else:
                writer.add(
                    key, Made(content=what, times=(0.0,), keyframes=(0.0,)), {"ä": what.hex()}
                )
        contents = writer.finish()
    write_contents(folder, 3, contents)
    assert read_contents(folder, 3) == contents
    assert contents.failed == {key: what for key, what in clips.items() if isinstance(what, str)}
    whole = (folder / archive_name(3)).read_bytes()
    assert contents.size == len(whole)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        lies = {info.name: (info.offset_data, info.size) for info in tar}
    for key, what in clips.items():
        if isinstance(what, str):
            continue
        place = contents.placed[key]
        assert lies[f"{key:016x}.mp4"] == (place.offset, place.length)
        assert whole[place.offset : place.offset + place.length] == what
        assert place.checksum == zlib.crc32(what)
        member = Member(
            archive=str(folder / archive_name(3)),
            name=f"{key:016x}.mp4",
            offset=place.offset,
            length=place.length,
            checksum=place.checksum,
        )
        assert open_member(member).read() == what


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"size": 3}',
        b"nothing",
        b"\xff\xfe\x00",
        b'{"schema": 1, "size": 4, "placed": [], "failed": {}}',
        b'{"schema": 1, "size": 4, "placed": {"no key": {}}, "failed": {}}',
        b'{"schema": 1, "size": 4, "placed": {}, "failed": []}',
    ],
)
def test_an_index_that_is_no_index_means_no_shard(tmp_path, content):
    (tmp_path / "00000.tar").write_bytes(b"tar!")
    (tmp_path / "00000.json").write_bytes(content)
    assert read_contents(tmp_path, 0) is None


def test_an_archive_of_another_size_is_not_whole(tmp_path):
    write_contents(tmp_path, 0, Contents(size=4))
    assert read_contents(tmp_path, 0) is None
    (tmp_path / "00000.tar").write_bytes(b"tar!")
    assert read_contents(tmp_path, 0) == Contents(size=4)


@given(st.floats(0.5, 40))
@settings(max_examples=20, deadline=None)
def test_shards_take_turns_in_the_order_of_the_manifest(shards, seconds):
    plan = make_plan(shards.corpus, shards.corpus.prepared, seconds)
    assert (np.diff(plan.rows) > 0).all()
    assert set(np.diff(plan.shard).tolist()) <= {0, 1}
    assert plan.shards == plan.shard[-1] + 1
    length = (shards.corpus.column("end") - shards.corpus.column("start"))[plan.rows]
    for number in range(plan.shards):
        assert length[plan.shard == number].sum() < seconds + length.max()


WEBDATASET = """
import io, json, sys
import av
import webdataset

found = {}
for sample in webdataset.WebDataset(sys.argv[1:], shardshuffle=False):
    with av.open(io.BytesIO(sample["mp4"])) as container:
        frames = sum(1 for _ in container.decode(video=0))
    found[sample["__key__"]] = [frames, json.loads(sample["json"])]
print(json.dumps(found))
"""


def test_the_webdataset_library_reads_them(shards):
    pytest.importorskip("webdataset")
    urls = [str(path) for path in sorted(shards.folder.glob("*.tar"))]
    # In a process of its own: that library leaves files to be closed by the collector.
    command = [sys.executable, "-c", WEBDATASET, *urls]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert len(found) == shards.report.clips
    for key, (frames, about) in found.items():
        assert key == about["key"]
        assert frames == about["pictures"]
