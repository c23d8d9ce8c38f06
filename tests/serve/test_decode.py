"""Uploads are decoded in a process that may take only so much."""

import signal
import subprocess
import sys
import time
from dataclasses import replace

import av
import numpy as np
import pytest
import torch

from earsight import api
from earsight.search.embedder import Embedder, Embedding
from earsight.serve.limits import RefusedError, UploadLimits
from earsight.serve.plan import read_plan
from earsight.serve.query import Queries, Query, decoding, embed_upload, plan_for

from .conftest import write_tone


@pytest.fixture(scope="module")
def embedder(finished):
    return api.load(finished, device="cpu")


@pytest.fixture(scope="module")
def plan(embedder):
    return plan_for(embedder, UploadLimits())


@pytest.fixture(scope="module")
def film(media):
    return sorted((media / "test").glob("*.mp4"))[0]


def refused(film, embedder, plan, **limits):
    with film.open("rb") as file, pytest.raises(RefusedError) as caught:
        embed_upload(file, embedder, replace(plan, limits=UploadLimits(**limits)))
    return caught.value


def write_film(path, seconds, size=64, fps=4):
    """Pictures that change."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for number in range(round(seconds * fps)):
            pixels = np.full((size, size, 3), number % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode(None))


def test_an_upload_embeds_as_its_file_does(embedder, plan, film):
    with film.open("rb") as file:
        found = embed_upload(file, embedder, plan)
    alone = embedder.embed(film)
    assert np.allclose(found.start, alone.start)
    assert set(found.vectors) == set(alone.vectors) == {"video", "audio"}
    for name, x in alone.vectors.items():
        torch.testing.assert_close(found.vectors[name], x, atol=1e-5, rtol=0)


def test_many_windows_come_in_batches(embedder, plan, tmp_path):
    write_film(tmp_path / "long.mp4", 200)
    with (tmp_path / "long.mp4").open("rb") as file, decoding(file, plan) as batches:
        sizes = [times.shape[1] for times, view in batches if set(view) == {"video"}]
    assert sizes[0] == 32
    assert sum(sizes) == len(embedder.embed(tmp_path / "long.mp4"))


def test_an_upload_ends_where_its_file_does(embedder, plan, tmp_path):
    write_tone(tmp_path / "short.wav", 0.3)
    with (tmp_path / "short.wav").open("rb") as file:
        found = embed_upload(file, embedder, plan)
    assert (len(found), found.start[0]) == (1, 0.0)
    assert found.end[0] == pytest.approx(0.3, abs=0.01)


def test_time_of_embedding_is_not_that_of_decoding(embedder, plan, tmp_path, monkeypatch):
    real = Embedder.embed_clips

    def slow(self, view):
        time.sleep(4.0)
        return real(self, view)

    write_film(tmp_path / "long.mp4", 200)
    few = replace(plan, modalities=("video",), limits=UploadLimits(decode_seconds=7.0))
    monkeypatch.setattr(Embedder, "embed_clips", slow)
    with (tmp_path / "long.mp4").open("rb") as file:
        assert len(embed_upload(file, embedder, few)) > 32


def test_a_plan_survives_its_text(plan):
    assert read_plan(plan.to_json()) == plan


def test_the_decoder_starts_without_torch():
    code = "import sys, earsight.serve.decode; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_decoder_can_write_nothing_and_open_little(tmp_path):
    code = (
        "import sys; from earsight.serve import decode, limits\n"
        "decode.restrict(limits.UploadLimits())\n"
        "try: open(sys.argv[1], 'w').write('x' * 100000)\n"
        "except OSError as error: print(error.strerror)\n"
        "try: bytearray(4 << 30)\n"
        "except MemoryError: print('memory')\n"
        "try: held = [open('/dev/null') for _ in range(100)]\n"
        "except OSError as error: print(error.strerror)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["File too large", "memory", "Too many open files"]
    assert (tmp_path / "file").stat().st_size == 0


def test_the_decoder_ends_when_its_computing_is_over():
    code = (
        "from earsight.serve import decode, limits\n"
        "decode.restrict(limits.UploadLimits(decode_cpu=1))\n"
        "while True: pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=300)
    assert done.returncode in (-signal.SIGXCPU, -signal.SIGKILL)


def test_too_much_of_anything_is_refused(embedder, plan, film):
    for faults, status, text in (
        ({"duration": 0.5}, 422, "longer than the limit of 0 s"),
        ({"pixels": 64}, 422, "more than the limit"),
        ({"decode_seconds": 0.05}, 422, "longer to decode than the limit of 0.05 s"),
    ):
        error = refused(film, embedder, plan, **faults)
        assert error.status == status
        assert text in str(error), str(error)


def test_too_much_memory_is_refused(embedder, plan, tmp_path):
    write_film(tmp_path / "large.mp4", 2, size=4096, fps=1)
    error = refused(tmp_path / "large.mp4", embedder, plan, decode_memory=400 * 2**20)
    assert error.status == 422
    assert "memory" in str(error) or "asks for more than it may have" in str(error), str(error)


def test_queries_are_forgotten_in_their_order():
    queries = Queries(kept=2)
    empty = Embedding(start=np.zeros(1), end=np.ones(1), vectors={})
    names = [queries.add(Query(name=n, seconds=1.0, embedding=empty)) for n in "abc"]
    assert [queries.get(name).name for name in names[1:]] == ["b", "c"]
    with pytest.raises(RefusedError, match="drop the file again"):
        queries.get(names[0])
