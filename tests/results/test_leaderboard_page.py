"""The leaderboard's page in a real browser: its script sorts, by mouse and keyboard."""

from __future__ import annotations

import shutil

import pytest

from adem_bench.results.leaderboard.build import build_leaderboard
from adem_bench.results.leaderboard.formats import leaderboard_text
from adem_bench.results.leaderboard.published_figures import PublishedRow
from adem_bench.results.runs import finished_runs

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
HOSTILE = '<img src=x onerror="alert(1)"></th><script>alert(2)</script>'


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser, run, tmp_path):
    run("lucky", 1.0, scored=3)
    run("c", 0.9, low=0.8, high=0.97, rate=9.0)
    run("b", 0.5, rate=10.0)
    run(HOSTILE, 0.4)
    figures = [PublishedRow("Paper", "L", "4.5M", "quiz", "test", "acc", 100.0, "arXiv", "")]
    path = tmp_path / "board.html"
    board = build_leaderboard(finished_runs(tmp_path)[0], figures)
    path.write_text(leaderboard_text(board, "html"), encoding="utf-8")
    troubles = []
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: troubles.append(request.url))
    page.goto(path.as_uri())
    yield page
    page.close()
    assert set(troubles) == {path.as_uri()}


def names(page):
    return page.locator("tbody th .name").all_inner_texts()


def columns(page):
    """The headers of one column each that are seen, without rank and model."""
    shown = page.locator("th[data-column]").all()
    return [header.inner_text() for header in shown if header.is_visible()]


def test_headers_sort_and_say_so(page):
    ranked = ["c", "b", HOSTILE, "lucky", "Paper"]
    assert names(page) == ranked  # Paper has the first rank, and gives way to one's own rows
    page.get_by_role("button", name="acc").focus()
    page.keyboard.press("Enter")
    assert names(page) == [HOSTILE, "b", "c", "lucky", "Paper"]  # a subset stays last
    (sorted_by,) = page.locator("th[aria-sort]").all()
    assert (sorted_by.inner_text(), sorted_by.get_attribute("aria-sort")) == ("acc", "ascending")
    choose(page, "All")
    page.get_by_role("button", name="samples/s").click()
    assert names(page)[:2] == ["b", "c"]  # 10.0 and 9.0: as numbers, not as texts
    page.get_by_role("button", name="Rank").click()
    assert names(page) == ranked
    page.get_by_role("button", name="Model", exact=True).click()
    assert names(page)[1:3] == ["b", "c"]
    page.get_by_label("Own rows first").uncheck()
    page.get_by_role("button", name="Rank").click()
    assert names(page) == ["Paper", "c", "b", HOSTILE, "lucky"]
    page.get_by_role("button", name="acc").click()
    page.get_by_role("button", name="acc").click()
    assert "sort=quiz%2Ftest+acc&" in page.url
    page.reload()
    assert names(page) == [HOSTILE, "b", "c", "lucky", "Paper"]


def choose(page, button):
    if not page.locator(".chooser[open]").count():
        page.get_by_text("Columns", exact=True).click()
    page.get_by_role("button", name=button).click()


def test_a_phone_sees_models_and_headlines_and_the_rest_can_be_chosen(page):
    assert columns(page) == ["acc"]
    first = page.locator("tbody tr").first
    assert first.locator("td.whole").bounding_box()["x"] < 300  # of the window's 390
    choose(page, "All")
    assert columns(page) == ["acc", "Language model", "Trainable", "n", "samples/s"]
    page.get_by_label("Trainable").uncheck()
    page.get_by_label("Language model").uncheck()
    assert columns(page) == ["acc", "n", "samples/s"]
    page.reload()  # the choice is in the address
    assert columns(page) == ["acc", "n", "samples/s"]
    assert not page.get_by_text("About the model").is_visible()
    choose(page, "Headlines only")
    assert columns(page) == ["acc"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_keeps_the_accessibility_rules(page, scheme):
    from axe_playwright_python.sync_playwright import Axe

    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_text("Columns", exact=True).click()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.emulate_media(color_scheme=scheme)
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
