"""What the pages show: files, moments, neighbours, and media by the byte."""

import re
import signal
from xml.etree import ElementTree

import pytest
from starlette.datastructures import QueryParams

from earsight import api
from earsight.search.index import read_index
from earsight.serve import library as library_of
from earsight.serve import shown
from earsight.serve.app import page_templates
from earsight.serve.asking import read_asked
from earsight.serve.library import open_library
from earsight.serve.limits import UploadLimits

from .conftest import start


@pytest.fixture(scope="module")
def library(served):
    return open_library(read_index(served / "index"))


def names(page):
    """Files of the cards, in order."""
    return re.findall(r'<article class="card" aria-label="([^,"]+)', page)


def test_home_lists_the_files_by_path(server, served):
    answer = server.ask()
    assert answer.status == 200
    there = sorted(path.name for path in (served / "videos").iterdir())
    assert names(answer.text) == sorted([*there, "gone.mp4"])


def test_labels_filter_and_several_may_hold(server, library):
    page = server.ask("/?label.sound=b").text
    assert len(names(page)) == 9
    assert "tone.wav" in names(page)
    assert "tone.wav" not in names(server.ask("/?label.sound=a").text)
    shape = library.labels["shape"].values[0]
    both = names(server.ask(f"/?label.sound=a&label.shape={shape}").text)
    expected = {
        library.file_of(item).path
        for item in range(len(library.index))
        if ("shape", shape) in library.labels_of(item)
    }
    assert set(both) == expected
    assert "Nothing has these labels" in server.ask("/?label.sound=a&label.shape=none").text


def test_long_labels_are_typed_not_listed(library, monkeypatch):
    """A page of every file's own value would be as long as the corpus."""

    def page(address):
        asked = read_asked(QueryParams(address), library, set())
        templates = page_templates(library, UploadLimits())
        home = templates.get_template("home.html.j2")
        return home.render(asked=asked, path="/", found=shown.browse(library, asked))

    assert '<select id="label-' in page("")
    monkeypatch.setattr(library_of, "LISTED", 1)
    typed = page("label.sound=b")
    assert "<select" not in typed
    assert re.search(r'<input type="search" id="label-\d" name="label.sound" value="b"', typed)
    assert len(names(typed)) == 9
    assert "Nothing has these labels" in page("label.sound=unheard-of")


def test_more_are_shown_on_request(server):
    page = server.ask("/?count=2").text
    assert len(names(page)) == 2
    (more,) = re.findall(r'class="button" href="([^"]+)"', page)
    assert more == "/?count=26"
    assert "Show more" not in server.ask(more).text
    assert len(names(server.ask("/?every=1").text)) > len(names(server.ask("/").text))


def test_all_files_can_be_reached(library, monkeypatch):
    monkeypatch.setattr(shown, "MOST", 4)
    monkeypatch.setattr(shown, "STEP", 2)
    seen, address = [], "/?count=2"
    while address:
        params = QueryParams(address.partition("?")[2])
        found = shown.browse(library, read_asked(params, library, {"count", "first"}))
        seen += [one.file.path for one in found.cards if one.file.path not in seen]
        address = found.more
    assert seen == sorted(library.index.paths)


@pytest.mark.parametrize(
    "by", ["agreement", "video-video", "audio-audio", "video-audio", "audio-video"]
)
def test_an_upload_finds_what_search_finds(server, served, by):
    film = served / "videos" / "0003.mp4"
    page = server.upload(film.read_bytes(), "0003.mp4").text
    (query,) = re.findall(r'name="query" value="([^"]+)"', page)
    page = server.ask(f"/search?query={query}&by={by}").text
    found = api.search(served / "index", film, by=by, count=24)
    assert found.by == by
    hits = found.hits
    figures = re.findall(r"<b>(-?[0-9.]+)</b>", page)[:: 2 if by == "agreement" else 1]
    shown = dict(zip(names(page), figures, strict=True))
    assert names(page)[0] == hits[0].path
    assert set(shown) == {hit.path for hit in hits}
    scores = {hit.path: hit.video if by == "agreement" else hit.score for hit in hits}
    assert all(abs(float(shown[path]) - score) <= 0.006 for path, score in scores.items())


