"""Requests in the words of the chat-completions interface."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from adem_bench.digests import digest
from adem_bench.images import common_form
from adem_bench.models.openai_api.settings import ServedOptions
from adem_bench.prompts import whole
from adem_bench.records import Part, Request

MOST_STOPS = 4
"""Stop strings that servers take; answers are cut at any further ones all the same."""


def request_body(model: str, request: Request, options: ServedOptions) -> dict[str, Any]:
    """Return the JSON of a request.

    Args:
        model: Its name on the server.
        request: What is asked: its parts in order, or else images first, then the prompt.
        options: The card's.

    Raises:
        UnreadableImageError: an image is missing, broken or absurdly large.
    """
    images = tuple(Part(image=index) for index in range(len(request.images)))
    asked = request.parts or (*images, Part(request.prompt))
    system = (Part(options.system, role="system"),) if options.system else ()
    fields = {
        "model": model,
        "messages": _messages((*system, *asked), request.images),
        options.max_tokens_field: request.max_new_tokens,
        "temperature": 0,
        "stop": list(request.stop[:MOST_STOPS]) or None,
        **options.parameters,
        **_decoding(request),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _messages(parts: Iterable[Part], images: Sequence[Path]) -> list[dict[str, Any]]:
    """Return one message for each stretch of parts in the same role.

    Args:
        parts: In order.
        images: Of the request, which parts name by their places.
    """
    messages = []
    for role, stretch in groupby(parts, key=lambda part: part.role):
        content = [_content(part, images) for part in stretch]
        words = [piece["text"] for piece in content if piece["type"] == "text"]
        # Text alone goes as text: servers of language models without images know nothing else.
        is_text = len(words) == len(content)
        messages.append({"role": role, "content": "".join(words) if is_text else content})
    return messages


def _content(part: Part, images: Sequence[Path]) -> dict[str, Any]:
    if part.image is None:
        return {"type": "text", "text": whole(part.text)}
    return {"type": "image_url", "image_url": {"url": data_uri(images[part.image])}}


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
    """Return an image file as a `data:` URI, in its own bytes where all servers read those alike.

    Raises:
        UnreadableImageError: it cannot be read to its end.
    """
    form = common_form(path)
    return f"data:{form.media_type};base64,{base64.b64encode(form.data).decode()}"
