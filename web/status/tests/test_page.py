"""The status page in headless Chromium, against a server that plays each state of a pool.

`SEAM_SCREENSHOTS=DIR` keeps a picture of every scene, wide and on a phone, light and dark.
"""

import os
import shutil
from pathlib import Path

import pytest

import fake

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not CHROMIUM:
    if os.environ.get("SEAM_REQUIRE_CHROMIUM"):
        raise RuntimeError("chromium is not installed: apt-get install chromium")
    pytest.skip("chromium is not installed: apt-get install chromium", allow_module_level=True)

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 780}
PATIENCE = 8000


@pytest.fixture(scope="session")
def browser():
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def pool():
    server = fake.Fake()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def open_page(browser, pool):
    contexts, faults = [], []

    def open_page(scene="healthy", size=WIDE, scheme="light"):
        pool.show(scene)
        context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda e: faults.append(f"error: {e}"))
        page.on("dialog", lambda d: faults.append(f"dialog: {d.message}"))
        page.on("console", lambda m: m.type == "error" and "503" not in m.text and faults.append(f"console: {m.text}"))
        page.on("request", lambda r: r.url.startswith(pool.url) or faults.append(f"request elsewhere: {r.url}"))
        page.goto(pool.url)
        page.wait_for_selector("#main:not([aria-busy])", timeout=PATIENCE)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def text(page, selector):
    return page.inner_text(selector).strip()


def wait_text(page, selector, wanted):
    page.wait_for_function("([s, w]) => document.querySelector(s)?.innerText.includes(w)", arg=[selector, wanted], timeout=PATIENCE)