def test_a_sound_is_compared_by_what_it_has(server, served):
    page = server.upload((served / "videos" / "tone.wav").read_bytes(), "tone.wav").text
    ways = re.findall(r'name="by" value="([^"]+)"', page)
    assert ways == ["audio-audio", "audio-video"]
    assert names(page)[0] == "tone.wav"
    assert "searched with its sound." in page


def test_every_name_that_is_shown_opens(server, served):
    page = server.upload((served / "videos" / "0003.mp4").read_bytes()).text
    (query,) = re.findall(r'name="query" value="([^"]+)"', page)
    page = server.ask(f"/search?query={query}&by=video-audio").text
    assert "tone.wav" in names(page)
    for address in re.findall(r'class="name"><a href="([^"]+)"', page):
        assert server.ask(address.replace("&amp;", "&")).status == 200, address


def test_neighbours_of_a_moment_are_in_other_files(server, library):
    item = int(library.files[library.index.paths.index("0002.mp4")].items[1])
    page = server.ask(f"/item/{item}?by=video-video&every=1").text
    assert "0002.mp4" not in names(page)
    assert len(names(page)) == 24
    moments = re.findall(r'<a href="/item/([0-9]+)[^"]*"( aria-current="true")?>', page)
    own = library.file_of(item).items.tolist()
    assert [int(number) for number, _ in moments] == own
    assert [bool(current) for _, current in moments] == [one == item for one in own]


def test_media_are_served_by_the_byte(server, served, library):
    number = library.index.paths.index("0001.mp4")
    whole = (served / "videos" / "0001.mp4").read_bytes()
    answer = server.ask(f"/media/{number}")
    assert (answer.status, answer.body) == (200, whole)
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["Accept-Ranges"] == "bytes"
    part = server.ask(f"/media/{number}", headers={"Range": "bytes=100-199"})
    assert (part.status, part.body) == (206, whole[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(whole)}"
    last = server.ask(f"/media/{number}", headers={"Range": "bytes=-50"})
    assert last.body == whole[-50:]
    assert server.ask(f"/media/{number}", headers={"Range": "bytes=99999999-"}).status == 416
    assert server.ask(f"/media/{number}", method="HEAD").body == b""


def test_moments_have_pictures(server, library):
    film, tone = (
        int(library.files[library.index.paths.index(name)].items[0])
        for name in ("0001.mp4", "tone.wav")
    )
    answer = server.ask(f"/picture/{film}")
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.body.startswith(b"\xff\xd8\xff")
    again = server.ask(f"/picture/{film}", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    outline = server.ask(f"/picture/{tone}")
    assert outline.headers["Content-Type"] == "image/svg+xml"
    bars = ElementTree.fromstring(outline.body).findall(".//{*}g/{*}rect")
    assert len(bars) == 90
    assert all(float(bar.get("height")) > 10 for bar in bars[2:-2])


def test_what_cannot_be_shown_says_why(server, library):
    gone, link = (library.index.paths.index(name) for name in ("gone.mp4", "link.mp4"))
    page = server.ask("/").text
    assert "no longer where it was embedded" in page
    assert "a link out of the folder" in page
    assert server.ask(f"/media/{gone}").status == 404
    for address in (f"/media/{link}", f"/picture/{library.files[link].items[0]}"):
        answer = server.ask(address)
        assert answer.status == 403
        assert len(answer.body) < 4000


def test_the_command_ends_with_its_signal(served, tmp_path):
    process, said = start(served / "index", tmp_path)
    assert said["files"] == 11
    assert said["loopback"] is True
    assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+/", said["url"])
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    process.stdout.close()
