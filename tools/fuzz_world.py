"""A small world of files as they should be, the verbs that read each, and how to damage one.

Cards, run folders, trainings, data of every layout, predictions, and weights: a fused model, one of
transformers whole and in shards, an adapter of peft, and archives of PyTorch.
"""

from __future__ import annotations

import io
import itertools
import json
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adem_bench.cards import packaged_folder
from adem_bench.mini.source import generated_root

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # for `support`

ROWS = 4
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("inf")),
    *(float("nan"), "", " ", "\0", "\n", "\ud800", "\x1b[31m", "a" * 300, "é" * 200, "../../x"),
    *("/dev/zero", "C:\\x", "~", "~nobody/x", "=1+1", "<script>", "2001-99-99", "0x_", "nan"),
    *("\u202egnp.x", "👩‍🚀", "CON", "a\u2028b", "%s%n{0}", "$HOME", "--help", 10**9, -(2**63)),
    *([], {}, [[]], [None], {"": ""}, [1e999], ["a"], {"a": 1}, "yes", "A", [[[[[]]]]]),
)
TEXTS = (
    *("", "null", "[]", "{}", "0", '"x"', "[" * 3000, '{"a":' * 3000, "a: [" * 100, "- " * 500),
    *("{{ 1 // 0 }}", "{{ messages + 1 }}", "{% for", "{{ raise_exception('x') }}"),
    *("\ufeff{}", "\0", "\xff\xfe", "a: &a [*a]", "!!int x", "!!timestamp x", "%YAML 9"),
    *("---\n---", "x\ty\n", '"', "'", "\r", "a,b\n1", "<html>", "\u202e", "\u2028", "\x85"),
    "version https://git-lfs.github.com/spec/v1\n",
)
RECIPE = (
    "title: Small\nmodel: models/adem-tiny.yaml\ndata:\n"
    "  - {task: mini_sqa, split: test, limit: 8, max_sequence_length: 96}\n"
    "epochs: 1\neffective_batch: 4\nbatch_size: 4\nbase_learning_rate: 0.01\nworkers: 0\n"
    "checkpoint_steps: 1\nmethod: {scales: [64, 16], hidden_proj: 16, adapter_dim: 4}\n"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """A file of the world, and a command that reads it."""

    file: str
    command: Sequence[str]
    copied: str = ""
    """Folder that the command writes into, and so is given a copy of, in `new/`."""


@dataclass
class World:
    """Files that are as they should be, and what reads each."""

    root: Path
    call: Callable[[Sequence[str]], tuple[object, str]]
    """Runs a command line; the code that it ends with comes first."""
    readings: list[Reading] = field(default_factory=list)

    def add(self, file: str, *commands: str, copied: str = "") -> None:
        """Note the commands that read a file."""
        self.readings += [Reading(file, command.split(), copied) for command in commands]

    def made(self, *arguments: str) -> None:
        """Run a command that makes a part of the world."""
        code, said = self.call(arguments)
        if code != 0:
            raise RuntimeError(f"{arguments} ends with {code}: {said}")


def make_world(root: Path, call: Callable[[Sequence[str]], tuple[object, str]]) -> World:
    """Write the files into the current folder and return what reads them.

    Args:
        root: The current folder.
        call: Runs a command line.
    """
    world = World(root, call)
    for make in (_cards, _data, _runs, _odd_runs, _fused, _trainings, _transformers):
        make(world)
    return world


def _cards(world: World) -> None:
    for kind, name in (("tasks", "mini_mme"), ("models", "adem-tiny"), ("trainers", "mini")):
        (world.root / kind).mkdir()
        shutil.copy(packaged_folder(kind) / f"{name}.yaml", world.root / kind)  # type: ignore[arg-type]
    shutil.copytree(packaged_folder("models") / "adem-tiny", world.root / "models" / "adem-tiny")
    world.add("tasks/mini_mme.yaml", "tasks show tasks/mini_mme.yaml", "tasks --include .")
    world.add("models/adem-tiny.yaml", "models show models/adem-tiny.yaml", "models --include .")
    world.add("trainers/mini.yaml", "recipes show trainers/mini.yaml", "recipes --include .")
    run_file = "models: [majority]\ntasks: [choice.yaml]\nsettings: [{}, {blind: true}]\n"
    (world.root / "run.yaml").write_text(run_file)
    run = "run --config run.yaml --data-root data --results new"
    world.add("run.yaml", run, f"{run} --dry-run")


def _data(world: World) -> None:
    from PIL import Image

    data = world.root / "data"
    data.mkdir()
    Image.new("RGB", (8, 8)).save(data / "a.png")
    (data / "choice.tsv").write_text(
        "index\tquestion\tA\tB\tanswer\timage_path\tcategory\n"
        + "".join(f"{n}\tWhich {n}?\tone\ttwo\t{'AB'[n % 2]}\ta.png\tx\n" for n in range(ROWS))
    )
    (world.root / "choice.yaml").write_text(
        "kind: tsv_multiple_choice\nsplit: test\nheadline: accuracy\n"
    )
    rows = [
        {"id": n, "image": "a.png", "question": f"Is it {n}?", "answer": "yes"} for n in range(ROWS)
    ]
    cells = [",".join(map(str, row.values())) for row in rows]
    texts = {
        "jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "json": json.dumps(rows),
        "csv": "\n".join([",".join(rows[0]), *cells, ""]),
    }
    files = {"choice": "data/choice.tsv"}
    for suffix, text in texts.items():
        name = f"rows_{suffix}"
        files[name] = f"data/rows.{suffix}"
        (world.root / files[name]).write_text(text)
        (world.root / f"{name}.yaml").write_text(
            f"kind: jsonl\nsplit: test\nheadline: f1\noptions:\n  file: rows.{suffix}\n"
            "  id: id\n  metric: yes_no\n"
        )
    for name, file in files.items():
        run = f"run --model majority --tasks {name}.yaml --data-root data --results new"
        world.add(f"{name}.yaml", run, f"tasks show {name}.yaml")
        world.add(file, run, f"data verify {name}.yaml --data-root data")
    _official(world)


def _official(world: World) -> None:
    """The layouts of ScienceQA, COCO captions and MME, with the mini world in them."""
    shutil.copytree(generated_root("test"), world.root / "mini")
    files = {
        "mini_sqa": [f"scienceqa/{name}.json" for name in ("problems", "pid_splits", "captions")],
        "mini_caption": [f"coco_caption/coco_karpathy_test{end}.json" for end in ("", "_gt")],
        "mini_mme": ["MME_Benchmark_release_version/existence/0001.txt"],
    }
    for task, names in files.items():
        run = f"run --model constant:Yes --tasks {task} --limit 8 --data-root mini --results new"
        for name in names:
            world.add(f"mini/{name}", run, f"data verify {task} --data-root mini")


def _runs(world: World) -> None:
    places = {"mini_mme": "mini", "mini_sqa": "mini", "mini_caption": "mini", "choice": "data"}
    found: dict[str, list[str]] = {}
    for task, place in places.items():
        data = f"--data-root {place}"
        card = f"{task}.yaml" if place == "data" else task
        for model in ("majority", "constant:Yes"):
            asked = f"run --model {model} --tasks {card} --limit 6 {data} --results runs"
            world.made(*asked.split())
        runs = sorted(str(file.parent) for file in Path("runs").rglob(f"{task}/*/manifest.json"))
        for run, other in zip(runs, reversed(runs), strict=True):
            # One page a file: most of a page's time is its drawings.
            views = itertools.cycle(("/ /version", f"/task?name={task}/test", "/leaderboard"))
            for file in ("manifest.json", "metrics.json", "samples.jsonl", "run.log"):
                view = f"view runs {next(views)}"
                world.add(
                    f"{run}/{file}",
                    *("leaderboard runs", "leaderboard runs --all-metrics --format json"),
                    *(f"compare {other} {run} --force", f"validate {run} {data}", view),
                    *(f"report {run} --output new/page.html", f"score {run} {data}"),
                    f"rerun {run} {data} --results new/again",
                )
        found[task] = runs
    exported = {
        "choice": ("vlmevalkit/choice.tsv", "vlmevalkit/choice.xlsx"),
        "mini_sqa": ("preds.json",),
        "mini_caption": ("coco_results.json",),
        "mini_mme": ("eval_tool/existence.txt",),
    }
    for task, files in exported.items():
        data = places[task]
        card = f"{task}.yaml" if data == "data" else task
        for file in (Path(found[task][0]) / name for name in files):
            given = file.parent if file.suffix == ".txt" else file
            score = f"score --task {card} --data-root {data} --predictions {given}"
            world.add(str(file), score, f"{score} --as-run said --results new")


def _odd_runs(world: World) -> None:
    """Runs that a judge read, that nobody scored, and that drew tokens: fields that others lack."""
    from support.tsv_files import RED

    columns = "image question question_type choices answer_option precision task skills answer_type"
    cells = f"{RED}\tHow many?\tfree_form\t\t\t\tplane\t['logic']\tinteger"
    (world.root / "data" / "MathVista_MINI.tsv").write_text(
        "\t".join(["index", *columns.split(), "answer\n"])
        + "".join(f"{n}\t{cells}\t{n}\n" for n in range(ROWS))
    )
    tiny = "--model models/adem-tiny.yaml"
    judged = f"--judge {tiny.split()[1]} --set mathvista.options.check_md5=false"
    asked = {
        "mathvista": ("data", f"--model constant:3 --tasks mathvista {judged}"),
        "choice": ("data", "--model constant:A --tasks choice.yaml --predict-only"),
        "mini_mme": ("mini", f"{tiny} --tasks mini_mme --limit 2 --temperature 0.7 --top-p 0.9"),
    }
    for task, (place, words) in asked.items():
        run = f"run {words} --data-root {place} --results"
        world.made(*run.split(), "odd")
        ((folder,), plain) = (
            [file.parent for file in Path(runs).rglob(f"{task}/*/manifest.json")]
            for runs in ("odd", "runs")
        )
        data = f"{folder} --data-root {place}"
        for file in sorted(folder.glob("*.json*")):
            world.add(
                str(file),
                *("leaderboard odd --all-metrics", "view odd / /leaderboard /task?name=" + task),
                *(f"validate {data}", f"score {data}", f"rerun {data} --results new/again"),
                f"report {folder} --output new/page.html",
                *(f"compare {folder} {other} --force" for other in plain[:1]),
            )
            world.add(str(file), f"{run} new/odd", copied="odd")


def _fused(world: World) -> None:
    """The model that comes with the package, and its parts in other layouts."""
    own = "models/adem-tiny"
    world.made("convert", "adapter", f"{own}/adapter", "published.pth")
    world.made("convert", "llama", f"{own}/language", "llama/consolidated")
    ask = "ask --model models/adem-tiny.yaml --max-new-tokens 2 hello"
    world.add(f"{own}/adapter/adapter.json", f"convert adapter {own}/adapter new/o.pth", ask)
    world.add(f"{own}/adapter/adapter.safetensors", f"convert adapter {own}/adapter new/o.pth")
    parts = ("language/config.json", "language/model.safetensors", "vision.safetensors")
    for part in (*parts, "language/tokenizer.model"):
        world.add(f"{own}/{part}", ask)
    world.add(
        "published.pth", "convert adapter published.pth new/o", f"{ask} --adapter published.pth"
    )
    for file in ("params.json", "consolidated.00.pth"):
        world.add(f"llama/consolidated/{file}", "convert llama llama/consolidated new/o")


def _trainings(world: World) -> None:
    """A recipe, and a training that was broken off after its first step."""
    (world.root / "small.yaml").write_text(RECIPE)
    train = "train --recipe small.yaml --data-root mini --log-to none --output"
    world.made(*train.split(), "trained")
    for name in ("adapter", "manifest.json", "checkpoints/step-00000002"):
        path = world.root / "trained" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    world.add("small.yaml", f"{train} new/o", "recipes show small.yaml")
    world.add("mini/scienceqa/problems.json", f"{train} new/o")
    for path in sorted(Path("trained").rglob("*")):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".safetensors", ".yaml"):
            world.add(str(path), f"{train} new/trained", copied="trained")
    world.add("trained/model.yaml", "models show trained")


