"""The language model: a small LLaMA trained on the mini world's text alone.

It learns to answer from a description in words; the adapter later puts the image in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from adem_bench.models.fused.tokenizer import SentencePieceTokenizer
from adem_tiny.log import Log, warm_cosine
from adem_tiny.texts import Row
from adem_tiny.tokenizer import RESPONSE

PROMPT_WEIGHT = 0.1
"""Prompts are mostly chance: learning them matters less than learning to answer."""

CLOSED = ("mme", "sqa", "checks", "choices")
"""Kinds of rows whose answers are a yes, a no or a letter: only those count in full."""


@dataclass(frozen=True, slots=True)
class LanguageRecipe:
    """Sizes and training of the language model."""

    width: int = 192
    layers: int = 6
    heads: int = 6
    feed_forward: int = 512
    steps: int = 1600
    batch: int = 64
    rate: float = 2e-3
    warm_up: int = 100


@dataclass(frozen=True, slots=True)
class Tokens:
    """One row as ids with a loss weight for each."""

    ids: list[int]
    weights: list[float]
    answer_at: int


def tokenize(row: Row, tokenizer: SentencePieceTokenizer) -> Tokens:
    """Return BOS, context, prompt, answer, EOS; what was asked for counts in full."""
    start = [tokenizer.bos_id, *tokenizer.encode(row.context)]
    ids = [*start, *tokenizer.encode(row.prompt + row.answer), tokenizer.eos_id]
    answer_at = len(start) + len(tokenizer.encode(row.prompt))
    if row.kind in CLOSED:
        weights = [PROMPT_WEIGHT] * len(ids)
        answers = {tokenizer.encode(RESPONSE + word)[-1] for word in ("Yes", "No")}
        # The first piece is the blank that SentencePiece puts before any text.
        stem = tokenizer.encode(f"{RESPONSE}The answer is")[1:]
        for index, token in enumerate(ids):
            if token in answers or ids[index - len(stem) : index] == stem:
                weights[index] = 1.0
    else:
        weights = [PROMPT_WEIGHT] * answer_at + [1.0] * (len(ids) - answer_at)
    return Tokens(ids, weights, answer_at)


def new_language_model(recipe: LanguageRecipe, vocabulary: int) -> LlamaForCausalLM:
    """Return an untrained model; token ids as in the published LLaMA."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.width,
        intermediate_size=recipe.feed_forward,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=512,
        rms_norm_eps=1e-6,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=None,
        tie_word_embeddings=False,
        # Near 1 / sqrt(width): with the usual 0.02, attention stays flat for hundreds of steps.
        initializer_range=0.06,
    )
    # Fused attention's backward pass takes three times as long for rows as short as these.
    config._attn_implementation = "eager"
    return LlamaForCausalLM(config)


def train_language_model(
    model: LlamaForCausalLM,
    rows: Sequence[Row],
    held_out: Sequence[Row],
    tokenizer: SentencePieceTokenizer,
    recipe: LanguageRecipe,
    log: Log,
) -> None:
    """Train on rows and log the share of held-out answers that are right.

    Args:
        model: Changed in place.
        rows: To train on.
        held_out: To measure accuracy on.
        tokenizer: Of the model.
        recipe: Steps, batch size and rate.
        log: Gets losses and accuracies.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.rate, betas=(0.9, 0.95), weight_decay=0.05
    )
    tokens = [tokenize(row, tokenizer) for row in rows]
    batches = _batches(tokens, recipe.batch)
    model.train()
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * warm_cosine(step, recipe.steps, recipe.warm_up)
        loss = _loss(model, next(batches))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 25 == 0 or step == recipe.steps - 1:
            log.write(step=step, loss=round(loss.item(), 4))
        if step % 125 == 124 or step == recipe.steps - 1:
            log.write(step=step, **held_out_accuracy(model, held_out, tokenizer))
    model.eval()


def load_trained(folder: Path) -> LlamaForCausalLM:
    """Return a saved model in float32, to train on."""
    return LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )


def save_language_model(model: LlamaForCausalLM, folder: Path) -> None:
    """Write config.json and float16 safetensors."""
    model.to(torch.float16).save_pretrained(folder)


@torch.inference_mode()
def held_out_accuracy(
    model: LlamaForCausalLM, rows: Sequence[Row], tokenizer: SentencePieceTokenizer
) -> dict[str, float]:
    """Return, for each kind of row, the share of right tokens among those that count in full.

    Args:
        model: A LlamaForCausalLM.
        rows: Of the kinds that are compared.
        tokenizer: Of the model.
    """
    model.eval()
    right: dict[str, list[float]] = {}
    for start in range(0, len(rows), 100):
        some = rows[start : start + 100]
        tokens = [tokenize(row, tokenizer) for row in some]
        ids, _ = _pad(tokens)
        guesses = model(ids).logits.argmax(dim=-1)
        for index, (row, token) in enumerate(zip(some, tokens, strict=True)):
            span = slice(token.answer_at, len(token.ids))
            same = guesses[index, span.start - 1 : span.stop - 1] == ids[index, span]
            same = same[torch.tensor(token.weights[span]) == 1]
            right.setdefault(row.kind, []).append(same.float().mean().item())
    model.train()
    return {kind: round(sum(values) / len(values), 4) for kind, values in sorted(right.items())}


def _loss(model: LlamaForCausalLM, batch: tuple[Tensor, Tensor]) -> Tensor:
    ids, weights = batch
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids).logits
    losses = F.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    weight = weights[:, 1:].flatten()
    return (losses * weight).sum() / weight.sum()


def _batches(tokens: Sequence[Tokens], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of like length for ever, in a new order each time round."""
    pool = 16 * size
    while True:
        order = torch.randperm(len(tokens)).tolist()
        for start in range(0, len(order) - pool + 1, pool):
            some = sorted(order[start : start + pool], key=lambda index: len(tokens[index].ids))
            for batch in torch.randperm(16).tolist():
                yield _pad([tokens[i] for i in some[batch * size : (batch + 1) * size]])


def _pad(tokens: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
    longest = max(len(token.ids) for token in tokens)
    ids = torch.zeros(len(tokens), longest, dtype=torch.long)
    weights = torch.zeros(len(tokens), longest)
    for index, token in enumerate(tokens):
        ids[index, : len(token.ids)] = torch.tensor(token.ids)
        weights[index, : len(token.weights)] = torch.tensor(token.weights)
    return ids, weights
