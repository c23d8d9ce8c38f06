"""Requests that mean harm: each a clear 4xx, nothing read or written outside, nothing left."""

import asyncio
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from earsight import api
from earsight.search.index import read_index
from earsight.serve import upload
from earsight.serve.app import build_app
from earsight.serve.library import open_library
from earsight.serve.limits import UploadLimits

from .conftest import MAX_MB, form

PASSWD = "root:x:0:0"
OUTSIDE = [
    "../../../../etc/passwd",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "file:///etc/passwd",
    "..%5c..%5cetc%5cpasswd",
    "0%00.mp4",
    "-1",
    "999999999",
    "99999999999999999999999999",
    "1e3",
    "%D9%A1",
    "0;id",
    "%3Cscript%3E",
]
ROUTES = [
    "/media/{}",
    "/picture/{}",
    "/item/{}",
    "/static/{}",
    "/{}",
    "/item/0?by={}",
    "/item/0?count={}",
    "/item/0?every={}",
    "/item/0?label.shape={}",
    "/item/0?{}=1",
    "/?label.shape={}",
    "/?count={}",
    "/?first={}",
    "/?every={}",
    "/?path={}",
    "/search?query={}",
    "/media/0?path={}",
    "/picture/0?path={}",
]


@pytest.fixture
def untouched(server):
    """Whatever was asked, the server is as it was: files, handles, processes and memory."""
    film = (server.root / "videos" / "0000.mp4").read_bytes()
    assert server.upload(film).status == 200  # what is only made once has been made
    before = server.memory(), server.handles()
    yield
    wait_until(lambda: server.handles() <= before[1] and not server.children())
    assert server.ask().status == 200
    assert list(server.temporary.iterdir()) == []
    assert server.memory() < before[0] + 24


def wait_until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not come back to where it was"
        time.sleep(0.05)


@pytest.mark.parametrize("route", ROUTES)
def test_traversal_in_every_parameter(server, route):
    for text in OUTSIDE:
        answer = server.ask(route.format(text))
        assert 400 <= answer.status < 500, (route, text, answer.status)
        assert PASSWD not in answer.text
        assert "<script>" not in answer.text


def test_an_absolute_address_is_no_way_out(server):
    assert server.ask("file:///etc/passwd").status in (400, 404)
    assert server.ask("//etc/passwd").status == 404
    answer = server.ask("http://example.org/")
    # It is no proxy: nothing of another host is fetched or shown.
    assert (answer.status, "There is no such page" in answer.text) == (404, True)


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "example.org:{}",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1:{}.evil.org",
        "[::1]:{}",
    ],
)
def test_other_hosts_are_refused(server, host):
    for path in ("/", "/media/0", "/static/serve.css"):
        answer = server.ask(path, host=host.format(server.port))
        assert (answer.status, answer.text.split()[:2]) == (421, ["This", "server"])
    assert server.ask(host=f"LOCALHOST:{server.port}").status == 200


@pytest.mark.parametrize(
    "origin",
    ["http://example.org", "null", "https://127.0.0.1:{}", "http://127.0.0.1:1", "http://"],
)
def test_other_origins_are_refused(server, origin):
    headers, body = form(b"anything")
    origin = {"Origin": origin.format(server.port)}
    assert server.ask("/search", "POST", {**headers, **origin}, body).status == 403
    assert server.ask("/", headers=origin).status == 403


def test_other_pages_may_not_show_or_send_anything(server):
    for site in ("cross-site", "same-site"):
        for mode, dest in (("no-cors", "video"), ("cors", "empty"), ("navigate", "iframe")):
            fetch = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
            assert server.ask("/media/0", headers=fetch).status == 403
    visit = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    link = {"Sec-Fetch-Site": "cross-site", **visit}
    assert server.ask("/", headers=link).status == 200
    headers, body = form(b"anything")
    assert server.ask("/search", "POST", {**headers, **link}, body).status == 403
    answer = server.ask("/")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_other_methods_are_refused(server):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert server.ask("/", method, body=b"").status == 405
    assert server.ask("/search", "PUT", body=b"").status == 405


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.mp4", b"this is no media file\n" * 1000),
        ("empty.mp4", b""),
        ("zeros.mp4", bytes(100_000)),
        ("page.mp4", b"<!doctype html><script>alert(1)</script>"),
        ("picture.png", b"\x89PNG\r\n\x1a\n" + bytes(1000)),
        ("cut.mp4", None),
        ("../../../../tmp/evil.mp4", b"x"),
    ],
)
def test_an_upload_that_is_no_media(server, name, content):
    if content is None:
        content = (server.root / "videos" / "0000.mp4").read_bytes()[:3000]
    answer = server.upload(content, name)
    assert answer.status in (415, 422)
    assert re.search(r'role="alert"><p>The file .+\.</p>', answer.text)


@pytest.mark.usefixtures("untouched")
def test_a_playlist_reaches_neither_files_nor_the_network(server):
    with socket.create_server(("127.0.0.1", 0)) as bait:
        bait.settimeout(0.2)
        url = f"http://127.0.0.1:{bait.getsockname()[1]}/a.ts"
        film = server.root / "videos" / "0001.mp4"
        lists = [
            f"#EXTM3U\n#EXTINF:1,\n{film}\n#EXT-X-ENDLIST\n",
            f"#EXTM3U\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n",
            f"ffconcat version 1.0\nfile {film}\n",
            f"[playlist]\nFile1={url}\n",
            f"<MPD><BaseURL>{url}</BaseURL></MPD>",
        ]
        for content in lists:
            for name in ("list.m3u8", "list.mp4"):
                answer = server.upload(content.encode(), name)
                assert answer.status == 415
                assert "playlists are not followed" in answer.text
        with pytest.raises(TimeoutError):
            bait.accept()


