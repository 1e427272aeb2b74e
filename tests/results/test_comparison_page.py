"""The comparison's page in a real browser, on a desk and on a phone, light and dark."""

from __future__ import annotations

import shutil

import pytest

from adem_bench.results.comparison_formats import comparison_text
from adem_bench.results.comparison_gate import judge
from adem_bench.results.comparison_sides import find_sides
from adem_bench.results.comparison_sizes import Power
from adem_bench.results.comparison_suite import compare_suite
from adem_bench.results.comparison_text import Findings
from support.run_writer import choice, write_run

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here"),
]
HOSTILE = '<img src=x onerror="alert(1)"></script><script>alert(2)</script>'
WIDTHS = (1366, 390)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A page of two models on two tasks, with a gate and with groups."""
    root = tmp_path_factory.mktemp("results")
    for model, name, wrong in (("base", "base", 20), (HOSTILE, "new", 2)):
        for task, count in (("mini_sqa", wrong), ("sqa", 1)):
            records = [choice(n, int(n < count)) for n in range(60)]
            write_run(root / name / task, records, task, model, limit=60)
    suite = compare_suite(find_sides(["base", "new"], root)[0], failed_are_wrong=True)
    page = root / "page.html"
    findings = Findings(suite, Power(), judge(suite, ("A", "B")))
    page.write_text(comparison_text(findings, "html"), encoding="utf-8")
    return page


@pytest.fixture
def page(path):
    """The page, unfolded; in the end nothing has gone wrong, and nothing was asked for."""
    from playwright.sync_api import sync_playwright

    troubles = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: troubles.append(request.url))
        page.goto(path.as_uri())
        for summary in page.locator("summary").all():
            summary.click()
        yield page
        browser.close()
    assert troubles == [path.as_uri()]


def test_the_page_is_read_at_every_width_light_and_dark(page):
    from axe_playwright_python.sync_playwright import Axe

    tables = page.locator("table")
    assert tables.count() == 3  # the headlines, and the groups of each task
    assert HOSTILE in page.inner_text(".sides")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for table in tables.all():
            # Which is better, and by how much, is seen without scrolling.
            for cell in ("td.figure >> nth=0", "td.reading >> nth=0"):
                box = table.locator(cell).bounding_box()
                assert box["x"] + box["width"] <= width
    for scheme, is_dark in (("light", False), ("dark", True)):
        page.emulate_media(color_scheme=scheme)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(paper[4:].split(",")[0]) < 60) == is_dark
        results = Axe().run(page)
        assert results.response["violations"] == [], results.generate_report()
