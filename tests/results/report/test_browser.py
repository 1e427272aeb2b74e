"""The page in a real browser, from a file and without a network."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from PIL import Image

from adem_bench.results.report.page import report_parts, report_pieces
from adem_bench.results.runs import open_runs
from adem_bench.tasks.base import build_task
from support.run_writer import choice, write_run

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here"),
]
HOSTILE = '<img src=x onerror="alert(1)"></script><script>alert(2)</script>\x1b[31m\u202e\x00\t'
COUNT = 5000


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Two runs of 5,000 samples, without the data."""
    folder = tmp_path_factory.mktemp("large")
    first = [choice(n, int(n % 3 == 0)) for n in range(COUNT)]
    second = [choice(n, int(n % 4 == 0)) for n in range(COUNT)]
    second[7] = choice(7, 0, response=HOSTILE)
    write_run(folder / "a", first)
    write_run(folder / "b", second, model=HOSTILE)
    return written(folder, folder / "page.html")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One run on real data, with prompts and images."""
    folder = tmp_path_factory.mktemp("small")
    task = build_task("mini_sqa", None)
    records = [
        choice(int(sample.id), number % 2, int(sample.reference), groups=sample.groups)
        for number, sample in zip(range(40), task.samples(), strict=False)
    ]
    write_run(folder / "a", records, data=task.fingerprint())
    return written(folder, folder / "page.html")


def written(folder, path):
    path.write_text("".join(report_pieces(report_parts(open_runs([folder])[0]))), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser):
    """Opens a page in a window of some width; in the end nothing has gone wrong or out."""
    troubles, pages = [], []

    def visit(path: Path, width=1280):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: note(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector(".browser[data-ready]")
        pages.append(page)
        return page

    def note(url):
        if not url.startswith(("file:", "data:", "blob:")):
            troubles.append(url)

    yield visit
    for page in pages:
        page.close()
    assert troubles == []


def ids(page):
    return page.locator(".samples tbody th > span:first-child").all_inner_texts()


def test_samples_are_paged(opened, large):
    page = opened(large)
    page.select_option(".order", "data")
    assert page.inner_text(".status") == "1 to 25 of 5000 samples"
    assert ids(page)[:2] == ["0", "1"]
    page.click(".next")
    assert ids(page)[0] == "25"
    page.fill(".page", "200")
    page.keyboard.press("Enter")
    assert (ids(page)[-1], page.is_disabled(".next")) == ("4999", True)
    page.select_option(".size", "100")
    assert page.inner_text(".status") == "1 to 100 of 5000 samples"
    page.click(".last-page")
    assert ids(page)[-1] == "4999"


def test_samples_are_filtered_and_disagreements_come_first(opened, large):
    page = opened(large)
    apart = [n for n in range(COUNT) if (n % 3 == 0) != (n % 4 == 0)]
    assert ids(page) == [str(n) for n in apart[:25]]
    page.select_option(".verdict", "apart")
    assert f"of {len(apart)} samples, of 5000" in page.inner_text(".status")
    page.select_option(".group", label="NAT")
    odd = sum(n % 2 for n in apart)
    assert f"of {odd} samples" in page.inner_text(".status")
    page.fill(".query", "no such thing")
    assert page.inner_text(".status") == "0 samples, of 5000 in all"
    assert page.is_disabled(".next")


COUNT_REDRAWS = """body => {
  window.redrawn = [];
  new MutationObserver(records => window.redrawn.push(...records.map(r => r.addedNodes.length)))
    .observe(body, {childList: true});
}"""


def test_each_search_among_five_thousand_draws_one_page_once(opened, large):
    page = opened(large)
    page.select_option(".order", "data")
    page.locator(".samples tbody").evaluate(COUNT_REDRAWS)
    queries = ("4", "49", "499", "4999")
    for query in queries:
        page.fill(".query", query)
        found = [str(n) for n in range(COUNT) if query in str(n)]
        assert ids(page) == found[:25]
        shown = f"1 to {min(25, len(found))} of {len(found)} samples, of {COUNT} in all"
        assert page.inner_text(".status") == shown
    assert page.evaluate("window.redrawn") == [25, 25, 15, 1]
    page.fill(".query", "")
    for _ in range(4):
        page.select_option(".order", "worst")
        page.select_option(".order", "data")
    assert page.evaluate("window.redrawn")[len(queries) :] == [25] * 9


def test_a_link_to_a_sample_shows_it_among_its_neighbours(opened, large):
    page = opened(large)
    page.fill(".query", "no such thing")
    page.evaluate("location.hash = '#sample=4321'")
    linked = page.locator(".linked th")
    assert linked.inner_text().startswith("4321")
    assert page.input_value(".query") == ""
    page.select_option(".order", "data")
    page.fill(".query", "77")
    page.get_by_role("link", name="77", exact=True).click()
    assert page.url.endswith("#sample=77&task=mini_sqa%2Ftest")
    assert linked.inner_text().startswith("77")
    page.evaluate("location.hash = '#sample=none&task=mini_sqa/test'")
    note = "There is no sample none of mini_sqa/test here."
    page.wait_for_function(
        "text => document.querySelector('.no-sample').innerText === text", arg=note
    )


def test_figures_are_seen_on_a_phone_and_tables_end_where_their_columns_do(opened, crowded):
    page = opened(crowded, 390)
    box = page.locator(".headlines strong").first.bounding_box()
    assert box["x"] + box["width"] < 390
    frames = page.locator(".scroll:has(> table.headlines)")
    wide = opened(crowded, 1280).locator(".scroll:has(> table.headlines)")
    assert frames.bounding_box()["width"] <= 390
    table = wide.locator("table").bounding_box()["width"]
    assert wide.bounding_box()["width"] - table <= 2  # its own border


def test_plots_are_dark_on_a_dark_page(opened, small):
    page = opened(small)
    for scheme, paper in (("light", 200), ("dark", 60)):
        page.emulate_media(color_scheme=scheme)
        picture = page.locator("figure img").first.screenshot()
        pixels = Image.open(io.BytesIO(picture)).convert("L")
        commonest = max(pixels.getcolors(), key=lambda found: found[0])[1]
        assert (commonest > paper) == (scheme == "light")


def test_a_hostile_answer_is_text(opened, large):
    page = opened(large)
    page.fill(".query", "onerror")
    assert ids(page) == ["7"]
    assert page.locator(".samples tbody img").count() == 0
    shown = page.inner_text(".samples tbody")
    assert '<img src=x onerror="alert(1)">' in shown
    assert "\\u001b[31m\\u202e\\u0000" in shown  # what is invisible has its number
    assert page.locator("script").count() == 2  # the runs' names and the page's own


def test_images_prompts_and_options_are_shown(opened, small):
    page = opened(small)
    page.fill(".query", "picture")
    image = page.locator(".samples tbody img").first
    assert image.evaluate("image => image.complete && image.naturalWidth > 0")
    assert image.get_attribute("alt").startswith("Image of sample 2")
    assert "Question:" in page.locator("[data-label=Prompt]").first.inner_text()


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Nine runs, one of a model with a very long name."""
    folder = tmp_path_factory.mktemp("crowded")
    for name in "abcdefgh":
        write_run(folder / name, [choice(n, ord(name) % 2) for n in range(30)], model=name)
    write_run(folder / "i", [choice(n, 0) for n in range(30)], model="m" * 200)
    return written(folder, folder / "page.html")


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_of_the_window(opened, small, crowded, width):
    for path in (small, crowded):
        page = opened(path, width)
        assert page.evaluate("document.documentElement.scrollWidth") == width
    tag = page.locator(".verdict-tag").first
    assert tag.evaluate("tag => tag.getClientRects().length") == 1  # no word is broken


def test_everything_is_reached_by_keyboard(opened, small):
    page = opened(small)
    reached = []
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.className"))
    assert {"skip", "query", "verdict", "group", "order", "size", "next"} <= set(reached)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_rules_hold(opened, small, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(small)
    page.emulate_media(color_scheme=scheme)
    page.locator("figure summary").first.click()
    page.locator(".samples tbody a").first.click()
    results = Axe().run(page)
    assert results.response["violations"] == [], results.generate_report()


def test_on_paper_there_are_no_controls(opened, small):
    page = opened(small)
    page.emulate_media(media="print")
    assert not page.is_visible(".controls")
    assert page.is_visible(".samples")
    assert len(page.pdf()) > 10_000