def _transformers(world: World) -> None:
    """A model of transformers, the same in shards, and an adapter of peft for it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText, GenerationConfig

    from support.tiny_hf import llava

    llava(world.root / "hf")
    for name, more in {
        "generation_config.json": dict.fromkeys(vars(GenerationConfig())),
        "config.json": {"quantization_config": None, "auto_map": {}, "num_labels": 2},
        "special_tokens_map.json": {"bos_token": "<s>", "eos_token": "</s>"},
    }.items():
        file = world.root / "hf" / name
        held = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(more | held))
    shutil.copytree(world.root / "hf", world.root / "sharded")
    (world.root / "sharded" / "model.safetensors").unlink()
    network = AutoModelForImageTextToText.from_pretrained(world.root / "hf")
    network.save_pretrained(world.root / "sharded", max_shard_size="100KB")
    lora = LoraConfig(r=2, target_modules=r".*language_model.*\.q_proj")
    get_peft_model(network, lora).save_pretrained(world.root / "lora")
    config = world.root / "lora" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": ""}))
    ask = "--image data/a.png --max-new-tokens 2 hello"
    for folder in ("hf", "sharded"):
        for file in sorted((world.root / folder).iterdir()):
            if folder == "hf" or "model" in file.name:
                name = f"{folder}/{file.name}"
                world.add(name, f"ask --model hf:{folder} {ask}")
    world.add("hf/config.json", "demo --model hf:hf")
    run = "run --model hf:hf --tasks mini_mme --limit 2 --data-root mini --results new"
    world.add("hf/chat_template.jinja", run)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        world.add(f"lora/{file}", f"ask --model hf:hf --adapter lora {ask}")


def edited(raw: bytes, suffix: str, draw: random.Random) -> bytes:
    """Return a file's content with one value or some bytes changed.

    Args:
        raw: The content.
        suffix: Of the file's name.
        draw: Chooses.
    """
    kind = draw.randrange(8)
    if kind == 0:
        return draw.choice(TEXTS).encode("utf-8", "surrogatepass")
    if kind == 1:
        return raw[: draw.randrange(len(raw) + 1)]
    if kind == 2 and raw:
        place = draw.randrange(len(raw))
        return raw[:place] + bytes([draw.randrange(256)]) + raw[place + 1 :]
    if kind == 3:
        place = draw.randrange(len(raw) + 1)
        token = draw.choice((*TEXTS, *(str(value) for value in VALUES)))
        return raw[:place] + token.encode("utf-8", "surrogatepass") + raw[place:]
    within = WITHIN.get(suffix, _with_a_value)
    return within(raw, draw)


def _with_a_value(raw: bytes, draw: random.Random) -> bytes:
    """Return JSON, one line of JSON, YAML or a table with one value replaced."""
    value = draw.choice(VALUES)
    text = raw.decode("utf-8", "replace")
    lines = text.splitlines(keepends=True)
    try:
        whole = json.loads(text)
        return json.dumps(_replaced(whole, value, draw)).encode()
    except ValueError:
        pass
    if not lines:
        return b""
    place = 0 if draw.random() < 0.2 else draw.randrange(len(lines))  # a header as often as a cell
    line = lines[place]
    try:
        lines[place] = json.dumps(_replaced(json.loads(line), value, draw)) + "\n"
    except ValueError:
        shown = json.dumps(value) if draw.random() < 0.5 else str(value)
        for mark in ("\t", ": ", ","):
            cells = line.rstrip("\n").split(mark)
            if len(cells) > 1:
                cells[draw.randrange(len(cells))] = shown
                lines[place] = mark.join(cells) + "\n"
                break
    return "".join(lines).encode("utf-8", "surrogatepass")


def _replaced(value: Any, new: Any, draw: random.Random) -> Any:
    """Return JSON data with a part of it, at any depth, replaced, doubled or left out."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.1:
        return new
    found = dict(value) if isinstance(value, dict) else list(value)
    key: Any = draw.choice(list(found)) if isinstance(found, dict) else draw.randrange(len(found))
    if draw.random() < 0.1:
        del found[key]
    elif draw.random() < 0.05 and isinstance(found, dict):
        found[str(new)] = found[key]
    else:
        found[key] = _replaced(found[key], new, draw)
    return found


