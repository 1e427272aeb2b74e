from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

import adem_bench.registry as registry_module
from adem_bench.errors import CardError
from adem_bench.registry import JUDGED, MODEL_KINDS, TASK_KINDS, Registry


@pytest.fixture
def plugins(monkeypatch):
    """Pretends that packages with entry points are installed."""

    def install(*entries):
        points = [EntryPoint(name, value, "adem_bench.things") for name, value in entries]
        monkeypatch.setattr(registry_module, "entry_points", lambda group: points)

    return install


def a_registry():
    return Registry("thing", "adem_bench.things", {"path": "pathlib:Path"})


def test_a_name_gives_its_class(plugins):
    plugins()
    assert a_registry().load("path").__name__ == "Path"


def test_a_plugin_adds_a_name(plugins):
    plugins(("fraction", "fractions:Fraction"))
    assert a_registry().load("fraction").__name__ == "Fraction"
    assert sorted(a_registry().table()) == ["fraction", "path"]


def test_a_name_claimed_twice_is_an_error_that_names_both(plugins):
    plugins(("path", "other.package:Path"))
    with pytest.raises(CardError) as caught:
        a_registry().load("path")
    assert str(caught.value) == (
        "thing 'path' is claimed by both pathlib:Path and other.package:Path; "
        "uninstall one of them or rename it"
    )


def test_the_same_entry_installed_twice_is_no_clash(plugins):
    plugins(("path", "pathlib:Path"), ("path", "pathlib:Path"))
    assert a_registry().load("path").__name__ == "Path"


@pytest.mark.parametrize("value", ["no_such_package:Thing", "fractions:Fractoin"])
def test_a_broken_plugin_is_named(plugins, value):
    plugins(("broken", value))
    with pytest.raises(CardError) as caught:
        a_registry().load("broken")
    assert str(caught.value).startswith(f"thing 'broken' is the plug-in {value}, which cannot")


def test_an_unknown_name_proposes_the_nearest(plugins):
    plugins()
    with pytest.raises(CardError, match="unknown thing 'paht'; did you mean: path"):
        a_registry().load("paht")


@pytest.mark.parametrize(
    ("registry", "name"),
    [(registry, name) for registry in (TASK_KINDS, MODEL_KINDS) for name in registry.table()],
)
def test_every_builtin_name_leads_to_a_class(registry, name):
    assert isinstance(registry.load(name), type)


def test_the_table_of_judged_kinds_says_what_the_classes_say():
    said = {kind: getattr(TASK_KINDS.load(kind), "judging", "no") for kind in TASK_KINDS.table()}
    # A harness's class asks for its benchmark.
    stated = {kind: one if isinstance(one, str) else "?" for kind, one in said.items()}
    assert {kind: one for kind, one in stated.items() if one != "no"} == JUDGED
