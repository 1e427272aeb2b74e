"""Digests of today stay what they are, also once the classes have more fields."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adem_bench.cards import as_mapping, load_model_card, load_recipe_card, load_task_card
from adem_bench.digests import digest
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.models.fused.card import FusedCard
from adem_bench.models.fused.method import AdapterSettings
from adem_bench.models.fused.methods.adem import AdemSettings, AdemVl
from adem_bench.models.fused.weights.adapter import stated_facts
from adem_bench.records import Record, Request
from adem_bench.runner.manifest import RunOptions, run_folder_path, run_identity
from adem_bench.schemas import (
    Card,
    RecipeCard,
    Strict,
    TrainingSource,
)
from adem_bench.tasks.base import build_task
from adem_bench.trainers.output import training_identity


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings that a later version might add, with a field of a still later one."""

    temperature: float = 0.0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class LaterRequest(Request):
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class LaterOptions(RunOptions):
    shots: int = 0


@dataclass(frozen=True, slots=True)
class LaterRecord(Record):
    seconds: float | None = None


class LaterFusion(AdemVl.overrides):
    gate: float = 1.0


class LaterModelCard(FusedCard):
    fusion: LaterFusion = LaterFusion()
    revision: str = "main"


class LaterSource(TrainingSource):
    weight: float = 1.0


class Schedule(Strict):
    """Of a class that is new, no field was in the first version."""

    shape: str = "cosine"
    cycles: int = 1


class LaterMethod(AdemSettings):
    gate: float = 1.0


class LaterRecipe(RecipeCard):
    data: tuple[LaterSource, ...]
    method: LaterMethod = LaterMethod()
    schedule: Schedule = Schedule()


REQUEST = {
    "prompt": "What is it?",
    "images": (Path("/data/a.png"), Path("b.png")),
    "max_new_tokens": 32,
    "image_normalization": "clip",
    "choices": ("A", "B"),
}


def test_digests_of_requests_are_those_of_the_first_version():
    assert Request(**REQUEST).digest() == "8c6e73d5ea36326d"
    assert Request("Hi").digest() == "c05acf39a25f0198"


@pytest.mark.parametrize("given", [REQUEST, {"prompt": "Hi"}], ids=["full", "plain"])
def test_a_request_with_more_fields_keeps_its_digest_until_one_is_used(given):
    earlier = Request(**given).digest()
    assert LaterRequest(**given).digest() == earlier
    later = LaterRequest(**given, stop=("\n",)).digest()
    warm = LaterRequest(**given, sampling=Sampling(temperature=0.7)).digest()
    assert len({earlier, later, warm}) == 3


def test_what_a_later_field_holds_may_grow_too():
    @dataclass(frozen=True, slots=True)
    class MoreSampling(Sampling):
        top_k: int = 0

    warm = LaterRequest("Hi", sampling=Sampling(temperature=0.7)).digest()
    assert LaterRequest("Hi", sampling=MoreSampling(temperature=0.7)).digest() == warm
    assert LaterRequest("Hi", sampling=MoreSampling(0.7, top_k=5)).digest() != warm


def test_a_request_of_an_image_is_known_by_the_name_of_its_file():
    here, there, other = (Request("Hi", (Path(p),)).digest() for p in ("x/a.png", "y/a.png", "b"))
    assert here == there != other


def test_a_run_keeps_its_folder_until_a_later_option_is_used():
    model = build_model(load_model_card("echo"), ModelOptions("cpu", None))
    task = build_task("mini_mme", None)
    today = run_identity(model, task, RunOptions(limit=8, blind=True))
    place = run_folder_path(Path("results"), model, today)
    assert place == Path("results/echo/mini_mme/test-blind-limit8-d4c14ae5")
    rest = {"limit": 8, "blind": True, "batch_size": 3, "seed": 5, "fresh": True}
    assert run_identity(model, task, LaterOptions(**rest)) == today
    assert run_identity(model, task, LaterOptions(**rest, shots=2)) == {**today, "shots": 2}


