"""The documentation site: it builds without a warning, and no link in it leads nowhere."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


class Links(HTMLParser):
    """Where a page leads, what it loads, and which places in it can be led to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            self.places.add(found["id"])
        if tag == "a" and found.get("href"):
            self.targets.append(found["href"])
        name = "href" if tag == "link" else "src"
        if tag in ("link", "script", "img") and found.get(name):
            self.loaded.append(found[name])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    folder = tmp_path_factory.mktemp("site")
    options = ["-W", "--keep-going", "-q", "-c", "docs", "-d", str(folder / "doctrees")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ".", str(folder / "html")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site):
    return {path: Links(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}


def test_every_document_is_a_page(site):
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("[a-z]*/README.md")]
    documents = [path.relative_to(ROOT).with_suffix(".html") for path in found]
    assert len(documents) > 20
    assert [path for path in documents if not (site / path).is_file()] == []
    assert (site / "index.html").read_text("utf-8") == (site / "README.html").read_text("utf-8")


def test_links_within_the_site_lead_somewhere(site, pages):
    lost = []
    for page, links in pages.items():
        for target in [*links.targets, *links.loaded]:
            parts = urlsplit(target)
            if parts.scheme:
                continue
            place = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            known = pages[place].places | {"", "top"} if place in pages else {parts.fragment}
            if not place.is_file() or parts.fragment not in known:
                lost.append((page.relative_to(site).as_posix(), target))
    assert lost == []


def test_pages_load_nothing_from_the_network(pages):
    loaded = {target for links in pages.values() for target in links.loaded}
    assert loaded
    assert [target for target in loaded if urlsplit(target).scheme not in ("", "data")] == []


def test_the_reference_describes_what_programs_import(site):
    text = (site / "docs" / "api.html").read_text("utf-8")
    for name in ("evaluate", "train", "records.Sample", "tasks.base.Task", "models.base.Model"):
        assert f'id="adem_bench.{name}"' in text
