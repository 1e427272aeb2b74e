from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from adem_bench.cards import (
    as_mapping,
    check_options,
    expand_tasks,
    list_cards,
    load_model_card,
    load_recipe_card,
    load_task_card,
    model_card_of,
    packaged_folder,
    split_overrides,
)
from adem_bench.data.inventory import listed_files
from adem_bench.errors import CardError
from adem_bench.models.openai_api.settings import ServedOptions
from adem_bench.schemas import TaskCard

MODEL = "language_model: {path: lm}\n"
TASK = "kind: scienceqa\nsplit: test\nheadline: average\n"


@pytest.fixture
def cards(tmp_path, monkeypatch):
    """Writes cards into a folder that the environment names."""
    monkeypatch.setenv("ADEM_BENCH_INCLUDE", str(tmp_path))

    def write(kind, name, text):
        path = tmp_path / kind / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("path", sorted(packaged_folder("models").glob("*.yaml")), ids=str)
def test_every_packaged_model_card_is_valid(path):
    card = load_model_card(str(path))
    assert card.name == path.stem
    assert card.title
    for source in getattr(card, "adapters", {}).values():
        assert all(a == "" or a.startswith("https://") for a in (source.url, source.page))


@pytest.mark.parametrize("path", sorted(packaged_folder("tasks").glob("*.yaml")), ids=str)
def test_every_packaged_task_card_or_group_is_valid(path):
    for name in expand_tasks([path.stem]):
        card = load_task_card(name)
        assert card.title
        assert card.data.source or (card.data.layout and card.data.url)
        # Of POPE's TSV no size is published.
        assert not card.headline or card.expected.get(card.split, name == "pope_tsv") > 0
        for listed in listed_files(card, Path("data"), "all"):
            assert listed.can_be_fetched or listed.by_hand()


@pytest.mark.parametrize("path", sorted(packaged_folder("trainers").glob("*.yaml")), ids=str)
def test_every_packaged_recipe_is_valid_and_names_cards_that_are_there(path):
    recipe = load_recipe_card(path.stem)
    assert recipe.title
    assert load_model_card(recipe.model).name == recipe.model
    for source in recipe.data:
        assert load_task_card(source.task).kind in ("scienceqa", "coco_caption", "instruction")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epcohs=3", "did you mean: epochs"),
        ("data.0.optoins=3", "unknown field 'data.0.optoins'; did you mean: options"),
        ("data.7.limit=3", "'7' is not a place in the list; known: 0"),
        ("data.first.limit=3", "'first' is not a place in the list"),
        ("method.alhpa=3", "unknown field 'method.alhpa'; did you mean: alpha"),
        ("epochs=0", "field 'epochs'"),
        ("betas=[2,3]", "field 'betas.0'"),
        *(
            (f"{field}=.inf", f"field '{field}': input should be a finite number")
            for field in ("base_learning_rate", "weight_decay", "warmup_epochs", "max_grad_norm")
        ),
        ("batch_size=2147483648", "field 'batch_size': .* to 1000000, found 2147483648"),
        ("effective_batch=2147483648", "field 'effective_batch': .* to 1000000"),
        ("method.hidden_proj=1000000000000000000000", "field 'method.hidden_proj': .* to 65536"),
        ("method={kind: memvp, slots: 65537}", "field 'method.slots': .* to 65536"),
        ("method={kind: llava, lora_rank: 65537}", "field 'method.lora_rank': .* to 65536"),
    ],
)
def test_overrides_of_a_recipe_that_do_not_fit_are_named(override, message):
    with pytest.raises(CardError, match=message):
        load_recipe_card("sqa", [override])


def test_an_override_reaches_into_the_list_of_sources():
    recipe = load_recipe_card("sqa", ["data.0.limit=5", "data.0.options.captions=true"])
    assert recipe.data[0].limit == 5
    assert recipe.data[0].options == {"captions": True}


def test_a_misspelt_field_of_a_source_is_named_with_its_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 1\ndata:\n  - task: sqa\n    splitt: val\n")
    with pytest.raises(CardError, match=r"mine\.yaml, line 4: unknown field 'data\.0\.splitt'"):
        load_recipe_card(str(path))


