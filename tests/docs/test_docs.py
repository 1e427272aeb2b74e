"""The documents tell the truth: their commands parse, links lead somewhere, examples run."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import click
import pytest
import yaml
from PIL import Image

from adem_bench.cards import (
    load_model_card,
    load_recipe_card,
    load_task_card,
    split_overrides,
)
from adem_bench.cli import VERBS, group
from adem_bench.errors import CardError, DataError
from adem_bench.models import base as models_base
from adem_bench.models.fused.card import FusedCard
from adem_bench.models.fused.methods.adem import AdemVl
from adem_bench.records import Metric, Record, Response, Result, Sample
from adem_bench.registry import METHODS
from adem_bench.runner.evaluate import Evaluation
from adem_bench.schemas import MethodSettings, RecipeCard
from adem_bench.tasks.base import Task, TrainingData, build_task, build_training_data
from adem_bench.tasks.benchmark import TrainableBenchmark
from adem_bench.tasks.jsonl.scoring import SCORINGS
from adem_bench.tasks.jsonl.task import JsonlOptions
from adem_bench.trainers.prepare import TrainingJob

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("models", "tasks", "trainers", "results")),
]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
QUIRKS = (ROOT / "docs" / "quirks.md").read_text(encoding="utf-8")
TRAINING = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
COMPARISON = (ROOT / "docs" / "comparison-of-methods.md").read_text(encoding="utf-8")
RUN_FOLDER = (ROOT / "docs" / "run-folder.md").read_text(encoding="utf-8")
METHODS_OF_OTHERS = ROOT / "tests" / "models" / "fused" / "methods" / "third_party"
SPACE = "adem-bench "


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def command_lines(path: Path) -> list[str]:
    """Every `adem-bench …` of a document: in sh blocks, torchrun's form, and inline."""
    text = path.read_text(encoding="utf-8")
    inline = re.findall(
        r"`(adem-bench [^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    )
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    torchrun = [line.partition(" -m adem_bench ")[2] for line in lines if " -m adem_bench " in line]
    return [
        *(line for line in lines if line.startswith(SPACE)),
        *(SPACE + rest for rest in torchrun),
        *inline,
    ]


TRAINED = {
    f"results/train/{load_recipe_card(path.stem).model}-{path.stem}"
    for path in (ROOT / "trainers").glob("*.yaml")
} | {"results/train/qwen-adem-sqa", "results/train/smollm2-smollm2-mini"}
"""Default output folders of `adem-bench train`, which are models; the last two are by recipes of
docs/own-base.md."""
COMMANDS = sorted({(path.name, line) for path in DOCUMENTS for line in command_lines(path)})


def parse(arguments: list[str]) -> tuple[click.Command, list[str]]:
    """Walk the real click commands, and let the last one parse its options."""
    command: click.Command = group
    context = click.Context(group, info_name="adem-bench")
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        found = command.get_command(context, name)
        assert found is not None, f"no command {name!r}"
        command = found
        context = click.Context(command, parent=context, info_name=name)
    _, rest, _ = command.make_parser(context).parse_args(list(arguments))
    return command, rest


@pytest.mark.parametrize(("document", "line"), COMMANDS, ids=[line for _, line in COMMANDS])
def test_commands_parse_as_the_program_does(document, line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line.removeprefix(SPACE), comments=True)
    if "…" in words:  # "and so on": only what stands there is checked
        words.remove("…")
    command, rest = parse(words)
    taken = sum(isinstance(parameter, click.Argument) for parameter in command.params)
    assert len(rest) <= taken or isinstance(command, click.Group)
    if command.name == "run" and "--model" in words and "--tasks" in words:
        names = [words[words.index("--model") + 1], *words[words.index("--tasks") + 1].split(",")]
        for kind, name in zip(("models", *["tasks"] * len(names)), names, strict=False):
            in_words = name.isupper() or name.endswith(".yaml") or name in TRAINED or ":" in name
            in_words = in_words or "--include" in words  # a card of the reader's own folder
            in_words = in_words or "*" in name
            in_words = in_words or any(f"--output {name} " in other for _, other in COMMANDS)
            assert in_words or (ROOT / kind / f"{name}.yaml").is_file(), name
    if command.name == "train" and "--recipe" in words:
        settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        name = words[words.index("--recipe") + 1]
        assert name.endswith(("FILE", ".yaml")) or load_recipe_card(name, settings)


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 15
    assert {line.split()[1] for _, line in COMMANDS} >= set(VERBS) - {"data"}


LINKS = sorted(
    (path.relative_to(ROOT).as_posix(), target)
    for path in DOCUMENTS
    for target in set(re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", path.read_text("utf-8")))
)


@pytest.mark.parametrize(("document", "target"), LINKS)
def test_relative_links_resolve(document, target):
    path = ROOT / document
    name, _, anchor = target.partition("#")
    linked = (path.parent / name).resolve() if name else path
    assert linked.exists()
    assert linked.is_relative_to(ROOT)
    if anchor:
        headings = re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), flags=re.MULTILINE)
        slugs = [re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings]
        assert anchor in slugs


