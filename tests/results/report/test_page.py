from __future__ import annotations

import re

import pytest

from adem_bench.errors import ResultsError
from adem_bench.results.report.page import report_parts, report_pieces, write_plots
from adem_bench.results.runs import open_runs
from support.run_writer import choice, write_run

HOSTILE = '</script><script>alert(1)</script>=HYPERLINK("http://x")\x1b[31m$x^2$\t\x00'


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A report of two runs of one task, one of them under a hostile name; to be read."""
    folder = tmp_path_factory.mktemp("two")
    answers = [choice(n, int(n < 20), choice_logprobs=(-0.1 - n / 60, -2.0)) for n in range(60)]
    better = [choice(n, int(n < 3)) for n in range(59)] + [choice(59, 0, response=HOSTILE)]
    write_run(folder / "a", answers)
    write_run(folder / "b", better, model=HOSTILE)
    runs, warnings = open_runs([folder])
    assert warnings == []
    return report_parts(runs)


def test_the_page_says_everything_once(parts):
    page = "".join(report_pieces(parts))
    for title in ("Headlines", "mini_sqa, split test", "Differences", "Samples", "Every metric"):
        assert len(re.findall(f"<(?:h2|h3|summary)[^>]*>{title}<", page)) == 1, title
    assert "66.67" in page
    assert "B is better" in page
    assert page.count("<figure") == len(parts[0].plots) == page.count('alt="')


def test_nothing_is_fetched_and_nothing_of_the_data_is_markup(parts):
    page = "".join(report_pieces(parts))
    assert "alert(1)</script>" not in page
    assert "\x1b" not in page
    assert "\x00" not in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1)
    assert policy.startswith("default-src &#39;none&#39;")
    assert "unsafe" not in policy


def test_plots_are_files_that_hold_no_script_and_no_date(parts, tmp_path):
    files = write_plots(parts, tmp_path / "plots", ["svg", "png"])
    names = {file.name for file in files}
    assert {"mini_sqa-headline.svg", "mini_sqa-groups.png", "mini_sqa-reliability.svg"} <= names
    assert "mini_sqa-prompts.svg" not in names  # the data is not available
    first = {file.name: file.read_bytes() for file in files}
    again = {f.name: f.read_bytes() for f in write_plots(parts, tmp_path / "more", ["svg", "png"])}
    assert first == again
    for name, content in first.items():
        if name.endswith(".svg"):
            assert b"<script" not in content
        else:
            assert content.startswith(b"\x89PNG")


def test_alternative_texts_hold_the_figures(parts):
    (headline,) = (plot for plot in parts[0].plots if plot.name == "mini_sqa-headline")
    assert "A m, SUBSET 60/300 66.67 [54.06, 77.27]" in headline.alt
    (reliability,) = (plot for plot in parts[0].plots if plot.name == "mini_sqa-reliability")
    assert "Expected calibration error: A m, SUBSET 60/300: 0." in reliability.alt


def test_a_table_stands_behind_every_plot(parts):
    for plot in parts[0].plots:
        assert plot.rows
        assert {len(row) for row in plot.rows} == {len(plot.header)}
    (groups,) = (plot for plot in parts[0].plots if plot.name == "mini_sqa-groups")
    assert groups.title == "mini_sqa: every group"
    assert ("average", "66.67 [54.06, 77.27]") in [row[:2] for row in groups.rows]
    page = "".join(report_pieces(parts))
    assert page.count("<summary>Table</summary>") == len(parts[0].plots)


def test_models_keep_their_letters_and_colours_and_subsets_come_last(tmp_path):
    whole = [choice(n, n % 2) for n in range(300)]
    write_run(tmp_path / "a", whole[:4], model="part")
    write_run(tmp_path / "b1", whole, model="one", blind=True)
    write_run(tmp_path / "b2", whole, model="one")
    write_run(tmp_path / "c", whole, model="two")
    further = [choice(n, 0) for n in range(30)]
    write_run(tmp_path / "d", further, model="two", task="sqa")
    first, second = report_parts(open_runs([tmp_path])[0])
    assert [m.label for m in first.members] == ["one", "one [blind]", "two", "part"]
    assert [(m.letter, m.place) for m in first.members] == list(zip("ABCD", range(4), strict=True))
    assert [(m.letter, m.place) for m in second.members] == [("C", 2)]
    (bars,) = (plot for plot in first.plots if plot.name == "mini_sqa-groups")
    assert bars.header == ("", "A one", "B one [blind]", "C two", "D part, SUBSET 4/300")


def test_what_is_the_same_for_all_is_said_and_not_plotted(parts, tmp_path):
    write_run(tmp_path / "c" / "a", [choice(n, 0) for n in range(9)])
    (part,) = report_parts(open_runs([tmp_path / "c"])[0])
    assert "mini_sqa-answers" not in {plot.name for plot in part.plots}
    assert part.remarks == [
        "Not plotted, because it is the same for all: mini_sqa: length of answers (characters: 1)."
    ]


def test_without_the_data_the_report_says_so(parts):
    (note,) = parts[0].notes
    assert note.startswith("Prompts and images are not shown: the data here is not what the runs")


def test_runs_that_do_not_compare_are_shown_all_the_same(tmp_path):
    write_run(tmp_path / "a", [choice(n, 0) for n in range(9)])
    write_run(tmp_path / "b", [choice(n, 0) for n in range(9)], task_version=2)
    (part,) = report_parts(open_runs([tmp_path])[0])
    assert part.comparison is None
    assert part.notes[0].startswith("No comparison: these runs are not comparable")
    assert "Differences" not in "".join(report_pieces([part]))


def test_too_many_runs_are_not_compared_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("adem_bench.results.report.page.MOST_COMPARED", 2)
    for name in "abc":
        write_run(tmp_path / name, [choice(n, 0) for n in range(9)], model=name)
    (part,) = report_parts(open_runs([tmp_path])[0])
    assert part.comparison is None
    assert part.notes[0] == (
        "No comparison: 3 runs make 3 pairs; a page of at most 2 runs of a task compares them, "
        "and `adem-bench compare` any number."
    )


def test_a_subset_does_not_shrink_the_comparison(tmp_path):
    write_run(tmp_path / "a", [choice(n, 0) for n in range(300)])
    write_run(tmp_path / "b", [choice(n, 1) for n in range(300)])
    write_run(tmp_path / "c", [choice(n, 0) for n in range(9)], limit=9)
    (part,) = report_parts(open_runs([tmp_path])[0])
    assert part.comparison.samples == 300
    assert [member.letter for member in part.compared] == ["A", "B"]
    assert part.notes[0].startswith("Not compared, because they are not complete: C")


def test_a_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="at least one"):
        report_parts([])
    with pytest.raises(ResultsError, match="no finished run in"):
        open_runs([tmp_path])
