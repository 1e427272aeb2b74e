"""What a card may say of a served model: where it is, how it is asked, what it costs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from adem_bench.cards import check_options
from adem_bench.errors import CardError
from adem_bench.metrics.reasoning import DEFAULT_TAGS, ReasoningTags
from adem_bench.models.openai_api.keys import OPENAI_URL, OPENAI_VARIABLE, find_key
from adem_bench.schemas import ModelCard, Seconds, Strict

ENDPOINT = "/chat/completions"
PLACED = re.compile(r"(.+?)@(https?://.*)", re.DOTALL)


class ServedOptions(Strict):
    """The `options` of a card of kind `openai`."""

    source: str
    """`MODEL@URL`, or `MODEL` alone for OpenAI's own server."""
    key_variable: str = OPENAI_VARIABLE
    """Environment variable that holds the key; keys stand nowhere else. Another one than the
    default counts only if the command line names it."""
    insecure_key: bool = False
    """Whether the key may go over plain http to another machine; for the command line alone."""
    concurrency: int = Field(default=8, ge=1, le=256)
    """Requests in flight at a time."""
    timeout: Seconds = 120
    """Seconds that one attempt may take."""
    retries: int = Field(default=5, ge=0, le=1000)
    """Further attempts after a failed one."""
    backoff: Seconds = 1
    """Seconds before the first retry; each further one waits twice as long, more or less."""
    longest_wait: Seconds = 120
    """Most seconds between two attempts; a server that asks for more is not asked again."""
    system: str = ""
    """System message before every prompt."""
    reasoning_tags: ReasoningTags = DEFAULT_TAGS
    """What stands around reasoning, which is not read: names (`think` for `<think>`), or pairs of
    a start and an end with a blank between."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """How the server calls the limit on new tokens."""
    cut_answers: Literal["failed", "scored"] = "failed"
    """What an answer that ended at `max_new_tokens` is."""
    parameters: dict[str, Any] = Field(default={})
    """Further fields of the request; null leaves out one that is sent by default."""
    input_price: float | None = Field(default=None, ge=0)
    """Price of a million prompt tokens, in whatever currency."""
    output_price: float | None = Field(default=None, ge=0)
    """Price of a million new tokens."""

    def cost(self, prompt_tokens: int, answer_tokens: int) -> float | None:
        """Return the price of so many tokens; None where a price is missing."""
        if self.input_price is None or self.output_price is None:
            return None
        spent = prompt_tokens * self.input_price + answer_tokens * self.output_price
        return round(spent / 1e6, 6)


@dataclass(frozen=True, slots=True)
class Server:
    """The server to ask, and the key for it."""

    model: str
    url: str
    """Without `/chat/completions`."""
    key: str = ""
    """Empty for servers that need none."""

    def __repr__(self) -> str:
        """Leave the key out."""
        return f"Server({self.model!r}, {self.url!r})"


def read_options(card: ModelCard) -> ServedOptions:
    """Return a card's options.

    Raises:
        CardError: an option is unknown or wrong.
    """
    return check_options("model", card, ServedOptions)


def find_server(card: ModelCard, options: ServedOptions) -> Server:
    """Return the server that a card names, with the key out of the environment.

    Raises:
        CardError: the address is not valid or holds a password, or a key is missing or would go
            where it was not meant to go.
    """
    placed = PLACED.fullmatch(options.source)
    model, url = placed.groups() if placed else (options.source, OPENAI_URL)
    behind = model.rpartition("@")[2]
    if not placed and "@" in model and (":" in behind or behind == "localhost"):
        raise CardError(
            f"model {card.name}: {behind!r} is not an address; expected MODEL@http://HOST:PORT/v1"
        )
    address = _address(card, url)
    key = find_key(card, options.key_variable, address, options.insecure_key)
    return Server(model, address, key)


def _address(card: ModelCard, url: str) -> str:
    expected = "expected MODEL@http://HOST:PORT/v1"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise CardError(
            f"model {card.name}: the address is not a URL ({error}); {expected}"
        ) from error
    if "@" in parts.netloc or parts.query or parts.fragment:
        # Not repeated in the message: it may hold a password.
        raise CardError(
            f"model {card.name}: the address holds a user, a password or a query; keys come from "
            f"the environment alone (options.key_variable); {expected}"
        )
    if not host or re.search(r"\s", url):
        raise CardError(f"model {card.name}: {url!r} is not an address; {expected}")
    path = parts.path.rstrip("/").removesuffix(ENDPOINT) or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"