def test_there_are_links_to_check():
    assert len(LINKS) > 40
    assert {document for document, _ in LINKS} >= {"README.md", "ARCHITECTURE.md"}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"(--[a-z][a-z-]+)", QUIRKS))))
def test_options_in_the_quirk_table_exist(name):
    context = click.Context(group)
    known = {
        option
        for verb in ("run", "leaderboard")
        for parameter in group.get_command(context, verb).params
        for option in parameter.opts
    }
    assert name in known


SETTINGS = sorted(
    override
    for override in set(re.findall(r"--set ([a-z_.]+=[^`]+)`", QUIRKS))
    if override.partition("=")[0] not in set(RecipeCard.model_fields) - set(FusedCard.model_fields)
)


@pytest.mark.parametrize("override", SETTINGS)
def test_settings_in_the_quirk_table_are_accepted(override, tmp_path):
    # A setting of one method is none of another's.
    name = next(n for n in ("adem-7b", "memvp-7b", "lavin-7b") if is_accepted(n, override))
    model, task = split_overrides([override], name)
    if model:
        found: object = load_model_card(name, model)
        name, _, value = override.partition("=")
        for part in name.split("."):
            found = found[part] if isinstance(found, Mapping) else getattr(found, part)
        assert (list(found) if isinstance(found, tuple) else found) == yaml.safe_load(value)
    else:
        assert accepted_by_some_task(task, tmp_path), override


def is_accepted(card: str, override: str) -> bool:
    try:
        load_model_card(card, split_overrides([override], card)[0])
    except CardError:
        return False
    return True


def accepted_by_some_task(overrides: list[str], data_root: Path) -> bool:
    accepted = []
    for name in ("sqa", "mme", "coco_caption"):
        try:
            build_task(name, data_root, overrides)
        except DataError:
            accepted.append(name)  # its data is missing, but the card is fine
        except CardError:
            continue  # an option of another kind of task
        else:
            accepted.append(name)
    return bool(accepted)


def test_a_setting_that_does_not_exist_would_be_noticed(tmp_path):
    assert not accepted_by_some_task(["options.answer_rule=guess"], tmp_path)
    assert not accepted_by_some_task(["options.captons=true"], tmp_path)


TRAINING_SETTINGS = sorted(
    {
        override
        for text in (QUIRKS, README, TRAINING)
        for override in re.findall(r"--set ([\w.]+=[^`\s]+)`", text)
        if override.partition("=")[0].partition(".")[0] in RecipeCard.model_fields
    }
)


@pytest.mark.parametrize("override", TRAINING_SETTINGS)
def test_settings_of_recipes_are_accepted(override, tmp_path):
    accepted = []
    for name in ("sqa", "coco_caption"):
        (source,) = load_recipe_card(name, [override]).data
        settings = [f"options.{key}={value}" for key, value in source.options.items()]
        with contextlib.suppress(CardError):  # an option of another kind of task
            build_training_data(source.task, tmp_path, settings, source.split, source.prompt_format)
            accepted.append(name)
    assert accepted


def test_there_are_settings_of_recipes_to_check():
    assert len(TRAINING_SETTINGS) >= 6


