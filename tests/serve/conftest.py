"""A served index: the real command on a free port, and a client that sends whatever it is told."""

import http.client
import json
import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pytest

from earsight import api

FILMS = 8
MAX_MB = 1


def write_tone(path, seconds=3.0, rate=16000, hertz=440.0):
    """A tone, as a WAV file."""
    wave = (8000 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(
        np.int16
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], layout="mono")
        frame.rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def form(content, name="clip.mp4", field_name="file", extra=b""):
    """Headers and body of a form with one file."""
    boundary = uuid.uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field_name}"; '
        f'filename="{name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
    ).encode()
    body = head + content + f"\r\n--{boundary}--\r\n".encode()
    return {"Content-Type": f"multipart/form-data; boundary={boundary}"}, extra + body


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self):
        return self.body.decode()


@dataclass(kw_only=True)
class Server:
    process: subprocess.Popen
    port: int
    root: Path
    temporary: Path
    made: list = field(default_factory=list)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, path="/", method="GET", headers=None, body=None, host=None):
        """One request, written as it is given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            own = {"Host": host or f"127.0.0.1:{self.port}"}
            for name, value in {**own, **(headers or {})}.items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def upload(self, content, name="clip.mp4", headers=None):
        """Search with a file; the redirect is followed where there is one."""
        own, body = form(content, name)
        answer = self.ask("/search", "POST", {**own, **(headers or {})}, body)
        return self.ask(answer.headers["Location"]) if answer.status == 303 else answer

    def memory(self):
        """Resident megabytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def handles(self):
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def children(self):
        task = Path(f"/proc/{self.process.pid}/task")
        return [pid for one in task.iterdir() for pid in (one / "children").read_text().split()]


@pytest.fixture(scope="session")
def served(media, finished, tmp_path_factory):
    """A folder of videos and a sound, and its index: one video is a link out of the folder, and one
    was deleted since."""
    place = tmp_path_factory.mktemp("served")
    videos, outside = place / "videos", place / "outside"
    videos.mkdir()
    outside.mkdir()
    films = sorted((media / "test").glob("*.mp4"))
    for film in films[:FILMS]:
        shutil.copy(film, videos)
    shutil.copy(films[FILMS], outside / "secret.mp4")
    (videos / "link.mp4").symlink_to(outside / "secret.mp4")
    shutil.copy(films[FILMS + 1], videos / "gone.mp4")
    write_tone(videos / "tone.wav")
    lines = ["path,shape,sound"]
    for line in (media / "labels.csv").read_text().splitlines()[1:]:
        path, *rest = line.split(",")
        if path.startswith("test/") and (videos / Path(path).name).exists():
            lines.append(f"{Path(path).name},{rest[-2]},a;b")
    (place / "labels.csv").write_text("\n".join([*lines, "tone.wav,none,b"]))
    api.scan([str(videos)], place / "corpus.parquet", labels=place / "labels.csv", workers=0)
    api.embed(finished, place / "corpus.parquet", place / "index", window=1.0, hop=0.5, workers=0)
    (videos / "gone.mp4").unlink()
    return place


def start(index, temporary, *more):
    """The command, listening."""
    command = [sys.executable, "-m", "earsight", "serve", str(index), "--port", "0", "--json"]
    process = subprocess.Popen(
        [*command, *more],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    lines = []
    while not lines or lines[-1] != "}\n":
        lines.append(process.stdout.readline())
        assert lines[-1], f"the server ended: {process.wait()}"
    return process, json.loads("".join(lines))


@pytest.fixture(scope="session")
def server(served, tmp_path_factory):
    temporary = tmp_path_factory.mktemp("temporary")
    process, said = start(served / "index", temporary, "--max-upload", str(MAX_MB))
    port = int(said["url"].rsplit(":", 1)[1].strip("/"))
    yield Server(process=process, port=port, root=served, temporary=temporary)
    process.terminate()
    process.wait(timeout=20)
    process.stdout.close()
    assert list(temporary.iterdir()) == []
