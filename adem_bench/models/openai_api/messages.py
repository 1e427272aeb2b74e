"""Requests in the words of the chat-completions interface, and what its answers say."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adem_bench.digests import digest
from adem_bench.images import open_rgb
from adem_bench.models.openai_api.settings import ServedOptions
from adem_bench.records import Request

MEDIA_TYPES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png"}
"""First bytes of the formats that every server reads; other images are sent as PNG."""
MAX_CHARACTERS = 300
"""Of a server's own text, what is kept."""


class MalformedError(Exception):
    """An answer that is not what the interface promises."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer."""

    text: str
    tokens: tuple[int, int] | None
    """Of prompt and answer, if the server counts them."""
    model: str
    """The model that the server says has answered."""


def request_body(model: str, request: Request, options: ServedOptions) -> dict[str, Any]:
    """Return the JSON of a request: images first, then the prompt.

    Args:
        model: Its name on the server.
        request: Prompt, images and limit on new tokens.
        options: The card's.

    Raises:
        UnreadableImageError: an image is missing, broken or absurdly large.
    """
    pictures: list[Any] = [
        {"type": "image_url", "image_url": {"url": data_uri(path)}} for path in request.images
    ]
    words = [{"type": "text", "text": request.prompt}]
    # Text alone goes as text: servers of language models without images know nothing else.
    content: Any = [*pictures, *words] if pictures else request.prompt
    system = [{"role": "system", "content": options.system}] if options.system else []
    fields = {
        "model": model,
        "messages": [*system, {"role": "user", "content": content}],
        options.max_tokens_field: request.max_new_tokens,
        "temperature": 0,
        **options.parameters,
        **_decoding(request),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _decoding(request: Request) -> dict[str, Any]:
    """Return the fields of a request that says how tokens are chosen."""
    decoding = request.decoding
    if decoding.temperature is None:
        return {}
    fields: dict[str, Any] = {"temperature": decoding.temperature}
    if decoding.samples:
        # A seed for each request: one for all would draw alike questions alike.
        fields["seed"] = int(digest([decoding.seed, request.digest()])[:8], 16) >> 1
        if decoding.top_p is not None:
            fields["top_p"] = decoding.top_p
    return fields


def data_uri(path: Path) -> str:
    """Return an image file as a `data:` URI, in its own bytes where servers read those.

    Raises:
        UnreadableImageError: it cannot be read to its end.
    """
    image = open_rgb(path)
    raw = path.read_bytes()
    media_type = next((t for start, t in MEDIA_TYPES.items() if raw.startswith(start)), "")
    if not media_type:
        stream = io.BytesIO()
        image.save(stream, "PNG")
        media_type, raw = "image/png", stream.getvalue()
    return f"data:{media_type};base64,{base64.b64encode(raw).decode()}"


def read_answer(raw: bytes) -> Answer:
    """Return what a server answered.

    Raises:
        MalformedError: it is not JSON, or has no choice with text.
    """
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedError("the answer is not JSON") from error
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise MalformedError("the answer has no choice")
    message = choices[0].get("message")
    found = message if isinstance(message, dict) else {}
    text = found.get("content")
    if not isinstance(text, str):
        text = found.get("refusal")
    if not isinstance(text, str):
        reason = clean(str(choices[0].get("finish_reason")))
        raise MalformedError(f"the answer's choice has no text (finish_reason {reason})")
    return Answer(_whole(text), _tokens(answer.get("usage")), clean(str(answer.get("model", ""))))


def error_text(raw: bytes) -> str:
    """Return a server's own words about a request that it refuses, in a line."""
    try:
        found = json.loads(raw)
        error = found.get("error", found)
        words = error if isinstance(error, str) else error.get("message") or error.get("detail")
    except (ValueError, RecursionError, AttributeError):
        words = raw[: 4 * MAX_CHARACTERS].decode(errors="replace")
    return clean(str(words or ""))


def clean(text: str) -> str:
    """Return foreign text as one line of bounded length."""
    return " ".join(_whole(text).split())[:MAX_CHARACTERS]


def _whole(text: str) -> str:
    """Return text without halves of characters, which JSON can hold and no file can."""
    return text.encode("utf-8", "replace").decode()


def _tokens(usage: Any) -> tuple[int, int] | None:
    found: Mapping[str, Any] = usage if isinstance(usage, dict) else {}
    counts = (found.get("prompt_tokens"), found.get("completion_tokens"))
    prompt, answer = (n if type(n) is int and 0 <= n < 1 << 40 else None for n in counts)
    return None if prompt is None or answer is None else (prompt, answer)
