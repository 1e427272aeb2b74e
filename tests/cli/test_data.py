from __future__ import annotations


def test_mini_data_is_written_in_the_official_layouts(adem_bench, tmp_path):
    made = adem_bench("data", "mini", "--output", "root")
    assert (made.code, made.out) == (0, "wrote test below root\n")
    assert (tmp_path / "root" / "scienceqa" / "problems.json").is_file()
    assert (tmp_path / "root" / "MME_Benchmark_release_version").is_dir()


def test_the_task_says_that_it_is_there(adem_bench):
    adem_bench("data", "mini", "--output", "root")
    for task in ("mini_sqa", "mini_mme", "mini_caption"):
        assert "yes, below root" in adem_bench("tasks", "show", task, "--data-root", "root").out


def test_no_split_is_a_mistake(adem_bench):
    made = adem_bench("data", "mini", "--output", "root", "--splits", ",")
    assert made.code == 2
    assert made.err.startswith("error: --splits names none")