@pytest.mark.usefixtures("untouched")
def test_an_upload_over_the_limit(server):
    answer = server.upload(bytes(MAX_MB * 2**20 + 1))
    assert answer.status == 413
    assert "larger than the limit of 1 MB" in answer.text


@pytest.mark.usefixtures("untouched")
def test_an_upload_over_the_limit_that_does_not_say_so(server):
    headers, body = form(bytes(2 * MAX_MB * 2**20))
    with connected(server) as peer:
        send_head(server, peer, {**headers, "Transfer-Encoding": "chunked"})
        for at in range(0, len(body), 60_000):
            some = body[at : at + 60_000]
            peer.sendall(f"{len(some):x}\r\n".encode() + some + b"\r\n")
        assert status_of(peer) == 413


@pytest.mark.usefixtures("untouched")
def test_a_gigabyte_declared_and_a_byte_sent(server):
    headers, _ = form(b"")
    with connected(server) as peer:
        began = time.monotonic()
        send_head(server, peer, {**headers, "Content-Length": str(10**9)})
        peer.sendall(b"x")
        assert status_of(peer) == 413
        assert time.monotonic() - began < 5
    for length in ("-1", "1e9", "9" * 30):
        with connected(server) as peer:
            send_head(server, peer, {**headers, "Content-Length": length})
            assert status_of(peer) in (400, 413)


@pytest.mark.usefixtures("untouched")
def test_an_upload_that_breaks_off(server):
    headers, body = form(bytes(500_000))
    for _ in range(5):
        with connected(server) as peer:
            send_head(server, peer, {**headers, "Content-Length": str(len(body))})
            peer.sendall(body[:100_000])
    # All five have left, so that another may come in.
    film = (server.root / "videos" / "0001.mp4").read_bytes()
    wait_until(lambda: server.upload(film).status == 200)


@pytest.mark.usefixtures("untouched")
def test_twenty_at_once(server):
    film = (server.root / "videos" / "0001.mp4").read_bytes()
    for content, taken in ((film, 200), (b"this is no media file", 415)):
        with ThreadPoolExecutor(20) as pool:
            found = [one.status for one in pool.map(server.upload, [content] * 20)]
        assert set(found) == {taken, 429}
    assert server.upload(film).status == 200


@pytest.mark.usefixtures("untouched")
def test_forms_of_another_kind(server):
    headers, body = form(b"x", field_name="other")
    assert server.ask("/search", "POST", headers, body).status == 400
    headers, body = form(b"x")
    twice = body.replace(b"--\r\n", b"\r\n", 1) + body
    assert server.ask("/search", "POST", headers, twice).status == 400
    assert server.ask("/search", "POST", headers, b"no form at all").status == 400
    assert server.ask("/search", "POST", headers, body[:-20]).status == 400
    for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded"):
        assert server.ask("/search", "POST", {"Content-Type": kind}, b"x").status == 415
    assert server.ask("/search", "POST", body=b"").status == 415
    long = {"Content-Type": "multipart/form-data; boundary=" + "b" * 2000}
    assert server.ask("/search", "POST", long, b"x").status == 400
    many = body.replace(b"Content-Type", b"X-A: b\r\n" * 2000 + b"Content-Type", 1)
    assert server.ask("/search", "POST", headers, many).status == 400


def posted(served, finished, body, **limits):
    """The first answers to a form that is sent to a server of its own: status and text."""
    library = open_library(read_index(served / "index"))
    app = build_app(library, api.load(finished, device="cpu"), UploadLimits(**limits), ["here:1"])
    headers, whole = form(b"" if body is None else body)
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/search",
        "raw_path": b"/search",
        "query_string": b"",
        "headers": [(b"host", b"here:1"), (b"content-type", headers["Content-Type"].encode())],
        "http_version": "1.1",
        "scheme": "http",
    }

    async def receive():
        if body is None:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": whole, "more_body": False}

    async def ask():
        sent = []

        async def send(message):
            sent.append(message)

        await app(scope, receive, send)
        return sent[0]["status"], sent[1]["body"].decode()

    return [asyncio.run(ask()) for _ in range(2)]


def test_an_upload_that_does_not_arrive_in_time(served, finished):
    # The first leaves its place to the second.
    for status, text in posted(served, finished, None, seconds=0.3, at_once=1):
        assert status == 408
        assert "did not arrive within 0.3 s" in text


def test_an_upload_that_finds_no_room(served, finished, monkeypatch):
    full = SimpleNamespace(TemporaryFile=lambda prefix: Path("/dev/full").open("w+b"))  # noqa: SIM115
    monkeypatch.setattr(upload, "tempfile", full)
    for status, text in posted(served, finished, bytes(300_000), at_once=1):
        assert status == 413
        assert "no room for the file" in text


def connected(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def send_head(server, peer, headers):
    lines = [f"POST /search HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
    peer.sendall("".join([*lines, "\r\n"]).encode())


def status_of(peer):
    first = peer.makefile("rb").readline()
    return int(first.split()[1])
