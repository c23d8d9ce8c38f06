"""The page in a real browser: without a mouse, on small screens, and without a foreign request."""

import shutil
from itertools import pairwise

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE, DESKTOP = {"width": 360, "height": 780}, {"width": 1280, "height": 900}
WAIT = 60_000

# The contrast of every visible text with what is behind it (WCAG 2.1, 1.4.3).
CONTRAST = """() => {
  const channels = text => text.match(/[0-9.]+/g).map(Number);
  const luminance = rgb => {
    const [r, g, b] = rgb.map(c => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const colour = channels(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] > .99) { return colour.slice(0, 3); }
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !element.checkVisibility()) { continue; }
    const [a, b] = [channels(getComputedStyle(element).color).slice(0, 3), behind(element)]
      .map(luminance).sort((x, y) => y - x);
    found.push([(a + .05) / (b + .05), node.textContent.trim().slice(0, 40)]);
  }
  return found.sort((x, y) => x[0] - y[0]);
}"""

UNLABELLED = """() => [...document.querySelectorAll(
    "input:not([type=hidden]), select, button, video, audio, a, nav, section, progress"
  )].filter(one => !(one.labels?.length || one.getAttribute("aria-label")?.trim()
    || one.getAttribute("aria-labelledby") || one.textContent.trim())).map(one => one.outerHTML)"""


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def page(browser, server):
    """An empty page at desktop size; at the end, no request has left and nothing has failed."""
    context = browser.new_context(viewport=DESKTOP)
    context.set_default_timeout(WAIT)
    opened = context.new_page()
    asked, faults = [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on(
        "console",
        lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None,
    )
    yield opened
    context.close()
    assert asked
    assert all(url.startswith((server.url, f"blob:{server.url}")) for url in asked)
    assert faults == []


def names(page):
    return [
        one.get_attribute("aria-label").split(",")[0] for one in page.query_selector_all(".card")
    ]


def search(page, path):
    page.set_input_files("#file", path)
    page.wait_for_selector(".asked")


def test_a_clip_is_dropped_seen_and_heard(page, server):
    page.goto(server.url)
    film = server.root / "videos" / "0002.mp4"
    content = list(film.read_bytes())
    page.evaluate(
        """([content, name]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(content)], name, {type: "video/mp4"}));
          for (const kind of ["dragover", "drop"]) {
            document.body.dispatchEvent(
              new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
          }
        }""",
        [content, film.name],
    )
    page.wait_for_selector(".asked")
    assert names(page)[0] == "0002.mp4"
    assert page.inner_text("h1") == "Near 0002.mp4"
    assert "/search?query=" in page.url
    # The query is played from where it was dropped, the first of what was found by the server.
    for player in (".asked video", ".card video"):
        page.eval_on_selector(player, "one => { one.muted = true; return one.play(); }")
        page.wait_for_function("name => document.querySelector(name).currentTime > 0.1", arg=player)
    assert page.eval_on_selector(".asked video", "one => one.paused")


def test_choices_change_what_is_shown_and_the_address(page, server):
    page.goto(server.url)
    search(page, server.root / "videos" / "0001.mp4")
    page.check("input[value='audio-video']", force=True)
    page.wait_for_url("**by=audio-video*")
    page.wait_for_function(
        "document.querySelector('#results-title').textContent.startsWith('Pictures')"
    )
    page.select_option("select[name='label.sound']", "b")
    page.wait_for_url("**label.sound=b*")
    page.wait_for_function("document.querySelectorAll('.card').length === 8")
    page.reload()
    assert len(names(page)) == 8
    assert page.is_checked("input[value='audio-video']")
    page.go_back()
    page.wait_for_url(lambda url: "label.sound=b" not in url)


def test_neighbours_open_at_their_moment(page, server):
    page.goto(server.url + "?every=1")
    link = page.locator(".card", has_text="0:00.5").locator("a").first
    link.click()
    page.wait_for_selector(".item video")
    page.wait_for_function("document.querySelector('.item video').readyState >= 1")
    page.wait_for_function("Math.abs(document.querySelector('.item video').currentTime - .5) < .05")
    page.click(".moments a:not([aria-current])")
    page.wait_for_selector(".item video")
    assert len(names(page)) > 5


def test_all_is_reached_without_a_mouse(page, server):
    page.goto(server.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                """() => {
                  const one = document.activeElement, style = getComputedStyle(one);
                  return [one.id || one.name || one.tagName, style.outlineStyle !== "none"];
                }"""
            )
        )
    kinds = {name for name, _ in reached}
    assert {"file", "label-1", "label-2", "every", "VIDEO", "A", "BUTTON"} <= kinds
    assert all(shown for name, shown in reached if name not in ("VIDEO", "BODY"))
    page.focus(".card a")
    page.keyboard.press("Enter")
    page.wait_for_selector(".item")
    page.focus("input[name=by]:checked")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**by=video-video*")
    page.wait_for_function("document.querySelector('#results-title').textContent === 'Looks alike'")


def test_a_refusal_is_said_where_it_happened(page, server, tmp_path):
    page.goto(server.url)
    before = page.url
    (tmp_path / "text.mp4").write_text("no film")
    page.set_input_files("#file", tmp_path / "text.mp4")
    page.wait_for_selector("[role=alert]")
    assert "not a media file" in page.inner_text("[role=alert]")
    assert page.url == before
    assert len(names(page)) == 11
    (tmp_path / "large.mp4").write_bytes(bytes(2 * 2**20))
    page.set_input_files("#file", tmp_path / "large.mp4")
    page.wait_for_function(
        "document.querySelector('[role=alert]').textContent.includes('larger than the limit')"
    )


def test_names_of_files_are_only_names(page, server, tmp_path):
    name = "<img src=x onerror=document.title='gone'>.wav"
    (tmp_path / "query").write_bytes((server.root / "videos" / "tone.wav").read_bytes())
    page.goto(server.url)
    content = {"name": name, "mimeType": "audio/wav", "buffer": (tmp_path / "query").read_bytes()}
    page.set_input_files("#file", content)
    page.wait_for_selector(".asked audio")
    assert page.inner_text("h1") == f"Near {name}"
    assert page.query_selector("h1 img") is None


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_and_nothing_is_cut_off(page, server, size, scheme):
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme)
    page.goto(server.url)
    search(page, server.root / "videos" / "0001.mp4")
    found = page.url
    for address in (server.url, found, server.url + "item/0", server.url + "search?query=none"):
        page.goto(address)
        texts = page.evaluate(CONTRAST)
        assert len(texts) > 5
        assert texts[0][0] >= 4.5, texts[:3]
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert page.evaluate(UNLABELLED) == []
        levels = page.evaluate(
            "[...document.querySelectorAll('h1, h2, h3')].map(one => Number(one.tagName[1]))"
        )
        assert all(below - above <= 1 for above, below in pairwise(levels))


def test_the_page_works_without_scripts(browser, server):
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(WAIT)
    page = context.new_page()
    page.goto(server.url)
    page.set_input_files("#file", server.root / "videos" / "0001.mp4")
    page.click("text=Find what is near")
    page.wait_for_selector(".asked")
    page.check("input[value='video-video']", force=True)
    page.click("noscript button")
    page.wait_for_url("**by=video-video*")
    assert page.inner_text("#results-title") == "Looks alike"
    context.close()
