"""What a GPU does with models of 7B and 13B: adem-bench next to the published loops.

    python benchmarks/gpu.py [--shapes 7B,13B] [--dtypes float16,bfloat16] [--log FILE]
    python benchmarks/gpu.py --shapes toy --device cpu --samples 4

Weights are random and made on the device, so no file is needed. Measured are, for each shape and
precision: the three workloads of `workloads.py` and a training step, by the published loop and by
adem-bench; a prompt's share of the measured matrix rate and a new token's share of the measured
bandwidth; `hf:` at LLaVA-1.5's shape next to transformers' generate, one request at a time; peak
memory; and how many answers are those of the same weights computed in float32.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from device_model import SHAPES, Shape, in_float32, made_model, published_weights, renewed
from published_loop import PublishedLoop
from speed import WORKLOADS, run_ours

from adem_bench.models.device import name_of, pick_device
from adem_bench.models.fused.generation import generate
from adem_bench.models.fused.model import FusedModel
from adem_bench.models.fused.network import FusedNetwork
from adem_bench.models.fused.sequence import PromptRow
from adem_bench.models.fused.vision import vision_tower
from adem_bench.records import Request
from adem_bench.runner.manifest import versions

PARTS = ("rates", "workloads", "float32", "training", "hf")
PROMPT_TOKENS = 256
DECODE_ROWS = (1, 8, 64)
DECODE_PROMPT = 64
DECODE_STEPS = 16


def main() -> None:
    """Measure everything that is asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default="7B,13B", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--dtypes", default="float16,bfloat16")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--samples", type=int, default=512, help="answered by adem-bench")
    parser.add_argument("--published-samples", type=int, default=32, help="by the published loop")
    parser.add_argument("--log", type=Path, help="JSON-lines file to add the figures to")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    parts = arguments.parts.split(",")
    for name in arguments.shapes.split(","):
        for dtype in arguments.dtypes.split(","):
            about = {
                "date": date.today().isoformat(), "benchmark": "gpu", "shape": name,
                "dtype": dtype, "device": name_of(device), "torch": torch.__version__,
                "transformers": versions()["transformers"],
            }  # fmt: skip
            for row in measured(SHAPES[name], dtype, device, parts, arguments):
                print(" ".join(f"{key}={_shown(value)}" for key, value in row.items()), flush=True)
                if arguments.log:
                    with arguments.log.open("a") as log:
                        log.write(json.dumps({**about, **row}) + "\n")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def measured(
    shape: Shape, dtype: str, device: torch.device, parts: Sequence[str], arguments: Any
) -> Iterator[dict[str, Any]]:
    """Yield the figures of one shape in one precision, a dictionary for each line of the table.

    Args:
        shape: Of the model.
        dtype: Of its weights.
        device: Where it is.
        parts: What is measured.
        arguments: Of the command line.
    """
    precision: torch.dtype = getattr(torch, dtype)
    machine = machine_rates(precision, device, small=shape.name == "toy")
    yield {"measured": "machine", "shape": shape.name, "dtype": dtype, **machine}
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        folder = Path(name)
        model = made_model(shape, dtype, str(device), folder)
        if "rates" in parts:
            yield from rates(model, machine)
        if {"workloads", "float32"} & set(parts):
            yield from answers(model, folder, parts, arguments)
        del model
        collect(device)
    if "training" in parts:
        from gpu_training import training

        yield from training(shape, dtype, device, arguments.samples)
        collect(device)
    if "hf" in parts:
        from gpu_hf import transformers_model

        yield from transformers_model(shape, dtype, device, arguments)
        collect(device)


