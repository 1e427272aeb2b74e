"""Memory, processor time and rounding of quantized frozen weights on the CPU.

    python benchmarks/quantization.py [--width 4096] [--layers 2] [--log benchmarks/log.jsonl]

A LLaMA with random weights, saved in float16 as the hub has them, is loaded without adapter and
computed in float32, each variant in a process of its own. Time is the processor's, so that other
processes on the machine count little. The error is of final hidden states of one prompt, next to
those of the weights as they are.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
import yaml

VARIANTS = ("none", "int8-cpu", "bnb-8bit", "bnb-4bit")
PROMPT, NEW = 64, 8
REFERENCE = "reference.pt"
TOKENIZER = Path(__file__).parents[1] / "tests/fixtures/parity/weights/tokenizer.model"
VOCABULARY = 600


def main() -> None:
    """Measure every variant and print a table, or (`--variant`) be one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--log", type=Path, help="JSON-lines file to add the figures to")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        print(json.dumps(run(arguments)))
        return
    with tempfile.TemporaryDirectory() as name:
        write_model(Path(name), arguments.width, arguments.layers)
        rows = [measure(variant, Path(name), arguments) for variant in VARIANTS]
    print(f"{'variant':10}{'weights':>9}{'peak':>10}{'prompt':>9}{'1 row':>9}{'8 rows':>9}  error")
    for row in rows:
        print(
            f"{row['variant']:10}{row['weight_bytes'] / 2**20:>5.0f} MiB"
            f"{row['peak_bytes'] / 2**20:>6.0f} MiB{row['prompt_seconds']:>8.2f}s"
            f"{row['step_seconds_1'] * 1e3:>6.0f} ms{row['step_seconds_8'] * 1e3:>6.0f} ms"
            f"  {row['error']:.4f}"
        )
    if arguments.log:
        with arguments.log.open("a") as log:
            log.writelines(json.dumps(row) + "\n" for row in rows)


def write_model(folder: Path, width: int, layers: int) -> None:
    """Write a random LLaMA in Hugging Face's layout, and a card that names it.

    Args:
        folder: Where to.
        width: Of the hidden states; heads are 128 wide.
        layers: Decoder layers.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 128,
        intermediate_size=43 * width // 16, vocab_size=VOCABULARY,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.float16).save_pretrained(folder / "llama")
    shutil.copy(TOKENIZER, folder / "llama")
    card = {"language_model": {"path": "llama"}, "adapter": "none", "dtype": "float32"}
    (folder / "plain.yaml").write_text(yaml.safe_dump(card))


def measure(variant: str, folder: Path, arguments: argparse.Namespace) -> dict:
    """Return what one process of a variant measured.

    Args:
        variant: One of VARIANTS; `none` comes first and leaves what the others are held against.
        folder: With the model's files.
        arguments: Of the command line.
    """
    from adem_bench.runner.manifest import hardware, versions

    command = [sys.executable, __file__, "--variant", variant, "--folder", folder]
    command += ["--rounds", arguments.rounds]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return {
        "date": date.today().isoformat(),
        "benchmark": "quantization",
        "variant": variant,
        "width": arguments.width,
        "layers": arguments.layers,
        "rounds": arguments.rounds,
        **json.loads(done.stdout.splitlines()[-1]),
        "versions": {n: v for n, v in versions().items() if n in ("torch", "bitsandbytes")},
        "cpu": hardware()["cpu"],
        "threads": hardware()["threads"],
    }


def run(arguments: argparse.Namespace) -> dict:
    """Load one variant; return its memory, the processor's time and the error."""
    from adem_bench.cards import load_model_card
    from adem_bench.models.base import ModelOptions
    from adem_bench.models.fused.decoder import FusedDecoder, KeyValueCache
    from adem_bench.models.fused.model import FusedModel

    before = memory()
    settings = [f"quantization={arguments.variant}"]
    card = load_model_card(str(arguments.folder / "plain.yaml"), settings)
    model = FusedModel(card, ModelOptions("cpu"))
    loaded, peak = memory() - before, peak_memory()
    model.load_adapter_for("any", "any")
    decoder: FusedDecoder = model.weights.decoder
    nothing = model.weights.no_image_memory
    ids = torch.arange(PROMPT)[None] % VOCABULARY

    def steps(rows: int) -> float:
        """Return the time of one new token for each of some rows."""
        cache = KeyValueCache(len(decoder.layers), [PROMPT] * rows, PROMPT + NEW, decoder.device)
        decoder(decoder.embed(ids.expand(rows, -1)), nothing, cache)
        token = decoder.embed(ids[:, :1].expand(rows, -1))
        return seconds(lambda: [decoder.step(token, nothing, cache) for _ in range(NEW)]) / NEW

    with torch.inference_mode():
        hidden = decoder(decoder.embed(ids), nothing)
        file = arguments.folder / REFERENCE
        if arguments.variant == "none":
            torch.save(hidden.clone(), file)
        expected = torch.load(file)
        rounds = range(arguments.rounds)
        found = {
            "prompt_seconds": statistics.median(
                seconds(lambda: decoder(decoder.embed(ids), nothing)) for _ in rounds
            ),
            "step_seconds_1": statistics.median(steps(1) for _ in rounds),
            "step_seconds_8": statistics.median(steps(8) for _ in rounds),
        }
    error = float((hidden - expected).norm() / expected.norm())
    return {"weight_bytes": loaded, "peak_bytes": peak - before, **found, "error": error}


def seconds(call: Callable[[], object]) -> float:
    """Return the processor's time of a call, over all threads."""
    started = time.process_time()
    call()
    return time.process_time() - started


def memory() -> int:
    """Return this process's memory in bytes, files that are mapped left out."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def peak_memory() -> int:
    """Return the most memory so far, mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
