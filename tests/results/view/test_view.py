"""A results folder behind a local server: what it serves, to whom, how it follows the folder."""

from __future__ import annotations

import http.client
import json
import re
import threading
from urllib.parse import quote

import pytest

from adem_bench.errors import AdemBenchError, ResultsError
from adem_bench.results.run_folder import RunFolder
from adem_bench.results.view import following
from adem_bench.results.view.following import ResultsFolder
from adem_bench.results.view.server import ViewServer
from adem_bench.results.view.site import Site
from support.run_writer import choice, write_run


def lines(records):
    return "".join(json.dumps(record.to_json()) + "\n" for record in records)


BEGUN = [choice(0, 0), choice(1, 1), choice(2, 0, error="x")]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two finished runs and one that goes on; looks follow one another at once."""
    monkeypatch.setattr(following, "LOOK_SECONDS", 0)
    root = tmp_path / "results"
    write_run(root / "m" / "mini_sqa" / "test-1", [choice(n, n % 2) for n in range(9)])
    write_run(root / "o" / "mini_sqa" / "test-2", [choice(n, 0) for n in range(9)], model="o")
    going = root / "m" / "mini_mme" / "test-limit20-3"
    going.mkdir(parents=True)
    (going / "samples.jsonl").write_text(
        lines([choice(0, 0), choice(1, 1), choice(2, 0, error="x")])
    )
    (going / "run.log").write_text("20% <b>done</b>\n")
    return root


@pytest.fixture
def site(root):
    return Site(ResultsFolder(root))


def noted(monkeypatch, name):
    """Notes with what a function of the module is called."""
    calls, function = [], getattr(following, name)
    monkeypatch.setattr(following, name, lambda *given: (calls.append(given), function(*given))[1])
    return calls


def text(site, address):
    return site.answer(address).body.decode()


def test_the_first_page_lists_runs_that_go_on_and_finished_ones(site, root):
    page = text(site, "/")
    assert "/run?folder=m%2Fmini_mme%2Ftest-limit20-3" in page
    assert "3 of 20" in page
    assert "50.0%" in page  # one failed: it is neither right nor wrong
    assert "/report?below=m%2Fmini_sqa%2Ftest-1" in page
    assert "/task?name=mini_sqa%2Ftest" in page
    assert ">results<" in page  # the folder's name


def test_runs_stand_as_on_other_pages_and_are_told_apart(site, root):
    folder, records = root / "a" / "mini_sqa", [choice(n, 1) for n in range(300)]
    write_run(folder / "test-blind-0", records, model="a", blind=True)
    write_run(folder / "test-limit3-1", records[:3], model="a", limit=3)
    write_run(folder / "test-9", records, model="a")
    write_run(root / "z" / "mini_sqa" / "test-1", records, model="z")
    table = text(site, "/").split("mini_sqa/test")[-1]
    shown = re.findall(r'class="label"><a [^>]*>(.*?)</a>', table)
    assert [re.sub("<[^>]*>", "", label) for label in shown] == [
        "a", "a [blind]", "z", "a [limit=3]", "m", "o",
    ]  # fmt: skip


@pytest.mark.slow
def test_pages_are_those_of_leaderboard_and_report(site):
    assert '<table class="leaderboard">' in text(site, "/leaderboard")
    task = text(site, "/task?name=mini_sqa/test")
    assert "<h1>adem-bench report</h1>" in task
    assert task.count(">Differences<") == 1
    assert ">Differences<" not in text(site, "/report?below=o")
    running = text(site, "/run?folder=m/mini_mme/test-limit20-3")
    assert "3 of 20 samples answered, 50.0% right so far, 1 failed" in running
    assert "20% &lt;b&gt;done&lt;/b&gt;" in running


def test_two_models_or_runs_are_compared(site, root):
    assert '<option value="m/mini_sqa/test-1">' in text(site, "/")
    for a, b in (("m", "o"), ("m/mini_sqa/test-1", "o")):
        page = text(site, f"/compare?a={quote(a)}&b={b}")
        assert "<h1>Comparison</h1>" in page
        assert "B against A: better on" in page
    for a, b in (("m", "m"), ("m", "m/mini_sqa/test-1")):
        assert site.answer(f"/compare?a={a}&b={quote(b)}").status == 404
    assert "is in both m and m/mini_sqa/test-1" in text(site, "/compare?a=m&b=m/mini_sqa/test-1")
    going = "m/mini_mme/test-limit20-3"
    for a, b in (("m", ""), ("", "o"), ("m", "absent"), (going, "o")):
        assert "there is no such page" in text(site, f"/compare?a={a}&b={b}")


def test_a_growing_run_is_read_on_from_where_it_was(site, root, monkeypatch):
    place = root / "m" / "mini_mme" / "test-limit20-3" / "samples.jsonl"
    results = site.results
    before = results.look()
    with place.open("a") as stream:
        stream.write(lines([choice(3, 0)]) + '{"sample_id": "torn')
    starts = noted(monkeypatch, "_append")
    after = results.look()
    name = "m/mini_mme/test-limit20-3"
    assert (len(before.growing[name].records), len(after.growing[name].records)) == (3, 4)
    assert [start for _, _, start in starts] == [len(lines(BEGUN))]
    assert before.version() != after.version()
    assert results.look().version() == after.version()
    assert len(starts) == 1  # nothing changed, nothing was read
    place.write_text(lines([choice(7, 0)]))  # begun anew
    assert list(results.look().growing[name].records) == ["7"]


def test_a_growing_run_has_the_records_that_it_goes_on_with(site, root):
    folder = root / "m" / "mini_mme" / "test-limit20-3"
    deep = lines([choice(3, 0)]).replace('"prediction": 0', f'"prediction": {"[" * 99}{"]" * 99}')
    assert "[[" in deep
    with (folder / "samples.jsonl").open("a") as stream:
        stream.write(deep + "[3]\n" + lines([choice(4, 0)]))
    growing = site.results.look().growing["m/mini_mme/test-limit20-3"]
    assert growing.records == RunFolder(folder).records()
    assert list(growing.records) == ["0", "1", "2", "4"]


def test_a_run_that_finishes_moves_to_the_report(site, root):
    folder = root / "m" / "mini_mme" / "test-limit20-3"
    before = text(site, "/version?page=" + quote("/run?folder=m/mini_mme/test-limit20-3"))
    write_run(folder, [choice(n, 0) for n in range(3)])
    after = text(site, "/version?page=" + quote("/run?folder=m/mini_mme/test-limit20-3"))
    assert before != after
    moved = site.answer("/run?folder=m/mini_mme/test-limit20-3")
    assert (moved.status, moved.location) == (302, "/report?below=m%2Fmini_mme%2Ftest-limit20-3")


@pytest.mark.slow
def test_finished_runs_and_pages_are_not_made_again_without_need(site, root, monkeypatch):
    reads = noted(monkeypatch, "finished_runs")
    first = text(site, "/report?below=o")
    assert len(reads) == 2
    with monkeypatch.context() as patched:
        patched.setattr(following, "open_run", None)  # called again, it would fail
        assert text(site, "/report?below=o") == first
    write_run(root / "o" / "mini_sqa" / "test-2", [choice(n, 1) for n in range(9)], model="o")
    assert text(site, "/report?below=o") != first
    assert len(reads) == 3


@pytest.mark.parametrize(
    "name",
    ["..", "../..", "/etc", "m/../..", "m/mini_sqa/test-1/../..", "%2e%2e", "\udcff", "m/mini_sq"],
)
def test_no_address_leads_out_of_the_folder(site, root, name):
    (root.parent / "samples.jsonl").write_text(lines([choice(0, 0, response="SECRET")]))
    for page, field in (("report", "below"), ("run", "folder"), ("task", "name"), ("compare", "a")):
        answer = site.answer(f"/{page}?b=o&{field}={quote(name, errors='surrogateescape')}")
        assert answer.status == 404
        assert b"SECRET" not in answer.body
    assert site.answer(f"/{quote(name, errors='surrogateescape')}/samples.jsonl").status == 404


def test_links_are_not_followed(site, root, tmp_path):
    (tmp_path / "secret.jsonl").write_text(lines([choice(0, 0, response="SECRET")]))
    folder = root / "l" / "mini_mme" / "test-4"
    folder.mkdir(parents=True)
    (folder / "samples.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (root / "away").symlink_to(tmp_path)
    assert "samples.jsonl is a link, so left out" in text(site, "/")
    assert site.answer("/run?folder=l/mini_mme/test-4").status == 404


def test_broken_and_vanishing_folders_are_named_and_end_nothing(site, root, monkeypatch):
    for name, content in (("a", b"{"), ("b", b"[]"), ("c", b"null"), ("d", b"\xff")):
        folder = root / "broken" / name
        folder.mkdir(parents=True)
        for file in ("manifest.json", "metrics.json", "samples.jsonl"):
            (folder / file).write_bytes(content)
    half = root / "half" / "mini_mme" / "test-5"
    half.mkdir(parents=True)
    odd = [b"[1]", b"null", b'{"sample_id": 3}', b"\xff", b"[" * 99_999, b""]
    (half / "samples.jsonl").write_bytes(b"\n".join(odd))
    page = text(site, "/")
    assert page.count("cannot be read, so left out") == 4
    assert site.answer("/run?folder=half/mini_mme/test-5").status == 200
    assert site.answer("/leaderboard").status == 200
    seen = site.results.look()
    (root / "o" / "mini_sqa" / "test-2" / "manifest.json").unlink()
    monkeypatch.setattr(site.results, "look", lambda: seen)
    gone = site.answer("/report?below=o")
    assert gone.status == 404
    assert b"test-2" in gone.body


def test_a_folder_must_be_there(tmp_path):
    with pytest.raises(ResultsError, match="is not a folder with results"):
        ResultsFolder(tmp_path / "absent")


@pytest.fixture
def ask(site):
    """Asks a served site, and returns status, headers and body."""
    with ViewServer(site, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def call(method, path, **headers):
            connection = http.client.HTTPConnection(*server.server_address, timeout=20)
            connection.putrequest(method, path, skip_host="Host" in headers)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            found = answer.status, dict(answer.getheaders()), answer.read()
            connection.close()
            return found

        call.port = server.server_address[1]
        yield call
        server.shutdown()
        thread.join()


def test_only_this_machine_by_its_own_name_reads(ask):
    for host in ("127.0.0.1", f"localhost:{ask.port}", "LOCALHOST:1"):
        assert ask("GET", "/", Host=host)[0] == 200
    for host in (
        "evil.example",
        f"evil.example:{ask.port}",
        "127.0.0.1.evil.example",
        "",
        "localhost.",
    ):
        status, _, body = ask("GET", "/", Host=host)
        assert (status, b"mini_sqa" in body) == (403, False)


def test_there_is_nothing_but_reading(ask):
    status, headers, body = ask("HEAD", "/")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 1000
    assert headers["X-Content-Type-Options"] == "nosniff"
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert ask(method, "/")[0] == 405
    assert ask("BREW", "/")[0] == 501
    assert ask("GET", "/absent")[0] == 404


def test_a_page_that_fails_leaves_the_server_as_it_was(ask, site, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(site, "answer", lambda address: 1 / 0)
        status, _, body = ask("GET", "/")
        assert (status, body) == (
            500, b"this page cannot be shown: ZeroDivisionError: division by zero\n",
        )  # fmt: skip
    assert ask("GET", "/")[0] == 200


def test_a_port_in_use_is_said(ask, site):
    with pytest.raises(AdemBenchError, match=f"port {ask.port} of 127.0.0.1 is in use; --port N"):
        ViewServer(site, ask.port)