def machine_rates(dtype: torch.dtype, device: torch.device, small: bool) -> dict[str, float]:
    """Return the rate of a large matrix product and the bandwidth of a large copy.

    Args:
        dtype: Of the numbers.
        device: Where they are.
        small: Whether to use small ones, to try the code.
    """
    side, count = (256, 1 << 20) if small else (8192, 1 << 31)
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = timed(lambda: left @ right, device)
    source = torch.randint(0, 255, (count,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = timed(lambda: target.copy_(source), device)
    return {"tflops": 2 * side**3 / seconds / 1e12, "gbytes_per_s": 2 * count / copied / 1e9}


def rates(model: FusedModel, machine: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Yield what share of the machine's rates a prompt and a new token reach.

    Args:
        model: The model.
        machine: From `machine_rates`.
    """
    decoder, device = model.weights.decoder, model.weights.decoder.device
    config = decoder.llama.config
    width, layers = config.hidden_size, config.num_hidden_layers
    layer_weights = sum(p.numel() for p in decoder.llama.model.layers[0].parameters())
    head_weights = decoder.llama.lm_head.weight.numel()
    with torch.inference_mode():
        for slots_from_image in (False, True):
            tokens = model.budget().tokens
            prompt = min(PROMPT_TOKENS, tokens)
            rows = max(1, min(tokens // prompt, model.budget().rows))
            memory = memory_of(model, rows if slots_from_image else 1)
            slots = memory.keys.shape[1]
            embeds = torch.randn(rows, prompt, width, device=device).to(decoder.dtype)
            last = torch.full((rows, 1), prompt - 1, device=device)
            seconds = timed(partial(decoder, embeds, memory, None, last), device)
            operations = rows * prompt * layers * (2 * layer_weights + 4 * slots * width)
            operations += 2 * rows * prompt**2 * width * layers
            yield {
                "measured": "prompt", "image": slots_from_image, "rows": rows, "tokens": prompt,
                "ms": seconds * 1e3, "tflops": operations / seconds / 1e12,
                "share": operations / seconds / 1e12 / machine["tflops"],
            }  # fmt: skip
        for rows in DECODE_ROWS:
            memory = memory_of(model, rows)
            seconds = step_seconds(model, rows, memory)
            size = decoder.dtype.itemsize
            read = (layers * layer_weights + head_weights) * size
            read += layers * (memory.keys.nbytes + memory.values.nbytes)
            read += layers * rows * 2 * DECODE_PROMPT * width * size
            yield {
                "measured": "new token", "rows": rows, "ms": seconds * 1e3,
                "gbytes_per_s": read / seconds / 1e9,
                "share": read / seconds / 1e9 / machine["gbytes_per_s"],
            }  # fmt: skip


def memory_of(model: FusedModel, rows: int) -> Any:
    """Return random visual memory with an entry for each row; one entry is that of no image."""
    weights = model.weights
    if rows == 1:
        return weights.no_image_memory
    keys = weights.no_image_memory.keys
    shape = (rows, *keys.shape[1:])
    keys, values = (torch.randn(shape, device=keys.device).to(keys.dtype) for _ in range(2))
    return type(weights.no_image_memory)(keys=keys, values=values)


def step_seconds(model: FusedModel, rows: int, memory: Any) -> float:
    """Return the seconds that one more token takes for `rows` rows."""
    prompts = [PromptRow([1, *range(5, 4 + DECODE_PROMPT)], None) for _ in range(rows)]
    decoder = model.weights.decoder

    def run(tokens: int) -> float:
        return timed(lambda: generate(decoder, prompts, memory, tokens, (-1,)), decoder.device)

    return (run(1 + DECODE_STEPS) - run(1)) / DECODE_STEPS


def answers(
    model: FusedModel, folder: Path, parts: Sequence[str], arguments: Any
) -> Iterator[dict[str, Any]]:
    """Yield samples per second of the workloads, and how many answers are those of float32.

    Args:
        model: The model.
        folder: For images.
        parts: What is measured.
        arguments: Of the command line.
    """
    frozen, method = model._frozen, model.weights.method
    device, tokenizer, llama = frozen.device, frozen.tokenizer, frozen.llama
    network = FusedNetwork(vision_tower(frozen.visual), method, llama)
    published = PublishedLoop(network, published_weights(llama), tokenizer, max_rows=4)
    few = arguments.published_samples
    kept: dict[str, tuple[list[Request], list[str], list[str]]] = {}
    for make, batch_size in WORKLOADS:
        requests = make(folder, arguments.samples, tokenizer)
        answer = partial(published.answer, batch_size=batch_size)
        answer(requests[:batch_size])  # warms up
        seconds, memory, theirs = watched(partial(answer, requests[:few]), device)
        run_ours(model, requests[-64:])
        model = renewed(model)
        our_seconds, our_memory, ours = watched(partial(run_ours, model, requests), device)
        kept[make.__name__] = (requests[:few], theirs, ours[:few])
        yield {
            "measured": make.__name__, "samples": len(requests), "published_samples": few,
            "published_per_s": few / seconds, "adem_bench_per_s": len(requests) / our_seconds,
            "times": len(requests) / our_seconds / (few / seconds),
            "published_gib": memory, "adem_bench_gib": our_memory,
            "same_as_published": share_of_equal(theirs, ours[:few]),
        }  # fmt: skip
    del published, answer
    if "float32" in parts:
        exact = in_float32(model)
        for name, (requests, theirs, ours) in kept.items():
            texts = run_ours(exact, requests)
            yield {
                "measured": f"{name} as in float32", "samples": len(requests),
                "published": share_of_equal(theirs, texts),
                "adem_bench": share_of_equal(ours, texts),
                "published_first_token": share_of_equal(*map(first_tokens, (theirs, texts))),
                "adem_bench_first_token": share_of_equal(*map(first_tokens, (ours, texts))),
            }  # fmt: skip


def share_of_equal(first: Sequence[str], second: Sequence[str]) -> float:
    """Return the share of texts that are the same in both."""
    return sum(a == b for a, b in zip(first, second, strict=True)) / len(first)


def first_tokens(texts: Sequence[str]) -> list[str]:
    """Return the first token of each text of numbers."""
    return [text.split(" ")[0] for text in texts]


def timed(run: Callable[[], Any], device: torch.device, rounds: int = 5) -> float:
    """Return the median seconds of a call, the device's work included, after two that warm up."""
    run(), run()
    seconds = []
    for _ in range(rounds):
        synchronize(device)
        started = time.perf_counter()
        run()
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def watched(run: Callable[[], Any], device: torch.device) -> tuple[float, float, Any]:
    """Return the seconds of one call, the most GiB of tensors in it, and what it returned."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    synchronize(device)
    started = time.perf_counter()
    found = run()
    synchronize(device)
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return seconds, peak / 2**30, found


def synchronize(device: torch.device) -> None:
    """Wait for what the device has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def collect(device: torch.device) -> None:
    """Give memory back that nothing uses any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
