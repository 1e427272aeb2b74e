from __future__ import annotations

import hashlib
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from adem_bench.cards import load_model_card

CARD = """\
title: {title}
language_model: {{path: lm, source: the moon}}
adapters:
  sqa: {{path: a.pth, url: {url}}}
"""


@pytest.fixture
def my_cards(tmp_path, monkeypatch, adem_bench):
    """Makes cards of one's own known by name."""

    def write(name, text):
        folder = tmp_path / "cards" / "models"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        monkeypatch.setenv("ADEM_BENCH_INCLUDE", str(tmp_path / "cards"))
        return folder

    return write


def test_the_list_has_the_packaged_models_and_ones_own(adem_bench, my_cards):
    my_cards("mine", CARD.format(title=r'"Mine \e[31m"', url="''"))
    listed = adem_bench("models")
    assert listed.code == 0
    for name in ("adem-7b", "adem-13b", "adem", "mine"):
        assert f"\n{name} " in listed.out
    assert r"Mine \x1b[31m" in listed.out
    assert "\x1b" not in listed.out
    assert listed.out == adem_bench("models", "list").out


def test_an_unreadable_card_is_named_and_the_others_are_listed(adem_bench, my_cards):
    folder = my_cards("torn", "title: [")
    listed = adem_bench("models")
    assert listed.code == 0
    assert "adem-7b" in listed.out
    assert listed.err.startswith(f"warning: {folder / 'torn.yaml'}, line")


def test_show_says_of_every_file_where_it_is_or_where_to_get_it(adem_bench, tmp_path):
    weights = tmp_path / "data" / "weights"
    (weights / "7B").mkdir(parents=True)
    shown = adem_bench("models", "show", "adem-7b")
    assert shown.code == 0
    assert "trainable_parameters: 4530432" in shown.out
    lines = {line.split("  ")[0]: line for line in shown.out.splitlines()}
    assert "yes: data/weights/7B" in lines["language model"]
    assert "`adem-bench models pull adem-7b` fetches it" in lines["adapter sqa"]


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("memvp-7b", 1), ("memvp-13b", 1), ("lavin-7b", 1), ("lavin-13b", 2),
        ("lavin-vicuna-7b", 1), ("lavin-vicuna-13b", 0),
    ],
)  # fmt: skip
def test_show_and_pull_of_models_whose_adapters_are_fetched_by_hand(adem_bench, name, by_hand):
    shown = adem_bench("models", "show", name)
    assert shown.code == 0
    assert "evaluation:\n" in shown.out
    assert "prompts:\n  scienceqa:\n    prompt_format: QCM-A" in shown.out
    pulled = adem_bench("models", "pull", name, "--data-root", "d")
    assert (pulled.code, pulled.err) == (0, "")
    lines = pulled.out.splitlines()
    assert sum(line.startswith("to be fetched by hand: adapter ") for line in lines) == by_hand
    assert all("(no size and no sha256 is published)" in line for line in lines[:by_hand])
    assert lines[-1].startswith("still needed: language model")
    checked = adem_bench("models", "check", name, "--data-root", "d")
    assert checked.out.startswith(f"no adapter of {name} is on disk")


def test_check_says_what_an_adapter_is_and_in_what_it_is_not_as_the_card_says(
    adem_bench, my_cards, parity
):
    file = parity.parent / "parity_lavin" / "checkpoint-19.pth"
    text = "language_model: {{path: lm}}\nfusion: {{kind: {kind}}}\ntrainable_parameters: {count}\n"
    text += f"adapters: {{{{sqa: {{{{path: {file}}}}}}}}}\n"
    my_cards("mine", text.format(kind="lavin", count=32_184))
    checked = adem_bench("models", "check", "mine")
    assert (checked.code, checked.err) == (0, "")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    facts = f"lavin, 101 tensors, 32,184 values, {file.stat().st_size:,} bytes, sha256 {sha256}"
    assert facts in checked.out
    my_cards("mine", text.format(kind="memvp", count=1))
    checked = adem_bench("models", "check", "mine")
    assert checked.code == 2
    assert "method lavin, and the card says memvp" in checked.err
    assert "values 32184, and the card says 1" in checked.err