def test_the_published_model_picks_the_adapter_tuned_for_each_task():
    adapters = load_model_card("adem-7b").adapters
    assert {task: source.path for task, source in adapters.items()} == {
        "sqa": "checkpoint_7B_sqa.pth",
        "coco_caption": "checkpoint_7B_caption.pth",
        "mme": "checkpoint_7B_instruction.pth",
        "default": "checkpoint_7B_instruction.pth",
    }


LAVIN_ASKED = {
    "scienceqa": {
        "prompt_format": "QCM-ALE", "captions": False, "answer_start": False,
        "answer_rule": "lavin", "max_new_tokens": 64,
    },
    "mme": {"prompt_format": "lavin", "answer_rule": "lavin", "max_new_tokens": 20},
}  # fmt: skip
MEMVP_ASKED = {
    "sqa": {
        "prompt_format": "QCM-A", "captions": True, "answer_start": True,
        "answer_rule": "published", "max_new_tokens": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "parameters", "trained", "asked"),
    [
        ("memvp-7b", 3_879_040, "QCM-A", MEMVP_ASKED),
        ("memvp-13b", 5_487_744, "QCM-A", MEMVP_ASKED),
        ("lavin-7b", 3_781_296, "QCM-ALE", LAVIN_ASKED),
        ("lavin-13b", 5_390_080, "QCM-ALE", LAVIN_ASKED),
        ("lavin-vicuna-7b", 3_781_296, "QCM-ALE", LAVIN_ASKED),
        ("lavin-vicuna-13b", 5_390_080, "QCM-ALE", LAVIN_ASKED),
    ],
)
def test_the_other_methods_published_models(name, parameters, trained, asked):
    card = load_model_card(name)
    assert card.trainable_parameters == parameters
    assert card.fusion.kind == name.partition("-")[0]
    assert card.fusion.values() == {}
    assert card.prompts == {"scienceqa": {"prompt_format": trained, "captions": False}}
    assert card.evaluation == asked
    sampled = (0.1, 0.75) if asked is LAVIN_ASKED else (None, None)
    assert (card.decoding.temperature, card.decoding.top_p) == sampled
    assert load_model_card(name, ["evaluation={}"]).digest() != card.digest()


@pytest.mark.parametrize("path", sorted(packaged_folder("models").glob("*-*b.yaml")), ids=str)
def test_published_scores_of_cards_are_those_of_the_list(path):
    from adem_bench.results.leaderboard.published_figures import published_rows

    card = load_model_card(str(path))
    method = {"adem": "ADEM-VL", "memvp": "MemVP", "lavin": "LaVIN"}[card.fusion.kind]
    listed = {
        (row.task, row.metric, row.value)
        for row in published_rows()
        if row.model.startswith(method)
        and row.language_model in (card.language_model_name, card.language_model_name[-3:])
    }
    assert {(score.task, score.metric, score.value) for score in card.published} <= listed


def test_the_published_model_leaves_fusion_to_its_checkpoints():
    fusion = load_model_card("adem-7b").fusion
    assert fusion.values() == {}


def test_ones_own_card_is_found_by_name_and_hides_a_packaged_one(cards):
    path = cards("models", "adem-7b", MODEL)
    assert list_cards("models")["adem-7b"] == path
    assert load_model_card("adem-7b").language_model.path == "lm"
    assert "adem-13b" in list_cards("models")