def test_a_record_says_what_a_later_version_added_only_where_there_is_something():
    record = ("1", "f" * 16, "Yes", "Yes", "Yes", 1.0, ("existence",))
    line = Record(*record).to_json()
    assert list(line) == [
        "sample_id", "request_digest", "response", "prediction", "reference", "score", "groups",
        "cluster", "error", "notes", "choice_logprobs",
    ]  # fmt: skip
    assert LaterRecord(*record).to_json() == line
    assert LaterRecord(*record, tokens=(9, 1)).to_json() == line | {"tokens": (9, 1)}
    assert LaterRecord(*record, seconds=0.5).to_json() == line | {"seconds": 0.5}


def test_an_adapter_with_more_settings_keeps_its_fingerprint_until_one_is_used(monkeypatch):
    given = {"alpha": 0.1, "scales": (16, 4)}
    earlier = stated_facts(AdapterSettings(values=given))
    assert list(earlier) == [
        "alpha", "beta", "drop_ratio", "scales", "cls_token", "hidden_proj", "adapter_dim",
        "language_model", "vision", "prompts", "language_model_signature",
    ]  # fmt: skip
    monkeypatch.setattr(AdemVl, "settings", LaterMethod)
    assert stated_facts(AdapterSettings(values=given | {"gate": 1.0})) == earlier
    later = stated_facts(AdapterSettings(values=given | {"gate": 0.5}))
    assert later == earlier | {"gate": 0.5}


def test_cards_have_the_digests_of_the_first_version():
    assert load_task_card("mini_mme").digest() == "108511ed896d9df6"
    assert load_recipe_card("mini").digest() == "a02ef6ec52460cb3"


def test_a_card_with_more_fields_is_the_same_until_one_is_used():
    card = load_model_card("adem-tiny", ["fusion.alpha=0.2"])
    given = card.model_dump()
    later = LaterModelCard.model_validate(given)
    assert later.digest() == card.digest()
    assert as_mapping(later) == as_mapping(card)
    gated = later.model_copy(update={"fusion": LaterFusion(alpha=0.2, gate=0.5)})
    pinned = later.model_copy(update={"revision": "v2"})
    assert len({later.digest(), gated.digest(), pinned.digest()}) == 3
    assert as_mapping(gated)["fusion"] == as_mapping(card)["fusion"] | {"gate": 0.5}


def test_a_training_goes_on_under_recipes_with_more_fields():
    recipe = load_recipe_card("mini")
    identity = training_identity(recipe, {"name": "m", "fingerprint": "f"}, {"mini_sqa": "d"})
    assert digest(identity["recipe"]) == "6782cda2e2c52684"
    given = recipe.model_dump()

    def changed(**fields):
        later = LaterRecipe.model_validate(given | fields)
        return training_identity(later, identity["model"], identity["data"])

    assert changed() == identity
    sources = [given["data"][0] | {"weight": 2.0}, *given["data"][1:]]
    used = [
        changed(data=sources),
        changed(method=given["method"] | {"gate": 0.5}),
        changed(schedule={"cycles": 3}),
    ]
    assert all(other != identity for other in used)
    assert used[2]["recipe"]["schedule"] == {"cycles": 3}


def _digested(base):
    found = [base]
    for one in base.__subclasses__():
        found += _digested(one)
    return [one for one in found if one.__module__.startswith("adem_bench.")]


@pytest.mark.parametrize("kind", _digested(Card), ids=lambda kind: kind.__name__)
def test_fields_that_a_card_gained_have_defaults(kind):
    later = {n: f for n, f in kind.model_fields.items() if n not in kind.FIRST_FIELDS}
    assert not [name for name, found in later.items() if found.is_required()]


@pytest.mark.parametrize("kind", [Request, Record, RunOptions])
def test_fields_that_a_dataclass_gained_have_defaults(kind):
    missing = dataclasses.MISSING
    assert not [
        found.name
        for found in dataclasses.fields(kind)
        if found.name not in kind.FIRST_FIELDS
        and found.default is missing
        and found.default_factory is missing
    ]
