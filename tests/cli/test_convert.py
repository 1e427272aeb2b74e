from __future__ import annotations

from pathlib import Path

import pytest

from adem_bench.models.fused.weights.adapter import read_adapter


def test_an_adapter_goes_both_ways(adem_bench, parity):
    checkpoint = parity / "checkpoint-19.pth"
    there = adem_bench("convert", "adapter", checkpoint, "ours")
    assert (there.code, there.out) == (0, "wrote ours\n")
    assert there.err.startswith("warning: ours has no place for epoch, optimizer, scaler")
    assert there.err.count("\n") == 1
    back = adem_bench("convert", "adapter", "ours", "again.pth")
    assert (back.code, back.out, back.err) == (0, "wrote again.pth\n", "")
    assert read_adapter(Path("again.pth")).settings == read_adapter(checkpoint).settings


def test_a_language_model_goes_both_ways(adem_bench, parity):
    there = adem_bench("convert", "llama", parity / "weights" / "tiny", "hf", "--dtype", "bfloat16")
    assert (there.code, there.out, there.err) == (0, "wrote hf\n", "")
    assert '"dtype": "bfloat16"' in Path("hf/config.json").read_text()
    back = adem_bench("convert", "llama", "hf", "meta")
    assert (back.code, back.out, back.err) == (0, "wrote meta\n", "")
    assert Path("meta/consolidated.00.pth").is_file()


def test_what_exists_is_kept_unless_overwrite_is_given(adem_bench, parity):
    arguments = ("convert", "adapter", parity / "checkpoint-19.pth", "ours")
    assert adem_bench(*arguments).code == 0
    refused = adem_bench(*arguments)
    assert refused.code == 2
    assert refused.err == (
        "error: ours exists; name another target, or replace it with --overwrite\n"
    )
    assert adem_bench(*arguments, "--overwrite").code == 0


@pytest.mark.parametrize("verb", ["adapter", "llama"])
@pytest.mark.parametrize("source", ["nowhere", "empty", "text.pth"])
def test_a_wrong_source_is_told_in_a_line(adem_bench, verb, source):
    Path("empty").mkdir()
    Path("text.pth").write_text("hello")
    told = adem_bench("convert", verb, source, "target")
    assert told.code == 2
    assert told.err.startswith("error: ")
    assert source in told.err
    assert told.err.count("\n") == 1
    assert not Path("target").exists()


def test_an_unknown_kind_of_weights_gets_the_nearest(adem_bench):
    told = adem_bench("convert", "lama", "a", "b")
    assert told.code == 2
    assert "did you mean: llama?" in told.err