def picture(page, name):
    if folder := os.environ.get("SEAM_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@pytest.mark.parametrize("scene", fake.SCENES)
def test_every_scene_fits_and_is_accessible(open_page, scene):
    page = open_page(scene)
    page.wait_for_function("document.querySelectorAll('.curve, .plot text').length > 0", timeout=PATIENCE)
    for size, scheme in [(WIDE, "light"), (WIDE, "dark"), (PHONE, "light"), (PHONE, "dark")]:
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        name = f"{scene}-{'phone' if size is PHONE else 'wide'}-{scheme}"
        picture(page, name)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"
        # What a screen reader hears is the same in both schemes, and colours are the same in both sizes.
        if (size, scheme) == (PHONE, "dark"):
            continue
        rules = ["color-contrast"] if scheme == "dark" else None
        options = {"runOnly": rules or ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
        result = axe.Axe().run(page, options=options)
        faults = [(name, v["id"], n["target"]) for v in result.response["violations"] for n in v["nodes"]]
        assert faults == []


def test_verdict_says_yes_and_why(open_page):
    page = open_page()
    assert text(page, "#answer") == "Yes"
    assert text(page, "#because") == "3 of 3 voters are up and caught up; 2 are a quorum."
    assert page.get_attribute("#verdict", "data-state") == "ok"


def test_a_lost_node_shows_without_reload(open_page, pool):
    page = open_page()
    page.evaluate("window.same = true")
    pool.show("one_down")
    wait_text(page, "#answer", "No")
    assert text(page, "#because").startswith("node-2 is gone")
    wait_text(page, "#events", "node-2 is gone")
    wait_text(page, "#ring-legend", "off the ring: gone")
    pool.show("no_quorum")
    wait_text(page, "#events", "Quorum is lost")
    assert page.get_attribute("#verdict", "data-state") == "bad"
    assert "✖" in page.title()
    pool.show("healthy")
    wait_text(page, "#events", "Quorum is back")
    assert page.evaluate("window.same"), "the page was reloaded"


def test_a_drain_moves_its_bar(open_page, pool):
    page = open_page()
    assert page.is_hidden("#drains")
    pool.show("drain")
    page.wait_for_selector("#drains progress", timeout=PATIENCE)
    first = page.eval_on_selector("#drains progress", "p => p.value")
    page.wait_for_function("v => document.querySelector('#drains progress').value > v", arg=first, timeout=PATIENCE)
    assert "none lost" in text(page, "#drain-list")


def test_sync_has_a_bar_only_while_it_goes_on(open_page, pool):
    page = open_page("sync")
    assert page.is_visible("#sync-bar")
    assert 0.2 < page.eval_on_selector("#sync-bar", "p => p.value") < 0.3
    pool.show("healthy")
    page.wait_for_selector("#sync", state="hidden", timeout=PATIENCE)


def test_silence_is_said_and_figures_are_marked_old(open_page, pool):
    page = open_page()
    pool.broken = True
    page.wait_for_selector("#trouble:visible", timeout=12000)
    assert "503" in text(page, "#trouble") and "old" in text(page, "#trouble")
    assert page.get_attribute("#main", "data-stale") is not None
    pool.broken = False
    page.wait_for_selector("#trouble", state="hidden", timeout=12000)
    assert text(page, "#live-text") == "live"


def test_keyboard_reaches_and_works_everything(open_page):
    page = open_page()
    seen = []
    for _ in range(14):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.className || document.activeElement.textContent"))
    for wanted in ("skip", "theme", "plot-sessions", "plot-hashrate", "events", "Metrics", "API", "JSON"):
        assert wanted in seen, seen
    page.focus("#theme")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.get_attribute("html", "data-theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 17, 21)"
    page.focus("#plot-sessions")
    page.keyboard.press("Home")
    assert " at " in text(page, "#plot-sessions-read")
    first = text(page, "#plot-sessions-read")
    page.keyboard.press("ArrowRight")
    assert text(page, "#plot-sessions-read") != first
    page.keyboard.press("Escape")
    assert " at " not in text(page, "#plot-sessions-read")


def test_missing_samples_break_the_line(open_page):
    page = open_page()
    page.wait_for_selector("#plot-sessions .curve", timeout=PATIENCE)
    assert page.locator("#plot-sessions .curve").count() == 2


def test_names_are_never_markup(open_page):
    page = open_page("hostile")
    assert page.locator("main img, main script, main b b").count() == 0
    assert text(page, "#name") == "<img src=x onerror=alert(1)>"


def test_a_proxy_shows_what_a_proxy_knows(open_page):
    page = open_page("proxy")
    assert page.is_hidden("#plot-hashrate") and page.is_hidden("#sync")
    assert "recoverable: 2" in text(page, "#moves")


@pytest.mark.parametrize("scene", ["healthy", "proxy"])
def test_every_node_shows_its_part_sessions_and_hashrate(open_page, scene):
    page = open_page(scene)
    rows = page.locator("#nodes tbody tr").all_inner_texts()
    legend = page.locator("#ring-legend li").all_inner_texts()
    assert len(rows) == len(legend) == 3
    for row, entry in zip(rows, legend):
        assert "PH/s" in row and "PH/s" in entry and "%" in entry and "session" in entry


def test_a_silent_node_is_marked_with_its_age(open_page):
    page = open_page("silent")
    rows = page.locator("#nodes tbody tr").all_inner_texts()
    assert "up, silent for 73 s" in rows[1] and "H/s" not in rows[1]
    assert "ready" in rows[0] and "PH/s" in rows[0]


def test_what_a_node_does_not_know_is_not_made_up(open_page):
    page = open_page("own_view")
    rows = page.locator("#nodes tbody tr").all_inner_texts()
    assert ["ready" in row for row in rows] == [True, False, False] and "up" in rows[1]
    assert "sessions here" in page.text_content("#ring") and "about 33%" in text(page, "#ring-legend")


def test_a_process_that_knows_little_breaks_nothing(open_page, pool, monkeypatch):
    little = lambda now, since: {"format": 1, "kind": "node", "name": "n", "version": "0", "time": now, "started": since, "ready": False}
    monkeypatch.setitem(fake.SCENES, "little", little)
    page = open_page("unformed")
    pool.scene = "little"
    wait_text(page, "#name", "n")
    wait_text(page, "#nodes", "No node is known")
    assert page.is_hidden("#trouble")


def test_every_element_the_script_uses_exists():
    import re
    script = (fake.FILES / "status.js").read_text()
    html = (fake.FILES / "index.html").read_text()
    ids = set(re.findall(r'(?:byId|setText|badge|rows|new Plot)\("([\w-]+)"', script))
    assert ids and [i for i in ids if f'id="{i}"' not in html] == []
    assert not re.search(r"innerHTML\s*=(?!=)|insertAdjacentHTML|document\.write|eval\(|https?://(?!www\.w3\.org/2000/svg)", script)
    assert not re.search(r"\son\w+=|style=|https?://", html)
