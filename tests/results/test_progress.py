from __future__ import annotations

import pytest

from adem_bench.results.progress import Pace, ProgressLines, Standing


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lines(clock):
    """Lines of a run, and what was written."""
    written = []
    progress = ProgressLines("sqa", written.append, clock)
    progress.written = written
    return progress


def test_there_is_a_line_for_every_5_percent(lines, clock):
    for done in range(1, 401):
        clock.now += 0.25
        lines.update(Standing(done, 400, done))
    lines.close()
    assert len(lines.written) == 20
    assert lines.written[0].startswith("sqa: 20 of 400 samples (5%), 0 failed, 4 samples/s, ")


def test_lines_are_seconds_apart_and_a_run_that_takes_none_has_none(lines, clock):
    for done in range(1, 401):
        clock.now += 0.01
        lines.update(Standing(done, 400, done))
    lines.close()
    assert lines.written == []
    long = ProgressLines("long", lines.written.append, clock)
    for done in range(1, 401):
        clock.now += 0.125
        long.update(Standing(done, 400, done))
    long.close()
    # 5% take two and a half seconds.
    shares = [line.partition("(")[2].partition(")")[0] for line in lines.written]
    assert shares == [f"{share}%" for share in range(10, 101, 10)]


def test_samples_that_fail_at_once_do_not_raise_the_rate(lines, clock):
    clock.now += 40
    lines.update(Standing(398, 400, asked=98, failed=90))
    clock.now += 10
    lines.update(Standing(400, 400, asked=100, failed=90))
    lines.close()
    assert lines.written == [
        "sqa: 398 of 400 samples (100%), 90 failed, 0.2 samples/s, 0:00:01 left",
        "sqa: 400 of 400 samples (100%), 90 failed, 0.2 samples/s, took 0:00:50",
    ]


def test_without_an_answer_there_is_no_rate(lines, clock):
    clock.now += 40
    lines.update(Standing(4, 4, asked=4, failed=4))
    assert lines.written == ["sqa: 4 of 4 samples (100%), 4 failed, took 0:00:40"]


def test_there_is_a_line_every_30_seconds_however_little_was_done(lines, clock):
    for done in range(1, 91):
        clock.now += 10
        lines.update(Standing(done, 10_000, done, failed=done // 30))
    assert len(lines.written) == 30
    assert lines.written[-1] == (
        "sqa: 90 of 10,000 samples (1%), 3 failed, 0.0967 samples/s, 1 day, 3:31:40 left"
    )


def test_the_rate_is_of_what_this_call_asked_and_the_last_line_says_how_long_it_took(lines, clock):
    lines.update(Standing(300, 400))
    assert lines.written == []
    clock.now += 20
    lines.update(Standing(350, 400, asked=50))
    clock.now += 20
    lines.update(Standing(400, 400, asked=100, failed=1))
    lines.close()
    assert lines.written == [
        "sqa: 350 of 400 samples (88%), 0 failed, 2.5 samples/s, 0:00:20 left",
        "sqa: 400 of 400 samples (100%), 1 failed, 2.48 samples/s, took 0:00:40",
    ]


def test_a_run_that_ends_before_its_expected_number_has_a_last_line(lines, clock):
    clock.now += 10
    lines.update(Standing(20, 400, 20))
    clock.now += 1
    lines.update(Standing(33, 400, 33))
    lines.close()
    assert lines.written == [
        "sqa: 20 of 400 samples (5%), 0 failed, 2 samples/s, 0:03:10 left",
        "sqa: 33 of 400 samples (8%), 0 failed, 3 samples/s, took 0:00:11",
    ]


def test_a_few_samples_have_lines_only_if_they_take_long(lines, clock):
    for done in range(1, 5):
        clock.now += 1
        lines.update(Standing(done, 4, done))
    lines.close()
    assert lines.written == []
    clock.now += 30
    lines.update(Standing(4, 5, 4))
    lines.close()
    assert len(lines.written) == 1


def test_what_has_no_known_end_has_lines_by_time_alone(clock):
    pace = Pace(clock)
    due = 0
    for done in range(100):
        clock.now += 1
        due += pace.is_due(done, None)
    assert due == 3


def test_data_of_more_samples_than_the_card_says_has_no_share_and_no_time_left(lines, clock):
    for done in (40, 120, 200):
        clock.now += 60
        lines.update(Standing(done, 100, done))
    lines.close()
    assert lines.written == [
        "sqa: 40 of 100 samples (40%), 0 failed, 0.667 samples/s, 0:01:30 left",
        "sqa: 120 samples, 0 failed, 1 samples/s",
        "sqa: 200 samples, 0 failed, 1.11 samples/s",
    ]
