"""Which card a `--set` is for, where several tasks are asked."""

import pytest

from adem_bench.errors import CardError
from adem_bench.runner.settings import settings_of

BOTH = ("mini_sqa", "mini_mme")


@pytest.mark.parametrize(
    ("override", "sqa", "mme"),
    [
        ("mini_sqa.options.captions=true", ["options.captions=true"], []),
        ("mini_mme.prompt_format=lavin", [], ["prompt_format=lavin"]),
        ("options.captions=true", ["options.captions=true"], []),
        ("task.options.captions=true", ["options.captions=true"], []),
        ("options.max_new_tokens=3", ["options.max_new_tokens=3"], ["options.max_new_tokens=3"]),
        ("data.source=hub", ["data.source=hub"], ["data.source=hub"]),
        ("options={}", ["options={}"], ["options={}"]),
    ],
)
def test_a_setting_is_for_the_tasks_that_it_names_or_that_have_it(override, sqa, mme):
    assert settings_of([override], "adem-7b", BOTH) == ([], {"mini_sqa": sqa, "mini_mme": mme})


def test_the_model_s_fields_stay_the_model_s():
    found = settings_of(["fusion.alpha=1", "model.title=x"], "adem-7b", BOTH)
    assert found == (["fusion.alpha=1", "title=x"], {"mini_sqa": [], "mini_mme": []})


def test_a_group_and_a_file_can_be_named(tmp_path):
    _, settings = settings_of(["mini.options.captions=true"], "adem-7b", ["mini", "sqa"])
    assert settings == {
        "mini_sqa": ["options.captions=true"], "mini_mme": [], "mini_caption": [], "sqa": [],
    }  # fmt: skip
    card = tmp_path / "my.sqa.yaml"
    card.write_text("kind: scienceqa\nsplit: test\nheadline: average\n")
    _, settings = settings_of(["my.sqa.split=val"], "adem-7b", [str(card), "sqa"])
    assert settings == {str(card): ["split=val"], "sqa": []}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("options.captins=true", "none of mini_sqa, mini_mme has an option 'captins'; did you me"),
        ("mini_caption.options.max_new_tokens=3", "mini_caption is not among the tasks that are"),
        ("mini_spa.options.captions=true", "no card has a field 'mini_spa'"),
        ("mini_sqa", "no card has a field 'mini_sqa'"),
    ],
)
def test_a_setting_that_is_for_nothing_is_refused(override, message):
    with pytest.raises(CardError, match=message):
        settings_of([override], "adem-7b", BOTH)
