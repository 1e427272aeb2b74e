"""The served pages in a real browser: they refresh while a run goes on, and all can use them."""

from __future__ import annotations

import json
import shutil
import threading

import pytest

from adem_bench.results.view.following import ResultsFolder
from adem_bench.results.view.server import ViewServer
from adem_bench.results.view.site import Site
from support.run_writer import choice, write_run

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here"),
]
HOSTILE = '<img src=x onerror="alert(1)"></script><script>alert(2)</script>'

LONG = "c" * 60
COMPARED = f"compare?a=a&b={LONG}"
RUNNING = "run?folder=b/mini_sqa/test-2"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of a served folder, and the records of a run that goes on."""
    root = tmp_path_factory.mktemp("results")
    write_run(
        root / "a" / "mini_sqa" / "test-1", [choice(n, n % 2) for n in range(9)], model=HOSTILE
    )
    write_run(root / LONG / "mini_sqa" / "test-3", [choice(n, 0) for n in range(9)], model="c")
    going = root / "b" / "mini_sqa" / "test-2"
    going.mkdir(parents=True)
    add(going / "samples.jsonl", choice(0, 0, response=HOSTILE))
    with ViewServer(Site(ResultsFolder(root)), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.url, going / "samples.jsonl"
        server.shutdown()
        thread.join()


def add(path, record):
    with path.open("a") as stream:
        stream.write(json.dumps(record.to_json()) + "\n")


@pytest.fixture
def page(served):
    """A page of a phone; in the end nothing has gone wrong, and nothing went elsewhere."""
    from playwright.sync_api import sync_playwright

    troubles = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: note(request.url))

        def note(url):
            if not url.startswith((served[0], "data:", "blob:")):
                troubles.append(url)

        yield page
        browser.close()
    assert troubles == []


def test_pages_refresh_while_a_run_goes_on_and_wait_for_readers(page, served):
    url, samples = served
    page.goto(url + RUNNING)
    page.get_by_text("1 to 1 of 1 samples").wait_for()
    add(samples, choice(1, 1))
    page.get_by_text("1 to 2 of 2 samples").wait_for()
    page.fill(".query", "e")
    add(samples, choice(2, 0))
    page.get_by_role("button", name="New results: load them").click()
    page.get_by_text("1 to 3 of 3 samples").wait_for()


def test_what_is_compared_is_chosen_on_the_first_page(page, served):
    page.goto(served[0])
    page.select_option("[name=b]", LONG)
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("heading", name="Comparison").wait_for()
    assert page.url == served[0] + COMPARED


def test_every_page_fits_a_phone_and_keeps_the_accessibility_rules(page, served):
    from axe_playwright_python.sync_playwright import Axe

    for address in ("", RUNNING, "leaderboard", "report?below=a", COMPARED):
        page.goto(served[0] + address)
        page.get_by_text("current", exact=True).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        # The other two are held to the rules where they stand alone.
        for scheme in ("light", "dark") if address in ("", RUNNING) else ():
            page.emulate_media(color_scheme=scheme)
            results = Axe().run(page)
            assert results.response["violations"] == [], (address, results.generate_report())