def test_a_card_is_found_by_its_path(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(MODEL)
    card = load_model_card(str(path))
    assert (card.name, card.path) == ("x", path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "language_model: {path: lm}\nfusoin: {}\n",
            "line 2: unknown field 'fusoin'; did you mean: fusion",
        ),
        (
            "language_model:\n  path: lm\nfusion:\n  alhpa: 1\n",
            "line 4: unknown field 'fusion.alhpa'; did you mean: alpha?",
        ),
        ("language_model: {path: lm}\ndtype: half\n", "line 2: field 'dtype': input should be"),
        (
            "language_model: {path: lm}\nfusion: {drop_ratio: 1}\n",
            "line 2: field 'fusion.drop_ratio': input should be less than 1, found 1",
        ),
        (
            "language_model: {path: lm}\noptions: {top_p: 0.5}\n",
            "line 2: field 'options': fused models take none; their settings are fields",
        ),
        ("language_model: {path: lm}\npath: lm\n", "line 2: unknown field 'path'; the nearest"),
        ("language_model: {path: lm, pth: x}\n", "field 'language_model.pth'; did you mean: path?"),
        ("title: t\n", ": field 'language_model': field required"),
        ("title: [\n", "line 2: not YAML: "),
        ("- a\n", ": expected a mapping of fields, found list"),
        ("", " is empty; expected a card's fields"),
    ],
)
def test_a_wrong_card_is_refused_with_file_line_field_and_the_nearest_name(cards, text, message):
    path = cards("models", "wrong", text)
    with pytest.raises(CardError) as caught:
        load_model_card("wrong")
    shown = str(caught.value)
    assert shown.startswith(str(path))
    assert message in shown
    assert "\n" not in shown


def test_a_long_value_is_repeated_up_to_a_bound(cards):
    cards("models", "own", f"kind: hf\noptions: {'x' * 100_000}")
    with pytest.raises(CardError, match=r"field 'options': .*, found 'xxx") as caught:
        load_model_card("own")
    assert len(str(caught.value)) < 1000
    card = load_model_card("echo").model_copy(update={"options": {"source": ["x" * 100_000]}})
    with pytest.raises(CardError, match="option 'source' cannot be ") as caught:
        check_options("model", card, ServedOptions)
    assert len(str(caught.value)) < 1000


def test_a_card_that_is_not_text_is_refused(cards):
    path = cards("models", "binary", "")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CardError, match=r"binary\.yaml: cannot be read"):
        load_model_card("binary")


@pytest.mark.parametrize(
    ("load", "name", "message"),
    [
        (load_model_card, "adem-7", "unknown model 'adem-7'; did you mean: adem-7b"),
        (load_model_card, "none.yaml", "card none.yaml does not exist"),
        (load_task_card, "zzz", "unknown task 'zzz'"),
    ],
)
def test_an_unknown_name_proposes_the_nearest(load, name, message):
    with pytest.raises(CardError) as caught:
        load(name)
    assert str(caught.value).startswith(message)


def test_overrides_reach_nested_fields_and_are_read_as_yaml(cards):
    cards("models", "m", MODEL)
    card = load_model_card("m", ["fusion.alpha=0.2", "fusion.scales=[256, 16]", "dtype=bfloat16"])
    assert (card.fusion.alpha, card.fusion.scales, card.dtype) == (0.2, (256, 16), "bfloat16")


def test_overrides_change_the_digest_and_the_place_of_the_file_does_not(cards, tmp_path):
    cards("models", "m", MODEL)
    digest = load_model_card("m").digest()
    assert load_model_card("m", ["fusion.alpha=0.2"]).digest() != digest
    elsewhere = tmp_path / "elsewhere" / "m.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(MODEL)
    assert load_model_card(str(elsewhere)).digest() == digest


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("alpha", "--set alpha: expected key=value"),
        ("=1", "--set =1: expected key=value"),
        ("path=lm", "unknown field 'path'; the nearest: "),
        ("fusion.alhpa=1", "unknown field 'fusion.alhpa'; did you mean: alpha?"),
        ("dtype.x=1", "'dtype' has no fields of its own"),
        ("title=[", "--set title=[: the value is not YAML"),
        ("fusion.alpha=much", "field 'fusion.alpha'"),
        ("options.top_p=0.5", "--set options.top_p=0.5: field 'options': fused models take none"),
    ],
)
def test_a_wrong_override_is_refused(cards, override, message):
    cards("models", "m", MODEL + "dtype: auto\n")
    with pytest.raises(CardError) as caught:
        load_model_card("m", [override])
    assert message in str(caught.value)