def test_the_training_examples_in_python_bind_to_the_functions():
    import adem_bench

    found = 0
    for text in (README, TRAINING):
        code = [*blocks(text, "python"), *re.findall(r"`(adem_bench\.\w+\([^`]*\))`", text)]
        for call in (node for part in code for node in ast.walk(ast.parse(part))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            if ast.unparse(call.func) not in ("adem_bench.train", "adem_bench.evaluate"):
                continue
            function = getattr(adem_bench, call.func.attr)
            keywords = {word.arg for word in call.keywords}
            job = TrainingJob if call.func.attr == "train" else Evaluation
            known = {*inspect.signature(function).parameters, *(f.name for f in fields(job))}
            assert keywords <= known
            found += 1
    assert found >= 4


def test_sections_of_the_method_that_code_refers_to_exist():
    text = (ROOT / "docs" / "method.md").read_text("utf-8")
    sections = set(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", text, re.MULTILINE))
    named = {
        number
        for folder in ("adem_bench", "tests", "docs")
        for path in (ROOT / folder).rglob("*.py")
        for place in re.findall(
            r"docs/method\.md,\s+sections?\s+([\d., ]*\d)", path.read_text("utf-8")
        )
        for number in re.findall(r"\d+(?:\.\d+)?", place)
    }
    assert {"5", "8", "7.1", "11.3"} <= named
    assert named <= sections


def test_code_that_the_method_names_exists():
    text = (ROOT / "docs" / "method.md").read_text("utf-8")
    lines = re.findall(r"^Code: (.+?)\.$", text, re.MULTILINE | re.DOTALL)
    named = [name for line in lines for name in re.findall(r"`([\w./]+)`", line)]
    assert len(named) > 10
    assert [name for name in named if not (ROOT / "adem_bench" / name).exists()] == []


@pytest.mark.parametrize(
    ("document", "classes"),
    [("own-tasks.md", (TrainableBenchmark, Sample)), ("own-methods.md", (AdemVl, MethodSettings))],
)
def test_members_that_documents_list_exist(document, classes):
    text = (ROOT / "docs" / document).read_text("utf-8")
    table = text.partition("| what | member |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| [^|]+ \| ([^|]+) \|", table, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert len(named) > 15
    assert {name for name in named if not any(hasattr(c, name) for c in classes)} == set()


def test_the_table_of_methods_has_all_of_them_and_their_settings():
    text = (ROOT / "docs" / "own-methods.md").read_text("utf-8")
    table = text.partition("| `kind` |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)
    assert [kind for kind, _, _ in rows] == list(METHODS.table())
    for kind, chosen, measured in rows:
        method = METHODS.load(kind)
        assert set(re.findall(r"`(\w+)`", chosen)) == set(method.overrides.model_fields) - {"kind"}
        assert set(re.findall(r"`(\w+)`", measured)) == method.settings.from_tensors


def test_the_method_in_the_documents_is_the_one_that_the_tests_train():
    (code,) = blocks((ROOT / "docs" / "own-methods.md").read_text("utf-8"), "python")
    assert code == (METHODS_OF_OTHERS / "patch_prefix.py").read_text("utf-8")


def imported_names(path: Path) -> list[tuple[str, str]]:
    """Modules of the package, and names in them, that a document's Python imports."""
    return [
        (statement.module, alias.name)
        for code in blocks(path.read_text("utf-8"), "python")
        for statement in ast.walk(ast.parse(code))
        if isinstance(statement, ast.ImportFrom) and str(statement.module).startswith("adem_bench")
        for alias in statement.names
    ]


IMPORTS = sorted({(path.name, *found) for path in DOCUMENTS for found in imported_names(path)})


@pytest.mark.parametrize(("document", "module", "name"), IMPORTS)
def test_names_that_documents_import_exist(document, module, name):
    assert hasattr(importlib.import_module(module), name), document


def test_every_quirk_has_one_row():
    rows = re.findall(r"^\| (Q\d+) \|", QUIRKS, flags=re.MULTILINE)
    assert sorted(rows, key=lambda q: int(q[1:])) == [f"Q{number}" for number in range(1, 34)]
    others = re.findall(r"^\| ([LM]\d+) \|", QUIRKS, flags=re.MULTILINE)
    assert others == [*(f"L{number}" for number in range(1, 12)), "M1", "M2", "M3"]


def test_the_quirk_table_names_every_prompt_format_and_split_rightly():
    formats = re.findall(r"`--prompt-format ([^`]+)`", QUIRKS)
    splits = re.findall(r"`--split ([^`]+)`", QUIRKS)
    assert formats
    assert splits
    for name in set(formats) - {"matched"}:
        load_task_card("sqa", [f"prompt_format={name}"])
        build_task("sqa", Path("nowhere"), prompt_format=name)
    for split in splits:
        assert any(split in load_task_card(name).expected for name in ("sqa", "coco_caption"))


def test_the_document_of_dependencies_names_all_of_them():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [re.match(r"[\w-]+", line).group() for line in project["dependencies"]]
    text = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    table, _, extras = text.partition("\n## Extras")
    rows = re.findall(r"^\| ([\w-]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)
    named = [row[0] for row in rows if row[0] not in ("package", "---")]
    assert sorted(named) == sorted(wanted)
    brought = re.findall(r"^\| `([\w-]+)` \|", extras, re.MULTILINE)
    assert sorted(brought) == sorted(project["optional-dependencies"])


def test_documents_keep_their_places_for_figures():
    places = [(README, "adem-tiny"), (BENCHMARKS, "speed"), (BENCHMARKS, "training")]
    places += [(README, "methods"), (COMPARISON, "methods"), (COMPARISON, "differences")]
    for text, name in [*places, (COMPARISON, "seeds")]:
        assert re.search(rf"^<!-- figures: {name} -->\n(.*\n)*?<!-- end -->$", text, re.MULTILINE)


def test_the_readme_is_short_and_names_every_benchmark_and_document():
    assert len(README.splitlines()) <= 200
    cards = {path.stem for path in (ROOT / "tasks").glob("*.yaml")}
    for_training = {name for name in cards if name.endswith("instruction")}
    assert cards - for_training <= set(re.findall(r"`(\w+)`", README))
    for kind in ("hf", "openai", "vlmevalkit", "constant"):
        assert f"`{kind}:" in README
    documents = {path.relative_to(ROOT).as_posix() for path in DOCUMENTS} - {"README.md"}
    linked = set(re.findall(r"\]\(([^)#\s]+)", README))
    assert documents - linked <= {"models/README.md", "trainers/README.md"}


def test_the_readme_opens_with_the_two_commands():
    first = blocks(README, "sh")[0].splitlines()
    assert [line.partition("#")[0].strip() for line in first] == ["make demo", "make test"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {"demo", "test"} <= set(targets)


def documented(heading: str) -> set[str]:
    """Names in code marks below a heading of docs/run-folder.md, up to the next."""
    section = RUN_FOLDER.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"`([a-z_]+)`", section))


def test_every_field_of_a_record_is_described():
    assert {field.name for field in fields(Record)} <= documented("samples.jsonl")


def test_every_field_of_metrics_is_described():
    metric = Metric("accuracy", 1.0, "fraction", 1)
    keys = set(Result("t", 1, "test", "accuracy", (metric,), 1, 0, 1).to_json())
    assert keys | {field.name for field in fields(Metric)} <= documented("metrics.json")


def test_every_field_of_a_manifest_is_described():
    # Read as text: the module imports torch.
    tree = ast.parse((ROOT / "adem_bench" / "runner" / "manifest.py").read_text("utf-8"))
    wanted = {"build_manifest", "hardware", "peak_memory"}
    keys = {
        key.value
        for function in tree.body
        if isinstance(function, ast.FunctionDef) and function.name in wanted
        for node in ast.walk(function)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    assert keys
    assert keys <= documented("manifest.json")


def test_places_that_the_architecture_names_exist():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    named = set(re.findall(r"`([\w/]+/[\w.]*|\w+/[\w/]+\.\w+)`", text)) - {"adem_bench/_cards/"}
    rows = re.findall(r"^\| `(adem_bench/[\w/]+/)` \| (.+) \|$", text, re.MULTILINE)
    named |= {folder + name for folder, row in rows for name in re.findall(r"`([\w/]+\.py)`", row)}
    assert len(named) > 40
    family = {"task.py", "files.py", "scores.py", "hub.py"}  # of one benchmark family or another
    missing = [
        name
        for name in named
        if not any((root / name).exists() for root in (ROOT, ROOT / "adem_bench"))
        and not list((ROOT / "adem_bench").glob(f"*/**/{name}"))
    ]
    assert [name for name in missing if name.rpartition("/")[2] not in family] == []


def test_the_architecture_names_the_protocols_members():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    for protocol in (Task, TrainingData, models_base.Model):
        members = {n for n in vars(protocol) if not n.startswith("_")} | {"card"}
        assert members <= set(re.findall(r"`(\w+)`", text)), protocol


OWN_TASK = README.partition("## A task of your own")[2].partition("\n## ")[0]


@pytest.fixture
def short_answers(tmp_path, monkeypatch):
    """The README's own task, in the folder that its command includes, with two items of data."""
    (code,), (card,), (command,) = (blocks(OWN_TASK, kind) for kind in ("python", "yaml", "sh"))
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "short_answers.py").write_text(code, encoding="utf-8")
    (folder / "pets.yaml").write_text(card, encoding="utf-8")
    assert "--include mine" in command
    monkeypatch.setenv("ADEM_BENCH_INCLUDE", str(folder))
    data = tmp_path / "data" / "pets"
    data.mkdir(parents=True)
    (data / "test.jsonl").write_text(
        '{"id": "1", "image": "a.png", "question": "What animal?", "answer": "Cat"}\n'
        '{"id": "2", "image": "a.png", "question": "How many?", "answer": "two"}\n'
    )
    Image.new("RGB", (8, 8)).save(data / "a.png")
    return build_task("pets", tmp_path / "data")


def test_the_readmes_own_task_has_every_member_of_the_protocol(short_answers):
    members = {name for name in vars(Task) if not name.startswith("_")} | {"card"}
    assert not [name for name in members if not hasattr(short_answers, name)]


def test_the_readmes_own_task_runs(short_answers, tmp_path):
    samples = list(short_answers.samples())
    assert short_answers.num_expected == len(samples) == 2
    assert all(image.is_file() for sample in samples for image in sample.images)
    records = []
    for sample, text in zip(samples, (" cat.", "three"), strict=True):
        request = short_answers.request(sample)
        assert sample.fields["question"] in request.prompt
        assert request.images == sample.images
        prediction = short_answers.parse_response(sample, Response(text))
        records.append(
            Record(
                sample.id,
                request.digest(),
                text,
                prediction.value,
                sample.reference,
                prediction.score,
            )
        )
    result = short_answers.aggregate(records)
    assert result.metric("accuracy").value == 0.5
    assert result.headline == "accuracy"
    assert result.complete
    assert not short_answers.aggregate(records[:1]).complete
    assert short_answers.aggregate([]).metric("accuracy").value is None
    assert short_answers.prompt_settings() == {"prompt_format": "instruction"}
    assert len(short_answers.fingerprint()) == 16
    (exported,) = short_answers.export(records, tmp_path)
    assert short_answers.aggregate(short_answers.import_predictions(exported)) == result


def test_the_readmes_own_task_is_short():
    (code,) = blocks(OWN_TASK, "python")
    assert len(code.splitlines()) <= 25


def test_the_readmes_own_task_says_when_its_data_is_missing(short_answers, tmp_path):
    with pytest.raises(DataError, match="is missing"):
        build_task("pets", tmp_path).fingerprint()


CARDS = [
    pytest.param(text, id=f"{path.relative_to(ROOT).as_posix()} {number}")
    for path in DOCUMENTS
    for number, text in enumerate(blocks(path.read_text("utf-8"), "yaml"), 1)
    if "runs-on:" not in text  # a workflow is none of our cards
]


@pytest.mark.parametrize("text", CARDS)
def test_yaml_cards_in_documents_are_valid(text, tmp_path, monkeypatch):
    monkeypatch.setenv("ADEM_BENCH_INCLUDE", str(METHODS_OF_OTHERS))
    (tmp_path / "shown.yaml").write_text(text, encoding="utf-8")
    load = load_task_card
    if text.startswith("# suite.yaml"):
        return  # a run file, which tests/docs/test_suites.py runs
    if "epochs:" in text:
        load = load_recipe_card
    elif "language_model:" in text:
        load = load_model_card
    assert load(str(tmp_path / "shown.yaml")).name == "shown"


def test_there_are_cards_to_check():
    assert {str(card.id).partition(" ")[0] for card in CARDS} >= {
        "README.md",
        "docs/own-data.md",
        "docs/own-methods.md",
        "docs/plugins.md",
        "docs/tsv.md",
    }


def test_the_card_of_data_of_ones_own_asks_its_rows(tmp_path):
    text = (ROOT / "docs" / "own-data.md").read_text("utf-8")
    (card,), (rows,) = blocks(text, "yaml"), blocks(text, "json")
    (tmp_path / "pets.yaml").write_text(card, encoding="utf-8")
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "test.jsonl").write_text(rows, encoding="utf-8")
    task = build_task(str(tmp_path / "pets.yaml"), tmp_path)
    samples = list(task.samples())
    assert [sample.reference for sample in samples] == [0, 1]
    assert "Which animal is it?\nA. cat\nB. dog\nAnswer with" in task.request(samples[0]).prompt
    assert len(card.splitlines()) <= 11


def test_every_option_and_metric_of_data_of_ones_own_is_described():
    text = (ROOT / "docs" / "own-data.md").read_text("utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert named == {*JsonlOptions.model_fields, *SCORINGS}
    for name, scoring in SCORINGS.items():
        (row,) = re.findall(rf"^\| `{name}` \|.*$", text, re.MULTILINE)
        for word in (*scoring.rules, *scoring.names):
            assert f"`{word}`" in row or word.startswith("BLEU")
