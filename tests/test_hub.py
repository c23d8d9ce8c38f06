"""Upload to and download from a stand-in of the hub on this machine."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from earsight import api, hub

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")

SHA = "0123456789abcdef0123456789abcdef01234567"


class StandIn(BaseHTTPRequestHandler):
    """As much of the hub as an upload and a download ask for; keeps one model's files."""

    protocol_version = "HTTP/1.1"
    exists = False

    def log_message(self, *_):
        pass

    def answer(self, body, status=200, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def received(self):
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def do_POST(self):
        path, body, server = urlsplit(self.path).path, self.received(), self.server
        if path == "/api/repos/create":
            if self.exists:
                told = {"error": "You already created it", "url": f"{server.url}/me/heard"}
                self.answer(told, 409)
                return
            server.private |= json.loads(body).get("visibility") == "private"
            self.answer({"url": f"{server.url}/me/heard"})
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif path == "/api/models/me/heard/commit/main":
            self.commit(body)
            self.answer({"commitUrl": f"{server.url}/me/heard/commit/{SHA}", "commitOid": SHA})
        else:
            self.answer({"error": "no such thing"}, 404)

    def commit(self, body):
        self.server.commits += 1
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.files[line["value"]["path"]] = base64.b64decode(
                    line["value"]["content"]
                )

    def do_GET(self):
        path, files = unquote(urlsplit(self.path).path), self.server.files
        resolve = f"/me/heard/resolve/{SHA}/"
        if path == "/api/models/me/heard":
            self.answer({"id": "me/heard", "private": self.server.private, "siblings": []})
        elif path == "/api/models/me/heard/revision/main":
            self.answer({"id": "me/heard", "sha": SHA, "siblings": []})
        elif path == f"/api/models/me/heard/tree/{SHA}":
            self.answer(
                [
                    {"type": "file", "path": n, "size": len(x), "oid": hashlib.sha1(x).hexdigest()}
                    for n, x in files.items()
                ]
            )
        elif path.startswith(resolve) and path.removeprefix(resolve) in files:
            data = files[path.removeprefix(resolve)]
            etag = f'"{hashlib.sha1(data).hexdigest()}"'
            self.answer(data, headers=[("ETag", etag), ("X-Repo-Commit", SHA)])
        else:
            code = ("X-Error-Code", "RepoNotFound")
            self.answer({"error": "Repository not found"}, 404, [code])

    def do_HEAD(self):
        self.do_GET()


@pytest.fixture
def stand_in():
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.files, server.private, server.commits = {}, False, 0
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def python(tmp_path):
    """Runs Python with a hub at a URL and a cache of its own: both are read at the import."""

    def run(url, *arguments):
        environment = {
            **{n: x for n, x in os.environ.items() if not n.startswith(("HF_", "HUGGING"))},
            "HF_ENDPOINT": url,
            "HF_HOME": str(tmp_path / "hub"),
            "HF_TOKEN": "none-of-ours",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",
        }
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_run_goes_to_the_hub_and_back(stand_in, python, finished, corpus):
    command = ["-m", "earsight", "export", str(finished), "--push", "me/heard", "--private"]
    done = python(stand_in.url, *command, "--licence", "apache-2.0", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["uploaded"] == f"{stand_in.url}/me/heard/commit/{SHA}"
    assert (stand_in.commits, stand_in.private) == (1, True)
    assert set(stand_in.files) == {"README.md", "config.yaml", "encoders.safetensors"}
    assert not any(str(corpus.parent).encode() in data for data in stand_in.files.values())
    assert b'download("me/heard")' in stand_in.files["README.md"]
    code = "from earsight.hub import download; print(download('me/heard'))"
    back = python(stand_in.url, "-c", code)
    assert back.returncode == 0, back.stderr
    loaded, own = (
        api.load_run(hub.download(folder), torch.device("cpu"))
        for folder in (back.stdout.strip(), str(finished))
    )
    theirs = loaded.encoder.model.state_dict()
    assert all(torch.equal(x, theirs[n]) for n, x in own.encoder.model.state_dict().items())


def test_nothing_private_goes_where_everybody_sees_it(stand_in, python, finished, monkeypatch):
    # A repository that exists keeps its visibility, whatever is asked for.
    monkeypatch.setattr(StandIn, "exists", True)
    command = ["-m", "earsight", "export", str(finished), "--push", "me/heard", "--private"]
    done = python(stand_in.url, *command)
    assert done.returncode == 2
    assert "exists already and everybody can see it" in done.stderr
    assert stand_in.files == {}


@pytest.mark.parametrize(
    "url", [None, "http://127.0.0.1:9"], ids=["no such model", "nothing there"]
)
def test_what_the_hub_refuses_is_one_line(stand_in, python, url):
    code = (
        "from earsight import cli, hub\n"
        "class Get:\n"
        "    def run(self): hub.download('me/other')\n"
        "raise SystemExit(cli.guarded(Get()))"
    )
    done = python(url or stand_in.url, "-c", code)
    assert done.returncode == 1
    assert done.stderr.startswith("earsight: me/other: the hub cannot be used (")
    assert len(done.stderr.splitlines()) == 1


def plugged(files, name):
    """Files of a model whose settings name a plugin."""
    tree = yaml.safe_load(files["config.yaml"]) | {"plugins": [name]}
    return files | {"config.yaml": yaml.safe_dump(tree).encode()}


def test_plugins_of_a_download_are_not_imported_unasked(stand_in, python, finished, tmp_path):
    done = python(stand_in.url, "-m", "earsight", "export", str(finished), "--push", "me/heard")
    assert done.returncode == 0, done.stderr
    stand_in.files = plugged(stand_in.files, "theirs")
    (tmp_path / "theirs.py").write_text("print('their code has run')")
    code = "import earsight; earsight.load('hf://me/heard@main', device='cpu')"
    done = python(stand_in.url, "-c", code)
    assert done.returncode == 1
    assert "their code has run" not in done.stdout
    line = done.stderr.splitlines()[-1]
    assert line.startswith("ValueError: me/heard names plugins, whose code would run here: theirs")
    assert "`import theirs` before this" in line
    done = python(stand_in.url, "-c", f"import theirs; {code}")
    assert done.returncode == 0, done.stderr
    # The weights hold settings of their own, which are read for what they name all the same.
    stand_in.files = plugged(stand_in.files, "json")
    with safe_open(finished / "encoders.safetensors", framework="pt") as file:
        metadata = file.metadata()
    tree = json.loads(metadata["config"]) | {"plugins": ["theirs"]}
    tensors = load_file(finished / "encoders.safetensors")
    save_file(tensors, tmp_path / "x.safetensors", metadata | {"config": json.dumps(tree)})
    stand_in.files["encoders.safetensors"] = (tmp_path / "x.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "hub")
    done = python(stand_in.url, "-c", code)
    assert "would run here: theirs" in done.stderr


def test_a_folder_is_its_own_download(finished, tmp_path):
    api.export(finished, tmp_path / "out")
    assert hub.download(str(tmp_path / "out")) == tmp_path / "out"
    with pytest.raises(ValueError, match="revision: has no effect on the folder"):
        hub.download(str(tmp_path / "out"), "main")


@pytest.mark.parametrize("name", ["heard", "me/heard/again", "me/he ard", "../x/y"])
def test_a_name_that_is_none_is_refused(finished, name):
    with pytest.raises(ValueError, match="write OWNER/NAME"):
        hub.save_to_hub(finished, name)
    with pytest.raises(ValueError, match="write OWNER/NAME"):
        hub.download(name)


def test_without_the_extra_it_is_named(finished, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install 'earsight\[hub\]'"):
        hub.save_to_hub(finished, "me/heard")
    with pytest.raises(ValueError, match=r"pip install 'earsight\[hub\]'"):
        hub.download("me/heard")
