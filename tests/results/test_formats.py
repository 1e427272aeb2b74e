"""The leaderboard's formats; what models, cards and files say is hostile in all of them."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from adem_bench.records import Metric
from adem_bench.results.console import BOLD, PLAIN, Console
from adem_bench.results.dataframe import COLUMNS
from adem_bench.results.leaderboard.build import View, build_leaderboard
from adem_bench.results.leaderboard.formats import FORMATS, leaderboard_text
from adem_bench.results.leaderboard.formats.exports import inert, leaderboard_long
from adem_bench.results.leaderboard.formats.latex import tex
from adem_bench.results.leaderboard.formats.terminal import show_leaderboard
from adem_bench.results.leaderboard.published_figures import PublishedRow
from adem_bench.results.runs import finished_runs

HOSTILE = [
    '=HYPERLINK("http://evil.example","x")',
    "x;=cmd|' /C calc'!A0",
    "\t@SUM(A1)",
    "＝1+1",  # noqa: RUF001 - spreadsheets take the wide sign too
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "[click](http://evil.example) ![](http://evil.example/p.png) `code` $x$",
    "a|b|c\nd",
    "\x1b[2J\x1b]8;;http://evil.example\x07\x9b31m",
    "nul\0nul",
    "\u202egnp.exe",
    "half \ud800 a letter",
    r"\input{/etc/passwd} \write18{rm} % & # _ ^ ~ {",
    "{{ 7*7 }}{% raw %}",
    "~nobody-of-this-name",
    "../../../etc/x.yaml",
    "n" * 5000,
    "",
]


@pytest.fixture
def hostile(run, tmp_path):
    """A board whose every text is hostile, at once: models, tasks, metrics, notes, sources."""
    for text in HOSTILE:
        plain = text.encode("utf-8", "replace").decode()  # our own writer lets no halves pass
        further = (Metric("m2", None, "points", 1, note=plain),)
        run(text, 0.5, language_model=text, fingerprint=text, finished=text, further=further)
        run("m", 0.5, task=plain, prompt_format=text, scored=3)
    runs, warnings = finished_runs(tmp_path)
    assert warnings == []
    figures = [
        PublishedRow(text, text, text, "quiz", "test", "acc", 1.0, text or "s", text)
        for text in HOSTILE
    ]
    return build_leaderboard(runs, figures, View(all_metrics=True))


@pytest.mark.parametrize("form", FORMATS)
def test_no_control_character_passes(hostile, form):
    text = leaderboard_text(hostile, form, intervals=True)
    assert re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text) == []
    text.encode()


def test_data_adds_no_line_and_no_cell_to_a_table(hostile):
    text = leaderboard_text(hostile, "csv")
    lines = list(csv.reader(io.StringIO(text)))
    assert len(lines) == len(text.splitlines()) == len(hostile.rows) + 1
    assert len({len(line) for line in lines}) == 1
    table = leaderboard_text(hostile, "md").partition("\n\n")[0].splitlines()
    assert len(table) == len(hostile.rows) + 2
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1


@pytest.mark.parametrize("text", [text for text in HOSTILE if text])
def test_spreadsheets_find_no_formula(text):
    for separator in (",", ";", "\t"):
        (cells,) = csv.reader([inert(text)], delimiter=separator)
        assert cells
        for cell in cells:
            assert not cell.strip().startswith(("=", "+", "-", "@", "＝"))  # noqa: RUF001


def test_no_cell_of_a_csv_starts_a_formula(hostile):
    text = leaderboard_text(hostile, "csv")
    for line in csv.reader(io.StringIO(text)):
        for cell in line:
            assert not cell.startswith(("=", "+", "-", "@", "\t"))


def test_the_long_csv_is_as_safe(run, tmp_path):
    for text in HOSTILE:
        run(
            text,
            0.5,
            fingerprint=text,
            finished=text,
            task=text.encode("utf-8", "replace").decode(),
        )
    runs, _ = finished_runs(tmp_path)
    text = leaderboard_long(runs)
    assert len(text.splitlines()) == len(HOSTILE) + 1
    for line in csv.reader(io.StringIO(text)):
        assert not [cell for cell in line if cell.startswith(("=", "+", "-", "@", "\t"))]


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.depth = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in ("meta", "img", "br", "input", "wbr"):
            self.depth.append(tag)

    def handle_endtag(self, tag):
        assert self.depth.pop() == tag


def parsed(text):
    page = Page()
    page.feed(text)
    page.close()
    assert page.depth == []
    return page


def test_a_page_has_no_tag_or_attribute_from_data(hostile, run, tmp_path):
    page = parsed(leaderboard_text(hostile, "html"))
    assert page.tags.count("script") == 1
    assert not {"img", "iframe", "object", "base", "form", "link"} & set(page.tags)
    names = {name for name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on") or name in ("src", "style")}
    links = [value for name, value in page.attributes if name == "href"]
    assert links
    assert [link for link in links if not re.fullmatch(r"#source-\d+", link)] == []


def test_a_page_allows_its_own_style_and_script_alone(hostile):
    page = parsed(leaderboard_text(hostile, "html"))
    (policy,) = [v for n, v in page.attributes if n == "content" and "default-src" in v]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.keys() == {"default-src", "style-src", "script-src", "base-uri", "form-action"}
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for rule in ("style-src", "script-src"):
        assert re.fullmatch(r"'sha256-[\w+/]{43}='", rules[rule])


def latex_rows(text):
    body = text.partition("\\midrule\n")[2].partition("\\bottomrule")[0]
    return body.splitlines()


def test_latex_stays_balanced_and_runs_no_command_of_data(hostile):
    text = leaderboard_text(hostile, "latex")
    bare = re.sub(r"\\[\\{}$&#_%]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert text.isascii()
    commands = set(re.findall(r"\\([a-zA-Z]+)", text))
    assert commands == {
        "begin", "end", "centering", "caption", "label", "textwidth", "toprule", "midrule",
        "bottomrule", "cmidrule", "multicolumn", "textbf", "scriptsize", "par", "smallskip",
        "footnotesize", "raggedright", "usepackage", "textbackslash", "textasciicircum",
        "textasciitilde", "textless", "textgreater", "textbar",
    } - {"scriptsize"}  # fmt: skip
    widths = {len(re.findall(r"(?<!\\)&", line)) for line in latex_rows(text)}
    assert len(widths) == 1
    (columns,) = re.findall(r"\\begin\{tabular\}\{(\w+)\}", text)
    assert widths == {len(columns) - 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50% & more_of #1", r"50\% \& more\_of \#1"),
        ("\\end{document}", r"\textbackslash{}end\{document\}"),
        ("é 中", "é [U+4E2D]"),
        ("\x1b[2J", r"\textbackslash{}x1b[2J"),
    ],
)
def test_latex_prints_texts_as_they_are(text, expected):
    assert tex(text) == expected


def test_json_gives_back_what_it_was_given(hostile):
    text = leaderboard_text(hostile, "json")
    assert text.isascii()
    assert {row["model"] for row in json.loads(text)["rows"]} >= set(HOSTILE)


def test_markdown_shows_markup_instead_of_obeying_it(run, tmp_path):
    run("<script>a</script> [x](y) `z` __b__ a_b *c*")
    text = leaderboard_text(build_leaderboard(finished_runs(tmp_path)[0]), "md")
    assert r"&lt;script&gt;a&lt;/script&gt; \[x\](y) \`z\` \__b_\_ a_b \*c\*" in text


@pytest.fixture
def board(run, tmp_path):
    """Two whole runs, a subset and a published row."""
    run("good", 0.91, low=0.88, high=0.94, rate=3.14159)
    run("fair", 0.5)
    run("part", 1.0, scored=2, low=0.3, high=1.0)
    figures = [PublishedRow("Paper", "L", "4.5M", "quiz", "test", "acc", 90.5, "arXiv", "a typo")]
    return build_leaderboard(finished_runs(tmp_path)[0], figures)


def test_latex_has_groups_bold_figures_intervals_and_footnotes(board):
    text = leaderboard_text(board, "latex")
    assert " &  &  &  & \\multicolumn{1}{c}{quiz, test} \\\\\n\\cmidrule(lr){5-5}\n" in text
    assert latex_rows(text) == [
        r"1 & good & LLaMA-7B & 4.5M & \textbf{91.00} \\",
        r" &  &  &  & {\scriptsize [88.00, 94.00]} \\",
        r"2 & Paper$^{1}$ & L & 4.5M & 90.50 \\",
        r"3 & fair & LLaMA-7B & 4.5M & 50.00 \\",
        r"-- & part & LLaMA-7B & 4.5M & 100.00$^{*}$ \\",
        r" &  &  &  & {\scriptsize [30.00, 100.00]} \\",
    ]
    assert r"Samples: quiz/test 10; SUBSET 2/10 (part).\par" in text
    assert r"$^{1}$ published: arXiv: a typo.\par" in text
    assert r"$^{*}$ not the whole split" in text
    assert "scriptsize" not in leaderboard_text(board, "latex", intervals=False)
    full = leaderboard_text(replace(board, all_metrics=True), "latex")
    assert latex_rows(full)[0] == r"1 & good & LLaMA-7B & 4.5M & \textbf{91.00} & 10 & 3.14 \\"
    assert "Samples:" not in full


def test_markdown_has_intervals_beside_figures_and_footnotes(board):
    lines = leaderboard_text(board, "md").splitlines()
    assert lines[2:6] == [
        r"| 1 | good | LLaMA-7B | 4.5M | measured | **91.00 \[88.00, 94.00\]** | 10 | 3.14 |",
        r"| 2 | Paper | L | 4.5M | published \[1\] | 90.50 |  |  |",
        "| 3 | fair | LLaMA-7B | 4.5M | measured | 50.00 | 10 |  |",
        r"| - | part | LLaMA-7B | 4.5M | measured | 100.00\* \[30.00, 100.00\] | SUBSET 2/10 |  |",
    ]
    assert r"\[1\] arXiv: a typo." in lines
    assert [line for line in lines if line.startswith(r"\* not the whole split")]


def test_the_terminals_table_has_intervals_if_asked(board):
    assert "91.00 [88.00, 94.00]" in leaderboard_text(board, "table", intervals=True)
    text = leaderboard_text(board, "table")
    assert "[88.00" not in text
    assert "100.00*" in text
    assert "[1] arXiv: a typo" in text


def in_window(board, width):
    out = Console(io.StringIO(), width)
    show_leaderboard(board, False, out)
    text = out.stream.getvalue().replace(BOLD, "").replace(PLAIN, "")
    assert max(map(len, text.splitlines())) <= width
    return text


def test_a_narrow_window_gets_fewer_columns_and_is_told_so(board):
    assert "left out" not in in_window(board, 120)
    text = " ".join(in_window(board, 62).split())
    assert (
        "left out of this narrow window: trainable, language model; --output FILE has all" in text
    )
    assert "published [1]" in text
    assert "SUBSET 2/10" in text
    assert "LLaMA-7B" not in text


def test_rows_of_one_name_keep_the_language_model_in_a_narrow_window(run, tmp_path):
    run("m", 0.9)
    run("m", 0.5, language_model="another model", blind=True)
    figures = [PublishedRow("m", "B", "", "quiz", "test", "acc", 80.0, "arXiv", "")]
    board = build_leaderboard(finished_runs(tmp_path)[0], figures)
    assert "another" in in_window(board, 50)


def test_json_is_unrounded_and_has_what_the_docs_say(board):
    data = json.loads(leaderboard_text(board, "json"))
    assert (data["schema"], data["sort"]) == (1, "quiz/test acc")
    assert data["tasks"][0]["columns"] == [{"name": "quiz/test acc", "metric": "acc"}]
    good, paper, _, part = data["rows"]
    assert good["cells"]["quiz/test acc"] == {
        "value": 91.0,
        "low": 88.0,
        "high": 94.0,
        "interval": "",
        "unit": "percent",
        "count": 10,
        "complete": True,
        "shown": "91.00",
        "note": "",
        "source": "",
    }
    assert good["runs"]["quiz/test"]["samples_per_second"] == 3.14159
    assert (paper["rank"], paper["origin"], paper["runs"]) == (2, "published", {})
    assert paper["cells"]["quiz/test acc"]["source"] == "arXiv"
    assert (part["rank"], part["cells"]["quiz/test acc"]["complete"]) == (None, False)


def test_a_page_is_complete_without_its_script(board):
    text = leaderboard_text(board, "html")
    page = parsed(text)
    assert ("scope", "colgroup") in page.attributes
    assert ("colspan", "2") in page.attributes
    assert ("aria-sort", "descending") in page.attributes
    assert page.attributes.count(("scope", "row")) == 4
    assert '<strong>91.00</strong><span class="interval">[88.00, 94.00]</span>' in text
    assert '<a href="#source-1">[1]</a>' in text
    assert '<li id="source-1">arXiv: a typo</li>' in text
    assert "SUBSET 2/10" in text
    # Headlines stand before what is said of models, and samples behind.
    order = re.findall(r'data-column="([^"]*)"', text)
    assert order == [
        "quiz/test acc", "language model", "trainable", "quiz/test n", "quiz/test samples/s",
    ]  # fmt: skip
    # What is no whole figure has no value for the script to sort by.
    (cell,) = re.findall(r"<td[^>]*>100\.00", text)
    assert "data-value" not in cell


DOCS = (Path(__file__).resolve().parents[2] / "docs" / "leaderboard.md").read_text("utf-8")


def test_rows_that_were_read_by_different_rules_are_named(run, tmp_path):
    for model, options in (("tuned", {}), ("chatty", {"answer_rule": "chat"})):
        path = run(model) / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["task"]["card"] = {"options": options}
        path.write_text(json.dumps(manifest))
        shown = leaderboard_text(build_leaderboard(finished_runs(tmp_path)[0]), "md")
        if model == "tuned":
            assert "read alike" not in shown
    assert "answers to quiz/test were not all read alike: " in shown
    assert "chatty by chat" in shown
    assert "tuned by the task's own rule" in shown


def test_rows_that_only_their_weights_tell_apart_are_named(run, tmp_path):
    said = (
        "m names 2 models of other weights, told apart by their fingerprints: m [aaaaaaaa], "
        "m [bbbbbbbb]; `run --name` gives one a name of its own"
    )
    for digit in "ab":
        run(fingerprint=digit * 16)
        board = build_leaderboard(finished_runs(tmp_path)[0])
        shown = in_window(board, 400)
        assert (said in shown) == (digit == "b")


def documented(heading):
    section = DOCS.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"`([^`]+)`", section)


def test_every_field_of_the_json_is_described(board):
    data = json.loads(leaderboard_text(board, "json"))
    row = data["rows"][0]
    cell, run = (next(iter(row[name].values())) for name in ("cells", "runs"))
    fields = {*data, *data["tasks"][0], *data["tasks"][0]["columns"][0], *row, *cell, *run}
    assert fields <= set(documented("JSON"))


def test_the_columns_of_the_csv_are_the_described_ones_in_their_order(board):
    header = next(csv.reader(io.StringIO(leaderboard_text(board, "csv"))))
    names = [name.replace("quiz/test", "TASK/SPLIT").replace("acc", "METRIC") for name in header]
    assert [name for name in dict.fromkeys(documented("CSV")) if name in names] == names


def test_the_columns_of_the_long_csv_are_the_described_ones_in_their_order():
    assert [name for name in documented("Long CSV") if name in COLUMNS] == list(COLUMNS)