def test_options_are_proposed_to_kinds_that_have_some():
    for name, has_options in (("adem-7b", False), ("hf:NAME", True)):
        with pytest.raises(CardError) as caught:
            load_model_card(name, ["system=Hi"])
        assert ("an option is written options.system=" in str(caught.value)) is has_options


def test_overrides_go_to_the_card_that_has_the_field():
    model, task = split_overrides(
        ["fusion.alpha=1", "options.captions=false", "task.version=2", "model.title=x"], "adem-7b"
    )
    assert model == ["fusion.alpha=1", "title=x"]
    assert task == ["options.captions=false", "version=2"]
    with pytest.raises(CardError, match="no card has a field 'fusoin'; did you mean: fusion"):
        split_overrides(["fusoin.alpha=1"], "adem-7b")


def test_groups_expand_in_order_each_task_once(cards):
    cards("tasks", "one", TASK)
    cards("tasks", "two", TASK)
    cards("tasks", "both", "tasks: [two, one]\n")
    assert expand_tasks(["one", "both"]) == ["one", "two"]


def test_a_pattern_stands_for_the_tasks_that_it_matches(cards):
    cards("tasks", "one", TASK)
    cards("tasks", "one_more", TASK)
    cards("tasks", "both", "tasks: [one_more, one]\n")
    assert expand_tasks(["one*"]) == ["one", "one_more"]
    assert expand_tasks(["b?th", "one"]) == ["one_more", "one"]
    assert expand_tasks(["mini_*"]) == ["mini_caption", "mini_mme", "mini_sqa"]
    assert "mini_instruction" in expand_tasks(["mini_*"], for_training=True)
    with pytest.raises(
        CardError, match=r"no task has a name like 'on_\*_mor'; did you mean: one_m"
    ):
        expand_tasks(["on_*_mor"])
    with pytest.raises(CardError, match=r"lavin\* stands for data for training alone"):
        expand_tasks(["lavin*"])
    with pytest.raises(CardError, match=r"card \*\.yaml does not exist"):
        expand_tasks(["*.yaml"])  # a path, which the shell expands


def test_a_name_with_a_colon_is_a_model_that_needs_no_card():
    card = load_model_card("hf:some/folder", ["model.dtype=float32".removeprefix("model.")])
    assert (card.kind, card.name, card.dtype) == ("hf", "hf:some/folder", "float32")
    assert card.options == {"source": "some/folder"}
    assert card.path is None
    with pytest.raises(CardError, match="--set dtype=int4: field 'dtype'"):
        load_model_card("hf:x", ["dtype=int4"])


def test_a_card_in_an_older_manifest_is_read():
    fields = as_mapping(load_task_card("mini_sqa"))
    data = {k: v for k, v in fields["data"].items() if k not in ("source", "files", "hub")}
    older = TaskCard.model_validate({**fields, "data": {**data, "generator": "mini"}})
    assert older.data.source == "mini"
    assert TaskCard.model_validate({**fields, "data": {"generator": None}}).data.source == ""


def test_the_first_name_of_fused_models_is_still_read(cards):
    cards("models", "older", "kind: adem\n" + MODEL + "fusion: {kind: adem, alpha: 0.2}\n")
    older, plain = load_model_card("older"), load_model_card("older", ["kind=fused"])
    assert older == plain
    assert (older.kind, older.fusion.kind, older.fusion.alpha) == ("fused", "adem", 0.2)


def test_a_model_card_of_an_older_manifest_is_read_without_the_fields_of_other_kinds():
    fields = {
        "name": "majority", "title": "", "kind": "majority", "options": {},
        "language_model": {"path": "", "hub": False, "tokenizer": "", "source": ""},
        "vision": {"path": "", "name": "ViT-L-14-quickgelu", "pretrained": "openai"},
        "fusion": {"kind": "adem", "alpha": None, "beta": None, "drop_ratio": None,
                   "scales": None, "cls_token": None},
        "adapters": {}, "adapter": "", "dtype": "auto", "attention": "sdpa", "prompts": {},
    }  # fmt: skip
    assert model_card_of(fields).kind == "majority"
    with pytest.raises(ValidationError, match="overflow"):
        model_card_of(fields | {"overflow": "fix"})
