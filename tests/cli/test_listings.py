"""Listings as JSON: what the tables say, for programs."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize("verb", ["models", "tasks", "recipes"])
def test_a_listing_as_json_names_what_the_table_names(adem_bench, verb):
    table = adem_bench(verb, "list").out
    done = adem_bench(verb, "list", "--format", "json")
    assert (done.code, done.err) == (0, "")
    listed = json.loads(done.out)
    for entry in listed[verb]:
        assert f"\n{entry['name']} " in f"\n{table}"
    first_column = [line.split()[0] for line in table.splitlines() if line and line[0] != " "]
    assert {entry["name"] for entry in listed[verb]} <= set(first_column)


def test_the_fields_of_each_listing(adem_bench):
    def listed(verb, name):
        found = json.loads(adem_bench(verb, "list", "--format", "json").out)
        return found, next(entry for entry in found[verb] if entry["name"] == name)

    found, model = listed("models", "adem-tiny")
    assert (model["kind"], type(model["adapters"])) == ("fused", list)
    assert "majority" in found["kinds_without_card"]
    found, task = listed("tasks", "sqa")
    assert (task["split"], task["samples"], task["headline"]) == ("test", 4241, "average")
    assert {"name": "mini", "tasks": ["mini_sqa", "mini_mme", "mini_caption"]} in found["groups"]
    assert next(t for t in found["tasks"] if t["name"] == "mini_instruction")["headline"] is None
    _, recipe = listed("recipes", "sqa")
    assert recipe["data"][0] == {"task": "sqa", "split": "train"}


def test_an_unreadable_card_leaves_the_json_whole(adem_bench, tmp_path, monkeypatch):
    (tmp_path / "cards" / "tasks").mkdir(parents=True)
    (tmp_path / "cards" / "tasks" / "torn.yaml").write_text("kind: [")
    monkeypatch.setenv("ADEM_BENCH_INCLUDE", str(tmp_path / "cards"))
    done = adem_bench("tasks", "list", "--format", "json")
    assert done.code == 0
    assert "sqa" in {task["name"] for task in json.loads(done.out)["tasks"]}
    assert done.err.startswith("warning: ")
