"""The schema of a run folder's files; docs/run-folder.md says what each field means."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from adem_bench.errors import nearest_hint
from adem_bench.records import MOST_REPEATS

SCHEMA = 1
"""The only version there is, of metrics.json and manifest.json."""
Count = Annotated[int, Field(ge=0)]


class _Closed(BaseModel):
    """Fields as they stand, none other."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())


class _Open(BaseModel):
    """Fields as they stand; others may have been added since."""

    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())


class RecordLine(_Closed):
    """One line of samples.jsonl."""

    sample_id: str
    request_digest: str
    response: str
    prediction: Any
    reference: Any
    score: FiniteFloat | None
    groups: list[str]
    cluster: str | None
    error: str | None
    notes: list[str]
    choice_logprobs: list[float] | None
    tokens: Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None
    finish_reason: Literal["", "stop", "length", "filter", "error"] = ""
    answer: str | None = None
    reasoning: str = ""
    repeat: Annotated[int, Field(ge=0, lt=MOST_REPEATS)] = 0
    scores: dict[str, FiniteFloat] = Field(default_factory=dict)  # {} would be copied every time


class MetricEntry(_Closed):
    """One of `metrics` in metrics.json; runs older than intervals have none."""

    name: str
    value: FiniteFloat | None
    unit: Literal["fraction", "points", "count"]
    count: Count
    note: str
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    interval: str = ""
    if_wrong: FiniteFloat | None = None
    units: Count | None = None


class MetricsFile(_Open):
    """metrics.json."""

    schema_number: int = Field(alias="schema")
    complete: bool
    task: str
    task_version: int
    split: str
    headline: str
    metrics: list[MetricEntry]
    scored: Count
    failed: Count
    expected: Count
    warnings: list[str]
    unusable: Count = 0


class ModelPart(_Open):
    """`model`; a model may say more of itself."""

    name: str
    fingerprint: str
    card: dict[str, Any]
    card_digest: str
    card_name: str = ""
    # Older manifests call it `tuned_on`.
    training_prompts: dict[str, Any] = Field(
        validation_alias=AliasChoices("training_prompts", "tuned_on")
    )
    dtype: str = ""
    quantization: str = ""
    device: str = ""


class TaskPart(_Open):
    """`task`."""

    name: str
    kind: str
    version: int
    split: str
    prompt_format: str
    prompt_settings: dict[str, Any]
    data_fingerprint: str
    card: dict[str, Any]
    card_digest: str


class DecodingPart(_Closed):
    """`decoding`, of the run and of what its command line said."""

    temperature: FiniteFloat | None = None
    top_p: FiniteFloat | None = None
    top_k: int | None = None
    seed: int | None = None
    num_beams: int | None = None


class OptionsPart(_Open):
    """`options`."""

    limit: Annotated[int, Field(ge=1)] | None
    blind: bool
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"]
    seed: int
    max_failed: Count = 0
    repeats: Annotated[int, Field(ge=1, le=1000)] = 1
    decoding: DecodingPart = DecodingPart()
    judge: str = ""


class IdentityPart(_Open):
    """`identity`."""

    model: str
    task: str
    task_kind: str
    task_version: int
    task_options: dict[str, Any]
    split: str
    prompt_settings: dict[str, Any]
    data: str
    blind: bool
    limit: int | None
    judge: str = ""


class RunPart(_Open):
    """`run`."""

    started: str
    finished: str
    processes: int
    prompt_tokens: Count = 0
    answer_tokens: Count = 0


class TimingPart(_Open):
    """`timing`."""

    seconds: FiniteFloat
    answered: Count
    resumed: Count
    samples_per_second: FiniteFloat | None


class HardwarePart(_Open):
    """`hardware`."""

    system: str
    cpu: str
    cpu_count: int | None
    threads: int
    gpus: list[str]


class JudgePart(_Open):
    """`judge`, where one read the answers."""

    name: str = ""
    card: dict[str, Any] = Field(default_factory=dict)
    prompt_tokens: Count = 0
    answer_tokens: Count = 0


class NotScoredPart(_Open):
    """`not_scored`, of a run that has answers alone."""

    warnings: list[str]


class ManifestFile(_Open):
    """manifest.json; runs older than digests of files have none."""

    schema_number: int = Field(alias="schema")
    adem_bench_version: str
    model: ModelPart
    task: TaskPart
    options: OptionsPart
    identity: IdentityPart
    run: RunPart
    timing: TimingPart
    memory: dict[str, int]
    hardware: HardwarePart
    versions: dict[str, str]
    command: list[str]
    files: dict[str, str] = {}
    decoding: DecodingPart = DecodingPart()
    judge: JudgePart = JudgePart()
    not_scored: NotScoredPart = NotScoredPart(warnings=[])


CLOSED: dict[type[BaseModel], type[_Closed]] = {
    RecordLine: RecordLine,
    MetricsFile: MetricEntry,
    ManifestFile: DecodingPart,
}
"""What in a file takes no further fields."""


def problems(model: type[BaseModel], value: Any) -> Iterator[str]:
    """Yield what of a value is not as the schema says, field by field.

    Args:
        model: A class of this module.
        value: What a file or a line holds; its texts are in the answers as they are.
    """
    number = value.get("schema", SCHEMA) if isinstance(value, dict) else SCHEMA
    if type(number) is int and number != SCHEMA:
        yield f"schema {number} is unknown to this version, expected {SCHEMA}"
        return
    try:
        model.model_validate(value)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            yield _explain(model, problem)


def _explain(model: type[BaseModel], problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])[:80]
    found = reprlib.repr(problem["input"])
    if not name:
        return f"expected an object of fields, found {found}"
    if problem["type"] == "missing":
        return f"field {name!r} is missing"
    if problem["type"] == "extra_forbidden":
        hint = nearest_hint(str(problem["loc"][-1])[:80], CLOSED[model].model_fields)
        return f"unknown field {name!r}{hint}"
    wanted = problem["msg"].removeprefix("Input should be ")
    return f"field {name!r}: expected {wanted}, found {found}"