def _with_a_header(raw: bytes, draw: random.Random) -> bytes:
    """Return a safetensors file whose header says something else of its tensors."""
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    name = draw.choice(list(header))
    header[name] = _replaced(header[name], draw.choice(VALUES), draw)
    said = json.dumps(header).encode()
    told = len(said) if draw.random() < 0.8 else draw.choice((0, 1, 2**31, 2**63, len(said) - 1))
    return told.to_bytes(8, "little") + said + raw[8 + length :]


def _with_an_object(raw: bytes, draw: random.Random) -> bytes:
    """Return an archive of PyTorch in which something is not as it was."""
    import torch

    found = torch.load(io.BytesIO(raw), weights_only=False)  # this tool has written it
    new = draw.choice((*VALUES, torch.zeros(0), torch.zeros(3, 3), torch.zeros(2).to_sparse()))
    made = io.BytesIO()
    torch.save(_replaced(found, new, draw), made)
    return made.getvalue()


FAR = (1_048_576, 16_384)
"""Row and column of a spreadsheet's last cell."""


def _with_a_cell(raw: bytes, draw: random.Random) -> bytes:
    """Return a spreadsheet with something else in a cell."""
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import IllegalCharacterError

    book = load_workbook(io.BytesIO(raw))
    page = book.active
    row = 1 if draw.random() < 0.3 else draw.randint(1, page.max_row)
    column = draw.randint(1, page.max_column)
    if draw.random() < 0.1:
        row, column = FAR
    value = draw.choice([v for v in VALUES if isinstance(v, int | float | str)])
    try:
        page.cell(row, column).value = value
        made = io.BytesIO()
        book.save(made)
    except (ValueError, OverflowError, IllegalCharacterError):  # of what no cell holds
        return raw
    return made.getvalue()


WITHIN: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".safetensors": _with_a_header,
    ".pth": _with_an_object,
    ".xlsx": _with_a_cell,
}
"""How one value is replaced in files that are no text, by the end of their name."""
