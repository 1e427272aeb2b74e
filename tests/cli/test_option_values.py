"""Numbers of options that no Python reads or no system waits for: each a mistake of one line."""

from __future__ import annotations

import pytest

from adem_bench.cli import main

LONG = "9" * 5000
SERVED = ("run", "--model", "openai:x@http://127.0.0.1:9/v1", "--tasks", "mini_mme", "--set")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--model", "majority", "--tasks", "mini_mme", "--part", f"1/{LONG}"),
        ("run", "--model", "majority", "--tasks", "mini_mme", "--batch-size", LONG),
        ("run", "--model", "majority", "--tasks", "mini_mme", "--limit", LONG),
        ("run", "--model", "majority", "--tasks", "mini_mme", "--seed", "9" * 400),
        (*SERVED, "model.options.timeout=1e400"),
        (*SERVED, "model.options.timeout=1e12"),
        (*SERVED, "model.options.backoff=1e400"),
        (*SERVED, "model.options.longest_wait=1e30"),
        (*SERVED, f"model.options.retries={LONG}"),
        *(
            ("ask", "--model", "adem-tiny", option, value, "hi")
            for option in ("--temperature", "--top-p")
            for value in ("nan", "inf", "-inf")
        ),
        ("run", "--model", "adem-tiny", "--tasks", "mini_mme", "--temperature", "1e400"),
        ("compare", "a", "b", "--power", "nan"),
        ("data", "verify", "mini_mme", "--images", LONG),
        ("recipes", "show", "mini", "--set", f"data.{LONG}.limit=1"),
        ("recipes", "show", "mini", "--set", f"epochs={LONG}"),
    ],
)
def test_a_number_longer_than_python_reads_is_a_mistake(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