def test_show_of_another_kind_is_what_is_set_and_where_its_folder_is(adem_bench, tmp_path):
    (tmp_path / "mine").mkdir()
    shown = adem_bench("models", "show", "hf:mine", "--set", "options.system=Hi")
    assert shown.code == 0
    assert "options:\n  source: mine\n  system: Hi\n" in shown.out
    assert "fusion" not in shown.out
    assert "yes: mine" in shown.out
    assert "taken from the Hugging Face hub" in adem_bench("models", "show", "hf:org/name").out
    assert "on disk" not in adem_bench("models", "show", "echo").out


def test_pull_of_another_kind_says_what_there_is(adem_bench, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    assert adem_bench("models", "pull", "hf:mine").out == "mine: already there\n"
    pulled = adem_bench("models", "pull", "echo")
    assert (pulled.code, pulled.out.count("no files to fetch")) == (0, 1)


def test_show_applies_overrides(adem_bench):
    shown = adem_bench("models", "show", "adem-7b", "--set", "fusion.alpha=0.25")
    assert "alpha: 0.25" in shown.out


def test_pull_without_urls_fetches_nothing_and_says_what_else_is_needed(adem_bench, my_cards):
    my_cards("mine", CARD.format(title="t", url="''"))
    pulled = adem_bench("models", "pull", "mine", "--data-root", "d")
    assert pulled.code == 0
    assert "names no adapter with a URL" in pulled.out
    assert "language model 'lm' of model mine is not on disk" in pulled.out
    assert "get it from the moon and put it at d/weights/lm" in pulled.out


def test_pull_takes_only_web_addresses(adem_bench, my_cards):
    my_cards("mine", CARD.format(title="t", url="file:///etc/passwd"))
    pulled = adem_bench("models", "pull", "mine", "--data-root", "d")
    assert pulled.code == 2
    assert pulled.err.startswith("error: model mine, adapter sqa: url 'file:///etc/passwd' is not")


def test_pull_fails_in_a_line_when_the_server_is_not_there(adem_bench, my_cards):
    my_cards("mine", CARD.format(title="t", url="http://127.0.0.1:9/a.pth"))
    pulled = adem_bench("models", "pull", "mine", "--data-root", "d")
    assert pulled.code == 2
    assert "http://127.0.0.1:9/a.pth: nothing came" in pulled.err
    assert pulled.err.count("\n") == 1


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def served(tmp_path):
    """A folder of files behind a web address."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_pull_puts_the_adapter_where_the_model_looks_for_it(adem_bench, my_cards, served):
    folder, url = served
    (folder / "a.pth").write_bytes(b"weights")
    my_cards("mine", CARD.format(title="t", url=f"{url}/a.pth"))
    assert (
        "d/weights/a.pth: fetched\n" in adem_bench("models", "pull", "mine", "--data-root", "d").out
    )
    shown = adem_bench("models", "show", "mine", "--data-root", "d").out
    assert "yes: d/weights/a.pth" in shown
    again = adem_bench("models", "pull", "mine", "--data-root", "d")
    assert (again.code, again.err) == (0, "")
    assert "d/weights/a.pth: already there\n" in again.out


def test_pull_of_a_file_that_is_gone_says_so(adem_bench, my_cards, served):
    my_cards("mine", CARD.format(title="t", url=f"{served[1]}/gone.pth"))
    pulled = adem_bench("models", "pull", "mine", "--data-root", "d")
    assert pulled.code == 2
    assert pulled.err.startswith(f"error: {served[1]}/gone.pth does not exist (404)")


def test_pull_leaves_an_adapter_beside_the_card_where_it_is(adem_bench, my_cards, tmp_path):
    folder = my_cards("mine", CARD.format(title="t", url="http://127.0.0.1:9/a.pth"))
    (folder / "a.pth").touch()
    pulled = adem_bench("models", "pull", "mine", "--data-root", "d")
    assert pulled.code == 0
    assert f"{folder / 'a.pth'}: already there\n" in pulled.out


@pytest.mark.parametrize("verb", [("ask",), ("models", "show"), ("models", "check")], ids=" ".join)
def test_the_help_of_set_names_a_field_of_a_models_card(adem_bench, verb):
    help_text = " ".join(adem_bench(*verb, "--help").out.split())
    (example,) = re.findall(r"Override a field of .*?, for example (\S+);", help_text)
    assert load_model_card("adem-tiny", [example])
