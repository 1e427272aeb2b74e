"""Who may import whom, and what a quick command may not import at all."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {
    "torch", "torchvision", "transformers", "open_clip", "safetensors", "pandas", "numpy",
    "matplotlib", "PIL", "tensorboard", "huggingface_hub",
}  # fmt: skip
FOR_HELP = {"adem_bench", "click"}
SLOW_TO_IMPORT = {"importlib.metadata", "email", "zipfile", "asyncio", "multiprocessing"}
"""Of the standard library: modules that cost as much as a package."""
FOR_CARDS = FOR_HELP | {
    "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection",
    "yaml", "importlib.metadata", "email", "zipfile",
}  # fmt: skip
"""What `adem-bench` may import, besides the standard library, to answer at once. The last three are
what pydantic imports."""
OWN_FOR_CARDS = {
    "cards", "cli", "data", "digests", "entry_points", "errors", "files", "launcher", "listing",
    "memory_limit", "metrics", "misnamed", "models", "registry", "results", "schemas", "signals",
    "tasks", "yaml_text",
}  # fmt: skip
"""The package's own: no records, images or prompts. Of tasks and models only what is below."""
OWN_IN_LAYERS = {
    "data.paths", "metrics.reasoning", "models.places", "models.fused.card", "models.hf.settings",
    "models.fused", "models.hf", "results.aligned", "results.console", "tasks.harnesses",
}  # fmt: skip


def test_layers_import_one_way():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_architecture_lists_the_layers_of_the_contract():
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    layers = next(c["layers"] for c in linter["contracts"] if c.get("exhaustive"))
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    block = text.partition("## Layers")[2].partition("```text\n")[2].partition("```")[0]
    rows = [re.split(r" {2,}", row)[0] for row in block.splitlines()]
    named = [set(re.findall(r"\w+", re.sub(r"\([^)]*\)", "", row))) for row in rows]
    level = {name: place for place, layer in enumerate(layers) for name in layer.split(" | ")}
    places = [{level[name] for name in row} for row in named]
    assert set().union(*named) == set(level) - {"__main__"}
    assert places == sorted(places, key=max)


def imported(arguments: list[str], folder: Path) -> set[str]:
    """Run a command line in a process of its own; the packages that it has imported.

    Those of the standard library are left out but for `SLOW_TO_IMPORT`.
    """
    return {name.partition(":")[0] for name in loaded(arguments, folder)}


def loaded(arguments: list[str], folder: Path) -> set[str]:
    """As `imported`, and `adem_bench:a.b` for every module of the package's own."""
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from adem_bench.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        f"slow = {SLOW_TO_IMPORT} & set(sys.modules)\n"
        "own = {'adem_bench:' + n[11:] for n in sys.modules if n.startswith('adem_bench.')}\n"
        "print('imported:', *(names - sys.stdlib_module_names | slow | own))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    first, *names = done.stdout.splitlines()[-1].split()
    assert first == "imported:"
    # What compiled packages bring along is no package that one imports.
    return {name for name in names if not name.startswith("_") and name != "cython_runtime"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["run", "--help"],
        ["score", "--help"],
        ["leaderboard", "--help"],
        ["validate", "--help"],
        ["rerun", "--help"],
        ["ask", "--help"],
        ["demo", "--help"],
        ["models", "pull", "--help"],
        ["train", "--help"],
        ["convert", "--help"],
        ["convert", "adapter", "--help"],
        ["convert", "llama", "--help"],
        ["data", "mini", "--help"],
        ["data", "fetch", "--help"],
    ],
    ids=" ".join,
)
def test_help_imports_what_parses_the_command_line_alone(arguments, tmp_path):
    assert imported(arguments, tmp_path) == FOR_HELP


@pytest.mark.parametrize(
    "arguments",
    [
        ["models"],
        ["models", "show", "adem-7b"],
        ["models", "show", "hf:NAME"],
        ["models", "show", "openai:NAME@http://localhost:8000"],
        ["recipes"],
        ["tasks"],
    ],
    ids=" ".join,
)
def test_listings_import_what_reads_cards_alone(arguments, tmp_path):
    found = loaded(arguments, tmp_path)
    own = {name.partition(":")[2] for name in found if ":" in name}
    assert FOR_HELP < {name.partition(":")[0] for name in found} <= FOR_CARDS
    assert {name.partition(".")[0] for name in own} <= OWN_FOR_CARDS
    assert {name for name in own if "." in name and not name.startswith("cli.")} <= OWN_IN_LAYERS


def test_frames_in_python_need_no_torch(tmp_path):
    (tmp_path / "results").mkdir()
    code = (
        "import adem_bench, sys; adem_bench.runs(); adem_bench.leaderboard(); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "pandas" in done.stdout.split()
    assert not {"torch", "transformers", "matplotlib"} & set(done.stdout.split())


def test_leaderboards_and_published_figures_need_nothing_heavy(tmp_path):
    (tmp_path / "results").mkdir()
    assert FOR_HELP < imported(["leaderboard", "--published"], tmp_path) <= FOR_CARDS
